// Distances of a group's generated samples from its targets, by products of samples (EQ-12).

#pragma once

#include <limits>

#include "product.hpp"
#include "samples.hpp"

namespace drifting {

struct Distances {
  double least_square, most_square;  // squared norms between which squares of distances are safe
  double threshold;  // least share of a squared distance in the largest squares' sum
  std::int64_t shared_floor, threads;
  const void* floor;     // [L*V] or [1], or null: least distance
  const void* gram;      // [L*V, M, M]: the targets' products where they are known, else null
  void* values;          // [L*V, N, M]: the distances
  double* sums;          // [L*V, M]: distances summed over rows
  std::uint8_t* served;  // [L*V]: 0 where nothing of use was written
};

template <typename Number>
class Measuring {
 public:
  Measuring(const Feature& feature, const Distances& call)
      : call_(call),
        rows_(feature.generated.count),
        columns_(feature.targets()),
        channels_(feature.channels),
        own_(feature.positive.count),
        stride_(row_stride<Number>(feature.channels)),
        product_stride_(padded<Number>(columns_)),
        gathering_(feature),
        targets_(call.gram ? 0 : columns_ * stride_),
        turned_(kInner * kPanel<Number>),
        products_(rows_ * product_stride_),
        squares_(columns_),
        part_(columns_) {}

  // Returns whether products tell the distances: norms are ordinary numbers, and no two samples
  // but a sample and itself are close.
  bool solve(std::int64_t group) {
    call_.gram ? copy(group) : multiply(group);
    const Number* squares = squares_.data();
    const Number largest = largest_square();
    if (!(largest > Number(call_.least_square) && largest < Number(call_.most_square)))
      return false;
    const Number* floors = static_cast<const Number*>(call_.floor);
    const Number floor = floors ? floors[call_.shared_floor ? 0 : group] : Number(0);
    Number largest_own = 0, least = std::numeric_limits<Number>::infinity();
    Number* values = static_cast<Number*>(call_.values) + group * rows_ * columns_;
    double* sums = call_.sums + group * columns_;
    std::fill(sums, sums + columns_, 0.0);
    for (std::int64_t n = 0; n < rows_; ++n, values += columns_) {
      largest_own = std::max(largest_own, squares[own_ + n]);
      least = std::min(least, row(n, floor, values));
      if (n % kBlock == kBlock - 1 || n == rows_ - 1) add_up(sums);
    }
    return least > (largest + largest_own) * Number(call_.threshold);
  }

 private:
  static constexpr std::int64_t kBlock = 64;  // rows summed in the distances' own precision

  // Fill the products and squared norms.
  void multiply(std::int64_t group) {
    Number* targets = targets_.data();
    gathering_.group(group, targets, stride_);
    gathering_.look_ahead(group + 1);
    for (std::int64_t m = 0; m < columns_; ++m) {
      const Number* target = targets + m * stride_;
      Vector<Number> sum{};
      for (std::int64_t c = 0; c < stride_; c += kLanes<Number>) {  // what pads a row is zero
        const Vector<Number> part = load(target + c);
        sum += part * part;
      }
      squares_.data()[m] = sum_of<Number>(sum);
    }
    multiply_transposed<Number>(rows_, columns_, channels_, targets + own_ * stride_, stride_,
                                targets, stride_, turned_.data(), products_.data(),
                                product_stride_);
  }

  // Fill them from the Gram matrix.
  void copy(std::int64_t group) {
    const Number* gram = static_cast<const Number*>(call_.gram) + group * columns_ * columns_;
    for (std::int64_t m = 0; m < columns_; ++m) squares_.data()[m] = gram[m * columns_ + m];
    for (std::int64_t n = 0; n < rows_; ++n)
      std::memcpy(products_.data() + n * product_stride_, gram + (own_ + n) * columns_,
                  sizeof(Number) * columns_);
  }

  // Not-a-number if there is one.
  Number largest_square() {
    Number largest = 0;
    for (std::int64_t m = 0; m < columns_; ++m) {
      const Number square = squares_.data()[m];
      if (square != square) return square;
      largest = std::max(largest, square);
    }
    return largest;
  }

  // Write one row of distances; returns its least squared distance from another sample.
  Number row(std::int64_t n, Number floor, Number* value) {
    const Number* squares = squares_.data();
    Number* product = products_.data() + n * product_stride_;
    Number* part = part_.data();
    const Number own = squares[own_ + n];
    Number least = std::numeric_limits<Number>::infinity();
#pragma omp simd
    for (std::int64_t m = 0; m < columns_; ++m) product[m] = (own + squares[m]) - 2 * product[m];
    product[own_ + n] = least;
#pragma omp simd reduction(min : least)
    for (std::int64_t m = 0; m < columns_; ++m) least = product[m] < least ? product[m] : least;
    product[own_ + n] = 0;
#pragma omp simd
    for (std::int64_t m = 0; m < columns_; ++m) {
      const Number distance = std::sqrt(product[m]);
      const Number kept = distance < floor ? floor : distance;
      value[m] = kept;
      part[m] += kept;
    }
    return least;
  }

  void add_up(double* sums) {
    Number* part = part_.data();
    for (std::int64_t m = 0; m < columns_; ++m) sums[m] += static_cast<double>(part[m]);
    std::fill(part, part + columns_, Number(0));
  }

  const Distances& call_;
  const std::int64_t rows_, columns_, channels_, own_, stride_, product_stride_;
  Gathering<Number> gathering_;
  Buffer<Number> targets_, turned_, products_, squares_, part_;
};

}  // namespace drifting
