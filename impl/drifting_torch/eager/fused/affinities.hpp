// Algorithm 2's coefficients from the distances of a group, all temperatures from one exponential.
//
// It computes what affinity_powers.py computes with PyTorch's operators (the formulas are in its
// docstring), an N x M block that stays in cache, in two passes:
//   first:  E = exp(-(d - rho - theta) * rate), its powers, the sums of rows and columns;
//   second: the powers again, the factors of row and column, floor, weights and the balance.
// Rows are padded to whole vectors; the padding's E and weights are 0.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.hpp"

namespace drifting {

struct Affinities {
  std::int64_t groups, rows, columns, positives, temperatures;  // B, N, M, P, T
  std::int64_t shared_rate, shared_scale, shared_weight;  // one for all groups
  std::int64_t weights_enter;  // whether the row softmaxes' sums take the weights
  std::int64_t threads;
  double floor;                // least affinity, 0 for none
  double least;                // sums at or below it hold too little
  double range;                // logits whose exponential neither vanishes nor overflows
  double masked;               // logits that a masked entry lies below all that counts
  const std::int64_t* powers;  // [T], ascending, each 1 to 64
  const std::int64_t* places;  // [T]: where the temperature of each power stands in what comes out
  const void* rate;            // [B] or [1]: logits of one unit of distance
  const void* scale;           // [B] or [1]: multiplies what comes out
  const void* weight;          // [B, M] or [1, M], or null
  const void* distances;       // [B, N, M]
  std::uint8_t* served;        // [B]: an Outcome
};

enum Outcome : std::uint8_t { kNotServed = 0, kServed = 1, kServedByColumns = 2 };

// The paper's 1, 4, 10, in this order.
struct PaperPowers {
  static constexpr int kMost = 3;
  explicit PaperPowers(const Affinities&) {}
  int count() const { return 3; }
  template <typename V>
  void operator()(V x, V* powers) const {
    const V two = x * x, four = two * two;
    powers[0] = x;
    powers[1] = four;
    powers[2] = four * four * two;
  }
};

// Any others, by squarings.
struct AnyPowers {
  static constexpr int kMost = 16;  // more temperatures than anyone takes are the operators' matter
  const Affinities& call;
  explicit AnyPowers(const Affinities& of) : call(of) {}
  int count() const { return static_cast<int>(call.temperatures); }
  template <typename V>
  void operator()(V x, V* powers) const {
    for (int t = 0; t < count(); ++t) {
      V square = x, product = x;
      bool begun = false;
      for (std::int64_t left = call.powers[t]; left != 0; left >>= 1, square *= square) {
        if (!(left & 1)) continue;
        product = begun ? product * square : square;
        begun = true;
      }
      powers[t] = product;
    }
  }
};

template <typename Number, typename Powers>
class Weighing {
  using V = Vector<Number>;
  static constexpr std::int64_t kStep = kLanes<Number>;
  static constexpr int kRows = 4;  // taken at once, so that columns are loaded and stored less

 public:
  explicit Weighing(const Affinities& call)
      : call_(call),
        powers_(call),
        width_(padded<Number>(call.columns)),
        height_(padded<Number>(call.rows)),
        exponentials_(call.rows * width_),
        row_(kRows * width_),
        nearest_(height_),
        theta_(width_),
        attracting_(width_),
        repelling_(width_),
        entering_(powers_.count() * width_),
        column_(powers_.count() * width_),
        half_(powers_.count() * height_),
        factor_(powers_.count() * height_) {}

  std::int64_t width() const { return width_; }

  // First pass. Not served where samples are so far from one side or from one another that the
  // general path must be taken.
  Outcome prepare(std::int64_t group) {
    distances_ = static_cast<const Number*>(call_.distances) + group * call_.rows * call_.columns;
    rate_ = static_cast<const Number*>(call_.rate)[call_.shared_rate ? 0 : group];
    binary_ = rate_ * Number(1.4426950408889634);
    scale_ = static_cast<const Number*>(call_.scale)[call_.shared_scale ? 0 : group];
    weight_ = call_.weight ? static_cast<const Number*>(call_.weight) +
                                 (call_.shared_weight ? 0 : group * call_.columns)
                           : nullptr;
    if (!(rate_ > Number(kLeastRate))) return kNotServed;
    weigh();
    find_nearest();
    std::fill(theta_.data(), theta_.data() + width_, Number(0));
    if (!in_range(0)) return kNotServed;
    if (sum_up(false)) return kServed;
    return in_range(find_theta()) && sum_up(true) ? kServedByColumns : kNotServed;
  }

