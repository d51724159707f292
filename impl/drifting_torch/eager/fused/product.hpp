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

template <typename Number, int kRows, int kVectors>
inline void tile(std::int64_t inner, const Number* a, std::int64_t a_stride, const Number* b,
                 std::int64_t b_stride, bool add, Number* out, std::int64_t out_stride) {
  Vector<Number> sum[kRows][kVectors] = {};
  for (std::int64_t k = 0; k < inner; ++k) {
    Vector<Number> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + k * b_stride + v * kLanes<Number>);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Number factor = a[r * a_stride + k];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Number* into = out + r * out_stride + v * kLanes<Number>;
      store<Number>(into, add ? load(into) + sum[r][v] : sum[r][v]);
    }
  }
}

// The rows of one panel: as many tiles as fit, then halves of one.
template <typename Number, int kVectors, int kRows = kTileRows>
inline void panel(std::int64_t rows, std::int64_t inner, const Number* a, std::int64_t a_stride,
                  const Number* b, std::int64_t b_stride, bool add, Number* out,
                  std::int64_t out_stride) {
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    tile<Number, kRows, kVectors>(inner, a + row * a_stride, a_stride, b, b_stride, add,
                                  out + row * out_stride, out_stride);
  if constexpr (kRows > 1)
    if (row < rows)
      panel<Number, kVectors, kRows / 2>(rows - row, inner, a + row * a_stride, a_stride, b,
                                         b_stride, add, out + row * out_stride, out_stride);
}

// out[rows, columns] = a[rows, inner] * b[inner, columns], or that added to what is there.
// Columns are whole vectors.
template <typename Number>
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t inner, const Number* a,
              std::int64_t a_stride, const Number* b, std::int64_t b_stride, bool add, Number* out,
              std::int64_t out_stride) {
  for (std::int64_t first = 0; first < columns; first += kPanel<Number>) {
    const Number* from = b + first;
    Number* into = out + first;
    const std::int64_t vectors = (columns - first) / kLanes<Number>;
    if (vectors >= 3)
      panel<Number, 3>(rows, inner, a, a_stride, from, b_stride, add, into, out_stride);
    else if (vectors == 2)
      panel<Number, 2>(rows, inner, a, a_stride, from, b_stride, add, into, out_stride);
    else
      panel<Number, 1>(rows, inner, a, a_stride, from, b_stride, add, into, out_stride);
  }
}

constexpr std::int64_t kInner = 128;  // rows of a transposed panel, which is to fit the first cache

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
      for (std::int64_t column = 0; column < width; ++column) {
        const Number* from = b + (first + column) * b_stride + begin;
        for (std::int64_t k = 0; k < size; ++k)
          turned[k * kWidth + column] = column < count ? from[k] : Number(0);
      }
      multiply<Number>(rows, width, size, a + begin, a_stride, turned, kWidth, begin > 0,
                       out + first, out_stride);
    }
  }
}

}  // namespace drifting
