// Many channels: the targets' Gram matrices, and what the drifts' squares are without the drifts.

#pragma once

#include <cmath>

#include "affinities.hpp"
#include "product.hpp"
#include "samples.hpp"

namespace drifting {

struct Gram {
  std::int64_t stride;  // from one row of targets to the next
  std::int64_t threads;
  void* targets;        // [L*V, M, stride], to be kept, or null
  void* values;         // [L*V, M, M]
};

// A group's Gram matrix, a slice of channels at a time: its targets are multiplied while they are
// in cache, and threads may share a group.
template <typename Number>
class Multiplying {
 public:
  static constexpr std::int64_t kSlice = 1024;

  Multiplying(const Feature& feature, const Gram& call)
      : call_(call),
        targets_(feature.targets()),
        channels_(feature.channels),
        width_(padded<Number>(targets_)),
        own_stride_(row_stride<Number>(std::min(kSlice, channels_))),
        gathering_(feature),
        gathered_(call.targets ? 0 : targets_ * own_stride_),
        turned_(kInner * kPanel<Number>),
        product_(targets_ * width_) {}

  // Fill [M, M] with the part of a slice, on and below the diagonal.
  void slice(std::int64_t group, std::int64_t index, Number* out) {
    const std::int64_t first = index * kSlice, count = std::min(kSlice, channels_ - first);
    Number* targets = gathered_.data();
    std::int64_t stride = own_stride_;
    if (call_.targets) {
      stride = call_.stride;
      targets = static_cast<Number*>(call_.targets) + group * targets_ * stride + first;
    }
    gathering_.channels(group, first, count, targets, stride);
    for (std::int64_t begin = 0; begin < targets_; begin += kPanel<Number>) {
      const Number* rows = targets + begin * stride;
      const std::int64_t left = targets_ - begin;
      multiply_transposed<Number>(left, std::min(kPanel<Number>, left), count, rows, stride, rows,
                                  stride, turned_.data(),
                                  product_.data() + begin * width_ + begin, width_);
    }
    for (std::int64_t m = 0; m < targets_; ++m)
      std::memcpy(out + m * targets_, product_.data() + m * width_, sizeof(Number) * (m + 1));
  }

 private:
  const Gram& call_;
  const std::int64_t targets_, channels_, width_, own_stride_;
  Gathering<Number> gathering_;
  Buffer<Number> gathered_, turned_, product_;
};

// Add `part`, of which what lies on and below the diagonal is given.
template <typename Number>
inline void add_lower(std::int64_t size, const Number* part, Number* whole) {
  for (std::int64_t row = 0; row < size; ++row)
    for (std::int64_t m = 0; m <= row; ++m) whole[row * size + m] += part[row * size + m];
}

template <typename Number>
inline void mirror(std::int64_t size, Number* whole) {
  for (std::int64_t row = 0; row < size; ++row)
    for (std::int64_t m = 0; m < row; ++m) whole[m * size + row] = whole[row * size + m];
}

// Sums over slices are added in the same order whether threads share groups or not.
template <typename Number>
void gram(const Feature& feature, const Gram& call) {
  const std::int64_t size = feature.targets(), block = size * size;
  const std::int64_t slices = (feature.channels - 1) / Multiplying<Number>::kSlice + 1;
  const bool shared = feature.groups < call.threads;
  Buffer<Number> parts(shared ? slices * block : 0);
  Number* values = static_cast<Number*>(call.values);
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    Multiplying<Number> multiplying(feature, call);
    if (shared) {
      for (std::int64_t group = 0; group < feature.groups; ++group) {
#pragma omp for schedule(static)
        for (std::int64_t slice = 0; slice < slices; ++slice)
          multiplying.slice(group, slice, parts.data() + slice * block);
#pragma omp single
        {
          std::copy(parts.data(), parts.data() + block, values + group * block);
          for (std::int64_t slice = 1; slice < slices; ++slice)
            add_lower(size, parts.data() + slice * block, values + group * block);
          mirror(size, values + group * block);
        }
      }
    } else {
      Buffer<Number> part(block);
#pragma omp for schedule(static)
      for (std::int64_t group = 0; group < feature.groups; ++group) {
        multiplying.slice(group, 0, values + group * block);
        for (std::int64_t slice = 1; slice < slices; ++slice) {
          multiplying.slice(group, slice, part.data());
          add_lower(size, part.data(), values + group * block);
        }
        mirror(size, values + group * block);
      }
    }
  }
}