  // Second pass: a row's weighted affinities at all temperatures, in padded rows `apart` from one
  // another. The coefficients are these times factor, and the positives' times ratio as well
  // (Sides in product.hpp); those of the temperatures lie `beside` one another. Returns whether
  // either side holds enough.
  bool row(std::int64_t n, Number* out, std::int64_t apart, Number* ratio, Number* factor,
           std::int64_t beside) const {
    const int count = powers_.count();
    V attracting[Powers::kMost] = {}, repelling[Powers::kMost] = {};
    Number floor[Powers::kMost];  // of an affinity without its row's factor
    for (int t = 0; t < count; ++t)
      floor[t] = Number(call_.floor) / factor_.data()[t * height_ + n];
    for (std::int64_t m = 0; m < width_; m += kStep) {
      V power[Powers::kMost];
      powers_(load(exponentials_.data() + n * width_ + m), power);
      const V positive = load(attracting_.data() + m), negative = load(repelling_.data() + m);
      const V weight = positive + negative;
      for (int t = 0; t < count; ++t) {
        const V bare = power[t] * load(column_.data() + t * width_ + m);
        const V affinity = bare < floor[t] ? floor[t] + V{} : bare;
        attracting[t] += affinity * positive;
        repelling[t] += affinity * negative;
        store<Number>(out + t * apart + m, affinity * weight);
      }
    }
    bool enough = true;
    for (int t = 0; t < count; ++t) {
      const Number mass = sum_of<Number>(attracting[t]), other = sum_of<Number>(repelling[t]);
      enough = enough && mass > Number(call_.least) && other > Number(call_.least) &&
               other / mass < kFar;
      const Number of_row = factor_.data()[t * height_ + n];
      ratio[t * beside] = -other / mass;
      factor[t * beside] = -mass * of_row * of_row * scale_;
    }
    return enough;
  }

  // The same, as coefficients.
  bool coefficients(std::int64_t n, Number* out, std::int64_t apart) const {
    Number ratio[Powers::kMost], factor[Powers::kMost];
    const bool enough = row(n, out, apart, ratio, factor, 1);
    for (int t = 0; t < powers_.count(); ++t) {
      Number* of_row = out + t * apart;
      for (std::int64_t m = 0; m < call_.columns; ++m)
        of_row[m] *= m < call_.positives ? ratio[t] * factor[t] : factor[t];
    }
    return enough;
  }

 private:
  static constexpr double kLeastRate = 1e-30;  // at which kFar is out of the exponential's range
  static constexpr Number kFar = std::numeric_limits<Number>::max() / 4;

  // The weights of the columns, those of either side with zeros in place of the other's.
  void weigh() {
    for (std::int64_t m = 0; m < call_.columns; ++m) {
      const Number weight = weight_ ? weight_[m] : Number(1);
      attracting_.data()[m] = m < call_.positives ? weight : Number(0);
      repelling_.data()[m] = m < call_.positives ? Number(0) : weight;
    }
  }

  // Rows of distances, where their own entries and the padding lie far away.
  template <int kCount>
  const Number* padded_rows(std::int64_t first) {
    Number* row = row_.data();
    for (std::int64_t n = first; n < first + kCount; ++n, row += width_) {
      std::memcpy(row, distances_ + n * call_.columns, sizeof(Number) * call_.columns);
      std::fill(row + call_.columns, row + width_, kFar);
      row[call_.positives + n] = kFar;
    }
    return row_.data();
  }

  // rho, the nearest target of each row, and the middle of the nearest and the furthest of them.
  void find_nearest() {
    Number lowest = kFar;
    highest_ = 0;
    for (std::int64_t n = 0; n < call_.rows; ++n) {
      const Number* row = padded_rows<1>(n);
      V least = load(row);
      for (std::int64_t m = kStep; m < width_; m += kStep) {
        const V here = load(row + m);
        least = here < least ? here : least;
      }
      const Number nearest = least_of<Number>(least);
      nearest_.data()[n] = nearest;
      lowest = nearest < lowest ? nearest : lowest;
      highest_ = nearest < highest_ ? highest_ : nearest;
    }
    middle_ = (lowest + highest_) / 2;
  }

  // theta, how far the nearest of each column is from being its row's nearest; returns the largest.
  Number find_theta() {
    Number* theta = theta_.data();
    std::fill(theta, theta + call_.columns, kFar);
    for (std::int64_t n = 0; n < call_.rows; ++n) {
      const Number* row = padded_rows<1>(n);
      const Number nearest = nearest_.data()[n];
      for (std::int64_t m = 0; m < call_.columns; ++m)
        theta[m] = row[m] - nearest < theta[m] ? row[m] - nearest : theta[m];
    }
    Number largest = 0;
    for (std::int64_t m = 0; m < call_.columns; ++m) {
      // Where a sample is the only one, its own column has no other entry.
      if (theta[m] > kFar / 2) theta[m] = 0;
      largest = std::max(largest, theta[m]);
    }
    return largest;
  }

  // Whether the rows' factors are in range, and a sample's own entry is negligible if masked.
  bool in_range(Number theta) const {
    const Number highest_power = Number(call_.powers[call_.temperatures - 1]);
    const Number scale = scale_ == 0 ? Number(0) : std::abs(std::log(std::abs(scale_)));
    return (highest_ - middle_) * rate_ * highest_power <= Number(call_.range) - scale &&
           (highest_ + theta) * rate_ <= Number(call_.masked);
  }

