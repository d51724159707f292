// What lies between the matrix products of a chunk of groups: distances from products of samples,
// and Algorithm 2's coefficients from distances, each in two passes over a group.
//
// The coefficients are what affinity_powers.py computes with PyTorch's operators (the formulas are
// in its docstring), an N x M block at a time that stays in cache:
//   first pass:  E = exp(-(d - rho - theta) * rate), the powers E^k, the sums of rows and columns;
//   second pass: the powers again, the factors of row and column, floor, weights and the balance.
// No header of PyTorch: a plain C interface for ctypes. Must not be compiled with -ffast-math:
// infinities, and not-a-numbers that have to arrive, are told apart from numbers here.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

constexpr int kBits = 7;  // powers up to 64

template <typename Number>
struct Exponential;

template <>
struct Exponential<float> {
  using Bits = std::int32_t;
  static constexpr float lowest = -87.0f;  // below it the result is 0
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr int mantissa = 23, bias = 127, terms = 7;
};

template <>
struct Exponential<double> {
  using Bits = std::int64_t;
  static constexpr double lowest = -707.0;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double ln2_high = 6.93147180369123816490e-01;
  static constexpr double ln2_low = 1.90821492927058770002e-10;
  static constexpr int mantissa = 52, bias = 1023, terms = 13;
};

// 1/k!, the coefficients of the exponential's series: |r| <= ln(2)/2, where the first term left
// out is below the rounding of either type.
constexpr double kInverseFactorial[] = {
    1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
    1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

// e^x for x <= 0; not-a-number stays one.
template <typename Number>
inline Number exponential(Number x) {
  using Of = Exponential<Number>;
  using Bits = typename Of::Bits;
  const Number inside = x < Of::lowest ? Of::lowest : x;
  const Number shifted = inside * Number(1.4426950408889634) + Of::magic;
  const Number whole = shifted - Of::magic;
  const Number rest = (inside - whole * Of::ln2_high) - whole * Of::ln2_low;
  Number series = Number(kInverseFactorial[Of::terms]);
#pragma GCC unroll 16
  for (int k = Of::terms - 1; k >= 0; --k) series = series * rest + Number(kInverseFactorial[k]);
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<Bits>((static_cast<std::make_unsigned_t<Bits>>(bits) << Of::mantissa) +
                           (static_cast<std::make_unsigned_t<Bits>>(Of::bias) << Of::mantissa));
  Number power;
  std::memcpy(&power, &bits, sizeof power);
  return x < Of::lowest ? Number(0) : series * power;
}

}  // namespace

// One call. All arrays lie without gaps; a pointer that may be null is said to.
struct Call {
  std::int64_t groups, rows, columns, positives, temperatures;  // B, N, M, P, T
  std::int64_t weighted;       // columns before it weigh 1
  std::int64_t weights_enter;  // whether the row softmaxes' sums take the weights
  std::int64_t shared_rate, shared_scale, shared_weight;  // one for all groups
  std::int64_t threads;
  double floor;  // least affinity, 0 for none
  double least;  // sums at or below it hold too little
  const std::int64_t* powers;  // [T], each 1 to 64
  const void* distances;       // [B, N, M]
  const void* nearest;         // [B, N]: rho
  const void* of_column;       // [B, M]: theta, or null for zeros
  const void* of_row;          // [B, N]: logits of the rows
  const void* rate;            // [B] or [1]: logits of one unit of distance
  const void* scale;           // [B] or [1]: multiplies what comes out
  const void* weight;          // [B, M] or [1, M], or null
  void* exponentials;          // [B, T, N, M], spare
  void* out;                   // [B, T, N, M]
};

