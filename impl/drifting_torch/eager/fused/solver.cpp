// The loss of a feature between its samples and its gradient, group by group (A.6).
//
// A group (a label and a vector) is taken through as much as its numbers allow while they are in
// cache: from its samples to its distances, whose mean over all groups is S, and from those to its
// drifts, whose mean square is lambda. Every function says in `served` which groups it took; the
// others are PyTorch's operators'.
// No header of PyTorch: a plain C interface for ctypes. Must not be compiled with -ffast-math:
// infinities, and not-a-numbers that have to arrive, are told apart from numbers here.

#include "affinities.hpp"
#include "distances.hpp"
#include "gram.hpp"

namespace drifting {

template <typename Number>
void measure(const Feature& feature, const Distances& call) {
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    Measuring<Number> measuring(feature, call);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < feature.groups; ++group)
      call.served[group] = measuring.solve(group);
  }
}

// Coefficients of groups one after the other, given as distances alone.
template <typename Number, typename Powers>
void fill(const Affinities& call, Number* out) {
  const std::int64_t columns = call.columns, block = call.rows * columns;
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    Weighing<Number, Powers> weighing(call);
    Buffer<Number> row(call.temperatures * weighing.width());
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < call.groups; ++group) {
      Outcome outcome = weighing.prepare(group);
      for (std::int64_t n = 0; outcome != kNotServed && n < call.rows; ++n) {
        if (!weighing.coefficients(n, row.data(), weighing.width())) outcome = kNotServed;
        for (std::int64_t t = 0; t < call.temperatures; ++t)
          std::memcpy(out + (group * call.temperatures + call.places[t]) * block + n * columns,
                      row.data() + t * weighing.width(), sizeof(Number) * columns);
      }
      call.served[group] = outcome;
    }
  }
}

struct Drifts {
  void* const* values;  // [T] of [L*V, N, C]: every temperature's drift
  double* energy;       // [T, L*V]: its squares, summed
};

// One group's drifts: affinities of some rows at a time are multiplied with the targets while both
// are in cache.
template <typename Number, typename Powers>
class Drifting {
 public:
  Drifting(const Feature& feature, const Affinities& call, const Drifts& drifts)
      : feature_(feature),
        call_(call),
        drifts_(drifts),
        stride_(row_stride<Number>(feature.channels)),
        width_(padded<Number>(feature.channels)),
        gathering_(feature),
        weighing_(call),
        targets_(call.columns * stride_),
        affinities_(kTileRows * call.temperatures * weighing_.width()),
        ratio_(kTileRows * call.temperatures),
        factor_(kTileRows * call.temperatures),
        products_(kTileRows * call.temperatures * width_) {}

  Outcome solve(std::int64_t group) {
    Outcome outcome = weighing_.prepare(group);
    if (outcome == kNotServed) return outcome;
    gathering_.group(group, targets_.data(), stride_);
    gathering_.look_ahead(group + 1);
    const std::int64_t width = weighing_.width(), channels = feature_.channels;
    double energy[Powers::kMost] = {};
    for (std::int64_t begin = 0; begin < call_.rows; begin += kTileRows) {
      const std::int64_t count = std::min<std::int64_t>(kTileRows, call_.rows - begin);
      for (std::int64_t r = 0; r < count; ++r)
        if (!weighing_.row(begin + r, affinities_.data() + r * width, count * width,
                           ratio_.data() + r, factor_.data() + r, count))
          return kNotServed;
      multiply<Number>(count * call_.temperatures, width_,
                       {call_.columns, affinities_.data(), width, targets_.data(), stride_,
                        products_.data(), width_, false,
                        {call_.positives, ratio_.data(), factor_.data()}});
      for (std::int64_t t = 0; t < call_.temperatures; ++t)
        energy[t] += keep(products_.data() + t * count * width_, count,
                          static_cast<Number*>(drifts_.values[call_.places[t]]) +
                              (group * call_.rows + begin) * channels);
    }
    for (std::int64_t t = 0; t < call_.temperatures; ++t)
      drifts_.energy[call_.places[t] * feature_.groups + group] = energy[t];
    return outcome;
  }

 private:
  // Copies rows, and returns the sum of their squares.
  double keep(const Number* from, std::int64_t rows, Number* into) const {
    const std::int64_t channels = feature_.channels;
    if (width_ == channels) std::memcpy(into, from, sizeof(Number) * rows * channels);
    else
      for (std::int64_t r = 0; r < rows; ++r)
        std::memcpy(into + r * channels, from + r * width_, sizeof(Number) * channels);
    return squares_of(rows * width_, from);  // what pads a row is zero
  }

  const Feature& feature_;
  const Affinities& call_;
  const Drifts& drifts_;
  const std::int64_t stride_, width_;
  Gathering<Number> gathering_;
  Weighing<Number, Powers> weighing_;
  Buffer<Number> targets_, affinities_, ratio_, factor_, products_;
};

template <typename Number, typename Powers>
void drift(const Feature& feature, const Affinities& call, const Drifts& drifts) {
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    Drifting<Number, Powers> drifting(feature, call, drifts);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < feature.groups; ++group)
      call.served[group] = drifting.solve(group);
  }
}