  // Fill `into` with 2^(of * factor).
  static void exponentiate(std::int64_t count, const Number* of, Number factor, Number* into) {
    for (std::int64_t at = 0; at < count; at += kStep)
      store<Number>(into + at, power_of_two<Number>(load(of + at) * factor));
  }

  // Fill E, and what rows and columns are multiplied by; returns whether every sum holds enough.
  bool sum_up(bool shifted) {
    const int count = powers_.count();
    const std::int64_t rows = call_.rows, columns = call_.columns;
    for (std::int64_t n = 0; n < rows; ++n) half_.data()[n] = middle_ - nearest_.data()[n];
    for (int t = count - 1; t >= 0; --t)  // the first last: it is what the others are made of
      exponentiate(height_, half_.data(), power_rate(t) / 2, half_.data() + t * height_);
    const bool weighs = weight_ && call_.weights_enter;
    for (int t = 0; t < count; ++t) {
      Number* entering = entering_.data() + t * width_;
      if (shifted) exponentiate(width_, theta_.data(), -power_rate(t), entering);
      else std::fill(entering, entering + width_, Number(1));
      for (std::int64_t m = 0; weighs && m < columns; ++m) entering[m] *= weight_[m];
    }
    std::fill(column_.data(), column_.data() + count * width_, Number(0));
    std::int64_t n = 0;
    for (; n + kRows <= rows; n += kRows) sum_rows<kRows>(n);
    for (; n < rows; ++n) sum_rows<1>(n);
    Number least = std::numeric_limits<Number>::infinity();
    for (int t = 0; t < count; ++t) {
      least = to_factors(rows, factor_.data() + t * height_, half_.data() + t * height_, least);
      Number* theta = row_.data();
      if (shifted) exponentiate(width_, theta_.data(), -power_rate(t) / 2, theta);
      else std::fill(theta, theta + width_, Number(1));
      least = to_factors(columns, column_.data() + t * width_, theta, least);
    }
    return least > Number(call_.least);
  }

  Number power_rate(int t) const { return binary_ * Number(call_.powers[t]); }

  // Put `others` over their roots in the place of sums; returns the least sum, if below `least`.
  // A sum that is not a number is the least.
  static Number to_factors(std::int64_t count, Number* sums, const Number* others, Number least) {
    Number total = 0;  // not-a-number if one of them is
#pragma omp simd reduction(min : least) reduction(+ : total)
    for (std::int64_t at = 0; at < count; ++at) {
      least = sums[at] < least ? sums[at] : least;
      total += sums[at];
      sums[at] = others[at] / std::sqrt(sums[at]);
    }
    return total == total ? least : total;
  }

  // Fill some rows' E, begin their factors with their sums, and add to those of the columns.
  template <int kCount>
  void sum_rows(std::int64_t first) {
    const int count = powers_.count();
    V sum[kCount][Powers::kMost] = {};
    Number weighing[kCount][Powers::kMost], nearest[kCount];
    const Number* rows = padded_rows<kCount>(first);
    for (int r = 0; r < kCount; ++r) {
      nearest[r] = nearest_.data()[first + r];
      for (int t = 0; t < count; ++t) {
        const Number half = half_.data()[t * height_ + first + r];
        weighing[r][t] = half * half;
      }
    }
    for (std::int64_t m = 0; m < width_; m += kStep) {
      V column[Powers::kMost], entering[Powers::kMost];
      for (int t = 0; t < count; ++t) {
        column[t] = load(column_.data() + t * width_ + m);
        entering[t] = load(entering_.data() + t * width_ + m);
      }
      const V theta = load(theta_.data() + m);
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) {
        V power[Powers::kMost];
        const V one =
            power_of_two<Number>(((nearest[r] - load(rows + r * width_ + m)) + theta) * binary_);
        store<Number>(exponentials_.data() + (first + r) * width_ + m, one);
        powers_(one, power);
        for (int t = 0; t < count; ++t) {
          column[t] += weighing[r][t] * power[t];
          sum[r][t] += power[t] * entering[t];
        }
      }
      for (int t = 0; t < count; ++t) store<Number>(column_.data() + t * width_ + m, column[t]);
    }
    for (int r = 0; r < kCount; ++r)
      for (int t = 0; t < count; ++t)
        factor_.data()[t * height_ + first + r] = sum_of<Number>(sum[r][t]);
  }

  const Affinities& call_;
  const Powers powers_;
  const std::int64_t width_, height_;
  mutable Buffer<Number> exponentials_, row_, nearest_, theta_, attracting_, repelling_, entering_,
      column_, half_, factor_;
  const Number *distances_ = nullptr, *weight_ = nullptr;
  // binary_ is the rate for powers of two.
  Number rate_ = 0, binary_ = 0, scale_ = 0, middle_ = 0, highest_ = 0;
};

}  // namespace drifting