namespace {

template <typename Number>
class Group {
 public:
  explicit Group(const Call& call)
      : call_(call),
        columns_(call.columns),
        squares_(kBits * call.columns),
        product_(call.columns),
        weights_(call.columns),
        column_(call.temperatures * call.columns),
        entering_(call.temperatures * call.columns),
        row_(call.temperatures * call.rows),
        half_(call.temperatures * call.rows) {
    std::int64_t highest = 1;
    for (std::int64_t t = 0; t < call.temperatures; ++t)
      if (call.powers[t] > highest) highest = call.powers[t];
    while ((highest >> bits_) != 0) ++bits_;
  }

  // Returns whether every sum holds enough.
  bool solve(std::int64_t group) {
    const std::int64_t block = call_.rows * columns_;
    distances_ = static_cast<const Number*>(call_.distances) + group * block;
    exponentials_ = static_cast<Number*>(call_.exponentials) + group * call_.temperatures * block;
    out_ = static_cast<Number*>(call_.out) + group * call_.temperatures * block;
    nearest_ = static_cast<const Number*>(call_.nearest) + group * call_.rows;
    of_row_ = static_cast<const Number*>(call_.of_row) + group * call_.rows;
    theta_ = call_.of_column ? static_cast<const Number*>(call_.of_column) + group * columns_
                             : nullptr;
    rate_ = static_cast<const Number*>(call_.rate)[call_.shared_rate ? 0 : group];
    scale_ = static_cast<const Number*>(call_.scale)[call_.shared_scale ? 0 : group];
    weight_ = call_.weight ? static_cast<const Number*>(call_.weight) +
                                 (call_.shared_weight ? 0 : group * columns_)
                           : nullptr;
    return sum_up() && balance();
  }

 private:
  // Point at E^power of a row whose squarings stand in squares_.
  const Number* powered(std::int64_t power) {
    const Number* found = nullptr;
    Number* product = product_.data();
    for (int bit = 0; bit < bits_; ++bit) {
      if (!((power >> bit) & 1)) continue;
      const Number* factor = &squares_[bit * columns_];
      if (!found) {
        found = factor;
        continue;
      }
      const Number* other = found;
#pragma omp simd
      for (std::int64_t m = 0; m < columns_; ++m) product[m] = other[m] * factor[m];
      found = product;
    }
    return found;
  }

  void square() {
    for (int bit = 1; bit < bits_; ++bit) {
      const Number* from = &squares_[(bit - 1) * columns_];
      Number* into = &squares_[bit * columns_];
#pragma omp simd
      for (std::int64_t m = 0; m < columns_; ++m) into[m] = from[m] * from[m];
    }
  }

  bool sum_up() {
    std::fill(column_.begin(), column_.end(), Number(0));
    const bool weighs = weight_ && call_.weights_enter;
    const bool enters = weighs || theta_;
    for (std::int64_t t = 0; enters && t < call_.temperatures; ++t) {
      for (std::int64_t m = 0; m < columns_; ++m) {
        const Number logit = theta_ ? -theta_[m] * rate_ * Number(call_.powers[t]) : Number(0);
        entering_[t * columns_ + m] = std::exp(logit) * (weighs ? weight_[m] : Number(1));
      }
    }
    bool enough = true;
    for (std::int64_t n = 0; n < call_.rows; ++n) {
      const Number* distance = distances_ + n * columns_;
      Number* first = squares_.data();
      const Number rho = nearest_[n], rate = rate_;
      if (theta_) {
        const Number* theta = theta_;
#pragma omp simd
        for (std::int64_t m = 0; m < columns_; ++m)
          first[m] = exponential<Number>(-((distance[m] - rho) - theta[m]) * rate);
      } else {
#pragma omp simd
        for (std::int64_t m = 0; m < columns_; ++m)
          first[m] = exponential<Number>((rho - distance[m]) * rate);
      }
      first[call_.positives + n] = 0;
      std::memcpy(exponentials_ + n * columns_, first, sizeof(Number) * columns_);
      square();
      for (std::int64_t t = 0; t < call_.temperatures; ++t) {
        const Number* power = powered(call_.powers[t]);
        Number* column = &column_[t * columns_];
        const Number half = std::exp(Number(0.5) * Number(call_.powers[t]) * of_row_[n]);
        const Number weighing = half * half;
        Number sum = 0;
        if (enters) {
          const Number* entering = &entering_[t * columns_];
#pragma omp simd reduction(+ : sum)
          for (std::int64_t m = 0; m < columns_; ++m) {
            column[m] += weighing * power[m];
            sum += power[m] * entering[m];
          }
        } else {
#pragma omp simd reduction(+ : sum)
          for (std::int64_t m = 0; m < columns_; ++m) {
            column[m] += weighing * power[m];
            sum += power[m];
          }
        }
        enough = enough && sum > call_.least;
        half_[t * call_.rows + n] = half;
        row_[t * call_.rows + n] = half / std::sqrt(sum);
      }
    }
    for (std::int64_t t = 0; t < call_.temperatures; ++t) {
      Number* column = &column_[t * columns_];
      for (std::int64_t m = 0; m < columns_; ++m) {
        enough = enough && column[m] > call_.least;
        column[m] = Number(1) / std::sqrt(column[m]);
        if (theta_)
          column[m] *= std::exp(Number(-0.5) * Number(call_.powers[t]) * theta_[m] * rate_);
      }
    }
    return enough;
  }