// Sums of drifts [T] of [L*V, N, C] times factors [T, L*V], in the place of the first drift.
struct Sum {
  std::int64_t groups, entries, temperatures, threads;  // L*V, N*C, T
  void* const* values;
  const double* factors;
  double* squares;  // [L*V]: squares of the sums, summed
};

template <typename Number>
void sum(const Sum& call) {
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1)
  for (std::int64_t group = 0; group < call.groups; ++group) {
    Number* into = static_cast<Number*>(call.values[0]) + group * call.entries;
    double squares = 0;
    constexpr std::int64_t kBlock = 1024;  // entries that stay in the first cache
    for (std::int64_t begin = 0; begin < call.entries; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, call.entries);
      for (std::int64_t t = 0; t < call.temperatures; ++t) {
        const Number* from = static_cast<const Number*>(call.values[t]) + group * call.entries;
        const Number factor = Number(call.factors[t * call.groups + group]);
        for (std::int64_t at = begin; at < end; ++at)
          into[at] = t == 0 ? into[at] * factor : into[at] + from[at] * factor;
      }
      squares += squares_of(end - begin, into + begin);
    }
    call.squares[group] = squares;
  }
}

// Products of coefficients [B, N, M] and targets [B, M, C], whose channels are whole vectors.
struct Product {
  std::int64_t groups, rows, inner, columns, threads;  // B, N, M, C
  std::int64_t of_group, of_row;          // strides of the targets
  std::int64_t out_of_group, out_of_row;  // and of what comes out
  const void *coefficients, *targets;
  void* out;
};

template <typename Number>
void product(const Product& call) {
  constexpr std::int64_t kWidth = 8 * kPanel<Number>;  // columns that one thread takes at a time
  const std::int64_t parts = (call.columns - 1) / kWidth + 1;
#pragma omp parallel for schedule(static) num_threads(call.threads) if (call.threads > 1)
  for (std::int64_t part = 0; part < call.groups * parts; ++part) {
    const std::int64_t group = part / parts, first = part % parts * kWidth;
    const Number* coefficients = static_cast<const Number*>(call.coefficients);
    const Number* targets = static_cast<const Number*>(call.targets);
    Number* out = static_cast<Number*>(call.out);
    multiply<Number>(call.rows, std::min(kWidth, call.columns - first),
                     {call.inner, coefficients + group * call.rows * call.inner, call.inner,
                      targets + group * call.of_group + first, call.of_row,
                      out + group * call.out_of_group + first, call.out_of_row});
  }
}

bool of_paper(const Affinities& call) {
  return call.temperatures == 3 && call.powers[0] == 1 && call.powers[1] == 4 &&
         call.powers[2] == 10;
}

template <typename Number>
void drift_at(const Feature& feature, const Affinities& call, const Drifts& drifts) {
  of_paper(call) ? drift<Number, PaperPowers>(feature, call, drifts)
                 : drift<Number, AnyPowers>(feature, call, drifts);
}

template <typename Number>
void trace_at(const Affinities& call, const Traces& traces) {
  of_paper(call) ? trace<Number, PaperPowers>(call, traces)
                 : trace<Number, AnyPowers>(call, traces);
}

template <typename Number>
void fill_at(const Affinities& call, void* out) {
  of_paper(call) ? fill<Number, PaperPowers>(call, static_cast<Number*>(out))
                 : fill<Number, AnyPowers>(call, static_cast<Number*>(out));
}

}  // namespace drifting

// What ctypes calls; `wide` says that numbers are doubles, else floats.
extern "C" {

void drifting_measure(int wide, const drifting::Feature* feature,
                      const drifting::Distances* call) {
  wide ? drifting::measure<double>(*feature, *call) : drifting::measure<float>(*feature, *call);
}

void drifting_drifts(int wide, const drifting::Feature* feature, const drifting::Affinities* call,
                     const drifting::Drifts* drifts) {
  wide ? drifting::drift_at<double>(*feature, *call, *drifts)
       : drifting::drift_at<float>(*feature, *call, *drifts);
}

void drifting_gram(int wide, const drifting::Feature* feature, const drifting::Gram* call) {
  wide ? drifting::gram<double>(*feature, *call) : drifting::gram<float>(*feature, *call);
}

void drifting_traces(int wide, const drifting::Affinities* call, const drifting::Traces* traces) {
  wide ? drifting::trace_at<double>(*call, *traces) : drifting::trace_at<float>(*call, *traces);
}

void drifting_coefficients(int wide, const drifting::Affinities* call, void* out) {
  wide ? drifting::fill_at<double>(*call, out) : drifting::fill_at<float>(*call, out);
}

void drifting_sum(int wide, const drifting::Sum* call) {
  wide ? drifting::sum<double>(*call) : drifting::sum<float>(*call);
}

// Returns whether there are only whole vectors, else does nothing.
int drifting_product(int wide, const drifting::Product* call) {
  if (call->columns % (wide ? drifting::kLanes<double> : drifting::kLanes<float>)) return 0;
  wide ? drifting::product<double>(*call) : drifting::product<float>(*call);
  return 1;
}

}  // extern "C"
