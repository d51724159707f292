// Products of small matrices that lie in cache.
//
// A tile of the result stays in registers while one goes over the inner dimension, so that each
// number loaded takes part in several multiplications.

#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace drifting {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 8;  // with three vectors a row they fill most of 32 registers
#else
constexpr int kTileRows = 4;  // of 16 registers
#endif
constexpr int kTileVectors = 3;

template <typename Number>
constexpr std::int64_t kPanel = kTileVectors * kLanes<Number>;  // columns of a tile

// Rows whose entries before `turn` are multiplied by `ratio`, and all of them by `factor`: one of
// each for every row.
template <typename Number>
struct Sides {
  std::int64_t turn = 0;
  const Number *ratio = nullptr, *factor = nullptr;

  Sides from(std::int64_t row) const { return {turn, ratio + row, factor + row}; }
};

// The whole of a product: out[rows, columns] = a[rows, inner] * b[inner, columns], or that added
// to what is there. Columns are whole vectors.
template <typename Number>
struct Factors {
  std::int64_t inner;
  const Number* a;
  std::int64_t a_stride;
  const Number* b;
  std::int64_t b_stride;
  Number* out;
  std::int64_t out_stride;
  bool add = false;
  Sides<Number> sides = {};  // of a; without any if its pointers are null

  Factors at(std::int64_t row, std::int64_t column) const {
    Factors part = *this;
    part.a += row * a_stride;
    part.b += column;
    part.out += row * out_stride + column;
    if (sides.factor) part.sides = sides.from(row);
    return part;
  }
};

template <typename Number, int kRows, int kVectors>
inline void accumulate(const Factors<Number>& of, std::int64_t begin, std::int64_t end,
                       Vector<Number> (&sum)[kRows][kVectors]) {
  for (std::int64_t k = begin; k < end; ++k) {
    Vector<Number> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load(of.b + k * of.b_stride + v * kLanes<Number>);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Number factor = of.a[r * of.a_stride + k];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
    }
  }
}

template <typename Number, int kRows, int kVectors>
inline void tile(const Factors<Number>& of) {
  Vector<Number> sum[kRows][kVectors] = {};
  if (of.sides.factor) {
    accumulate<Number>(of, 0, of.sides.turn, sum);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] *= of.sides.ratio[r];
    accumulate<Number>(of, of.sides.turn, of.inner, sum);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] *= of.sides.factor[r];
  } else {
    accumulate<Number>(of, 0, of.inner, sum);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Number* into = of.out + r * of.out_stride + v * kLanes<Number>;
      store<Number>(into, of.add ? load(into) + sum[r][v] : sum[r][v]);
    }
  }
}

// The rows of one panel: as many tiles as fit, then halves of one.
template <typename Number, int kVectors, int kRows = kTileRows>
inline void panel(std::int64_t rows, const Factors<Number>& of) {
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) tile<Number, kRows, kVectors>(of.at(row, 0));
  if constexpr (kRows > 1)
    if (row < rows) panel<Number, kVectors, kRows / 2>(rows - row, of.at(row, 0));
}

template <typename Number>
void multiply(std::int64_t rows, std::int64_t columns, const Factors<Number>& of) {
  for (std::int64_t first = 0; first < columns; first += kPanel<Number>) {
    const std::int64_t vectors = (columns - first) / kLanes<Number>;
    if (vectors >= 3) panel<Number, 3>(rows, of.at(0, first));
    else if (vectors == 2) panel<Number, 2>(rows, of.at(0, first));
    else panel<Number, 1>(rows, of.at(0, first));
  }
}

constexpr std::int64_t kInner = 128;  // rows of a transposed panel, which is to fit the first cache