  // Write the weighted affinities of columns begin to end, and return their sum.
  Number weigh(const Number* power, const Number* column, Number floor, std::int64_t begin,
               std::int64_t end, Number* out) const {
    const Number* weight = weights_.data();
    Number sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t m = begin; m < end; ++m) {
      const Number affinity = power[m] * column[m];
      const Number weighted = (affinity < floor ? floor : affinity) * weight[m];
      out[m] = weighted;
      sum += weighted;
    }
    return sum;
  }

  bool balance() {
    std::fill(weights_.begin(), weights_.end(), Number(1));
    if (weight_) std::copy(weight_ + call_.weighted, weight_ + columns_, &weights_[call_.weighted]);
    bool enough = true;
    const std::int64_t positives = call_.positives;
    for (std::int64_t n = 0; n < call_.rows; ++n) {
      std::memcpy(squares_.data(), exponentials_ + n * columns_, sizeof(Number) * columns_);
      square();
      for (std::int64_t t = 0; t < call_.temperatures; ++t) {
        const Number* power = powered(call_.powers[t]);
        const Number* column = &column_[t * columns_];
        Number* out = out_ + (t * call_.rows + n) * columns_;
        const Number row = row_[t * call_.rows + n];
        const Number floor = Number(call_.floor) / row;  // of an affinity without its row's factor
        const Number attracting = weigh(power, column, floor, 0, positives, out);
        const Number repelling = weigh(power, column, floor, positives, columns_, out);
        enough = enough && attracting > call_.least && repelling > call_.least;
        const Number common = row * row * scale_;
        const Number positive = repelling * common, negative = -attracting * common;
#pragma omp simd
        for (std::int64_t m = 0; m < positives; ++m) out[m] *= positive;
#pragma omp simd
        for (std::int64_t m = positives; m < columns_; ++m) out[m] *= negative;
      }
    }
    return enough;
  }

  const Call& call_;
  const std::int64_t columns_;
  int bits_ = 0;
  std::vector<Number> squares_, product_, weights_, column_, entering_, row_, half_;
  const Number *distances_, *nearest_, *of_row_, *theta_, *weight_;
  Number *exponentials_, *out_;
  Number rate_, scale_;
};

template <typename Number>
int coefficients(const Call& call) {
  int enough = 1;
#pragma omp parallel num_threads(call.threads) reduction(&& : enough) if (call.threads > 1)
  {
    Group<Number> group(call);
#pragma omp for schedule(static)
    for (std::int64_t index = 0; index < call.groups; ++index)
      enough = group.solve(index) && enough;
  }
  return enough;
}

}  // namespace