struct Traces {
  const void* gram;  // [L*V, M, M]
  void* out;         // [L*V, T, N, M]: the coefficients
  double* sums;      // [L*V, T+1, T]: R_a G R_b summed over samples; last, what may cancel in it
  double least_square, most_square;  // squared norms between which these are safe
};

// A group's coefficients, and the products of every two temperatures' drifts by its Gram matrix.
template <typename Number, typename Powers>
class Tracing {
 public:
  Tracing(const Affinities& call, const Traces& traces)
      : call_(call),
        traces_(traces),
        weighing_(call),
        width_(weighing_.width()),
        gram_(call.columns * width_),
        norms_(width_),
        rows_(kTileRows * call.temperatures * width_),
        products_(kTileRows * call.temperatures * width_) {}

  Outcome solve(std::int64_t group) {
    if (!copy_gram(group)) return kNotServed;
    const Outcome outcome = weighing_.prepare(group);
    if (outcome == kNotServed) return outcome;
    const std::int64_t count = call_.temperatures, columns = call_.columns;
    Number* out = static_cast<Number*>(traces_.out) + group * count * call_.rows * columns;
    double* sums = traces_.sums + group * (count + 1) * count;
    std::fill(sums, sums + (count + 1) * count, 0.0);
    for (std::int64_t begin = 0; begin < call_.rows; begin += kTileRows) {
      const std::int64_t rows = std::min<std::int64_t>(kTileRows, call_.rows - begin);
      for (std::int64_t r = 0; r < rows; ++r)
        if (!weighing_.coefficients(begin + r, rows_.data() + r * width_, rows * width_))
          return kNotServed;
      multiply<Number>(rows * count, width_, {columns, rows_.data(), width_, gram_.data(), width_,
                                              products_.data(), width_});
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t a = 0; a < count; ++a) {
          const Number* row = rows_.data() + (a * rows + r) * width_;
          const std::int64_t place = call_.places[a];
          std::memcpy(out + (place * call_.rows + begin + r) * columns, row,
                      sizeof(Number) * columns);
          for (std::int64_t b = 0; b < count; ++b)
            sums[place * count + call_.places[b]] +=
                dot(row, products_.data() + (b * rows + r) * width_);
          const double cancelling = dot(row, norms_.data());
          sums[count * count + place] += cancelling * cancelling;
        }
      }
    }
    return outcome;
  }

 private:
  // The Gram matrix in padded rows, and the norms with the signs that their coefficients have.
  // Returns whether the largest is in range.
  bool copy_gram(std::int64_t group) {
    const std::int64_t columns = call_.columns;
    const Number* from = static_cast<const Number*>(traces_.gram) + group * columns * columns;
    Number largest = 0;
    for (std::int64_t m = 0; m < columns; ++m) {
      std::memcpy(gram_.data() + m * width_, from + m * columns, sizeof(Number) * columns);
      const Number norm = std::sqrt(from[m * columns + m]);
      norms_.data()[m] = m < call_.positives ? norm : -norm;
      largest = std::max(largest, from[m * columns + m]);
    }
    return largest > Number(traces_.least_square) && largest < Number(traces_.most_square);
  }

  double dot(const Number* one, const Number* two) const {
    Vector<Number> sum{};
    for (std::int64_t m = 0; m < width_; m += kLanes<Number>) sum += load(one + m) * load(two + m);
    return sum_of<Number>(sum);
  }

  const Affinities& call_;
  const Traces& traces_;
  Weighing<Number, Powers> weighing_;
  const std::int64_t width_;
  Buffer<Number> gram_, norms_, rows_, products_;
};

template <typename Number, typename Powers>
void trace(const Affinities& call, const Traces& traces) {
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
  {
    Tracing<Number, Powers> tracing(call, traces);
#pragma omp for schedule(static)
    for (std::int64_t group = 0; group < call.groups; ++group)
      call.served[group] = tracing.solve(group);
  }
}

}  // namespace drifting