#if defined(__GNUC__) && !defined(__clang__)
// Of two vectors' lanes in turns, the first half of the result or the second.
template <typename Number, bool kSecond>
inline Vector<Number> interleave(Vector<Number> one, Vector<Number> two) {
  using Index = typename Exponential<Number>::Bits;
  Vector<Index> lanes{};
#pragma GCC unroll 16
  for (int lane = 0; lane < kLanes<Number>; ++lane)
    lanes[lane] = Index((lane + (kSecond ? kLanes<Number> : 0)) / 2 + (lane % 2) * kLanes<Number>);
  return __builtin_shuffle(one, two, lanes);
}

// Transpose as many vectors as one has lanes: each round of interleaving those of the upper half
// with those of the lower one brings one more bit of the row into the lane.
template <typename Number>
inline void transpose(const Number* from, std::int64_t stride, Number* into,
                      std::int64_t into_stride) {
  constexpr int kSize = static_cast<int>(kLanes<Number>);
  Vector<Number> rows[kSize], turned[kSize];
#pragma GCC unroll 16
  for (int row = 0; row < kSize; ++row) rows[row] = load(from + row * stride);
#pragma GCC unroll 8
  for (int size = 1; size < kSize; size *= 2) {
#pragma GCC unroll 16
    for (int row = 0; row < kSize / 2; ++row) {
      turned[2 * row] = interleave<Number, false>(rows[row], rows[row + kSize / 2]);
      turned[2 * row + 1] = interleave<Number, true>(rows[row], rows[row + kSize / 2]);
    }
#pragma GCC unroll 16
    for (int row = 0; row < kSize; ++row) rows[row] = turned[row];
  }
#pragma GCC unroll 16
  for (int row = 0; row < kSize; ++row) store<Number>(into + row * into_stride, rows[row]);
}
#else
template <typename Number>
inline void transpose(const Number* from, std::int64_t stride, Number* into,
                      std::int64_t into_stride) {
  for (std::int64_t row = 0; row < kLanes<Number>; ++row)
    for (std::int64_t at = 0; at < kLanes<Number>; ++at)
      into[at * into_stride + row] = from[row * stride + at];
}
#endif

// Fill into[inner, columns] with from[columns, inner]^T, and zeros up to whole vectors of columns.
template <typename Number>
inline void turn(std::int64_t columns, std::int64_t inner, const Number* from, std::int64_t stride,
                 Number* into, std::int64_t into_stride) {
  constexpr std::int64_t kSize = kLanes<Number>;
  const std::int64_t width = padded<Number>(columns);
  for (std::int64_t first = 0; first < width; first += kSize) {
    std::int64_t begin = 0;
    if (first + kSize <= columns)
      for (; begin + kSize <= inner; begin += kSize)
        transpose<Number>(from + first * stride + begin, stride,
                          into + begin * into_stride + first, into_stride);
    for (std::int64_t column = first; column < first + kSize; ++column)
      for (std::int64_t k = begin; k < inner; ++k)
        into[k * into_stride + column] = column < columns ? from[column * stride + k] : Number(0);
  }
}

// out[rows, columns] = a[rows, inner] * b[columns, inner]^T. `turned` holds kInner panels' rows.
// Beyond `columns` the last vector of out's rows is zero.
template <typename Number>
void multiply_transposed(std::int64_t rows, std::int64_t columns, std::int64_t inner,
                         const Number* a, std::int64_t a_stride, const Number* b,
                         std::int64_t b_stride, Number* turned, Number* out,
                         std::int64_t out_stride) {
  constexpr std::int64_t kWidth = kPanel<Number>;
  for (std::int64_t first = 0; first < columns; first += kWidth) {
    const std::int64_t count = std::min(kWidth, columns - first);
    const std::int64_t width = padded<Number>(count);
    for (std::int64_t begin = 0; begin < inner; begin += kInner) {
      const std::int64_t size = std::min(kInner, inner - begin);
      turn<Number>(count, size, b + first * b_stride + begin, b_stride, turned, kWidth);
      multiply<Number>(rows, width, {size, a + begin, a_stride, turned, kWidth, out + first,
                                     out_stride, begin > 0});
    }
  }
}

}  // namespace drifting