// Distances of a chunk from the products of its samples, in place.
struct Distances {
  std::int64_t groups, rows, columns, own;  // B, N, M, the column of the first row's own entry
  std::int64_t shared_floor, threads;
  double threshold;     // least share of a squared distance in the largest squares' sum
  const void* squares;  // [B, M]: squared norms of the targets; the rows' own are among them
  const void* floor;    // [B] or [1], or null: least distance
  void* values;         // [B, N, M]: products <x, y>, which distances take the place of
  double* sums;         // [B, M]: distances summed over rows
};

namespace {

// Returns whether no two samples but a sample and itself are so close that products cannot tell.
template <typename Number>
bool measure(const Distances& call, std::int64_t group, std::vector<Number>& part) {
  const std::int64_t rows = call.rows, columns = call.columns;
  Number* values = static_cast<Number*>(call.values) + group * rows * columns;
  const Number* squares = static_cast<const Number*>(call.squares) + group * columns;
  const Number infinity = std::numeric_limits<Number>::infinity();
  Number largest = 0, largest_own = 0, least = infinity;
#pragma omp simd reduction(max : largest)
  for (std::int64_t m = 0; m < columns; ++m) largest = squares[m] > largest ? squares[m] : largest;
  for (std::int64_t n = 0; n < rows; ++n) {
    const Number own = squares[call.own + n];
    largest_own = own > largest_own ? own : largest_own;
    Number* value = values + n * columns;
    Number smallest = infinity;
#pragma omp simd
    for (std::int64_t m = 0; m < columns; ++m) value[m] = (own + squares[m]) - 2 * value[m];
    value[call.own + n] = infinity;
#pragma omp simd reduction(min : smallest)
    for (std::int64_t m = 0; m < columns; ++m) smallest = value[m] < smallest ? value[m] : smallest;
    least = smallest < least ? smallest : least;
  }
  if (!(least > (largest + largest_own) * Number(call.threshold))) return false;
  const Number floor =
      call.floor ? static_cast<const Number*>(call.floor)[call.shared_floor ? 0 : group] : Number(0);
  double* sums = call.sums + group * columns;
  std::fill(sums, sums + columns, 0.0);
  constexpr std::int64_t kBlock = 64;  // rows that are summed in the distances' own precision
  for (std::int64_t begin = 0; begin < rows; begin += kBlock) {
    std::fill(part.begin(), part.end(), Number(0));
    const std::int64_t end = std::min(begin + kBlock, rows);
    for (std::int64_t n = begin; n < end; ++n) {
      Number* value = values + n * columns;
      Number* into = part.data();
      value[call.own + n] = 0;
#pragma omp simd
      for (std::int64_t m = 0; m < columns; ++m) {
        const Number distance = std::sqrt(value[m]);
        const Number kept = distance < floor ? floor : distance;
        value[m] = kept;
        into[m] += kept;
      }
    }
    for (std::int64_t m = 0; m < columns; ++m) sums[m] += static_cast<double>(part[m]);
  }
  return true;
}

template <typename Number>
int distances(const Distances& call) {
  int served = 1;
#pragma omp parallel num_threads(call.threads) reduction(&& : served) if (call.threads > 1)
  {
    std::vector<Number> part(call.columns);
#pragma omp for schedule(static)
    for (std::int64_t index = 0; index < call.groups; ++index)
      served = served && measure<Number>(call, index, part);
  }
  return served;
}

}  // namespace

// 1 where `values` and `sums` are filled, 0, with nothing of use in them, where samples coincide.
extern "C" int drifting_distances_float(const Distances* call) { return distances<float>(*call); }
extern "C" int drifting_distances_double(const Distances* call) { return distances<double>(*call); }

// 1 where `out` is filled, 0 where a sum held too little.
extern "C" int drifting_coefficients_float(const Call* call) { return coefficients<float>(*call); }
extern "C" int drifting_coefficients_double(const Call* call) {
  return coefficients<double>(*call);
}
