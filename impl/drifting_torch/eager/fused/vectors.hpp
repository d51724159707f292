// Vectors of numbers as wide as the processor's registers, and the exponential on them.
//
// GCC's and Clang's own vector types: ordinary operators, no intrinsics, any processor.

#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

namespace drifting {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename Number>
constexpr std::int64_t kLanes = kVectorBytes / static_cast<int>(sizeof(Number));

template <typename Number>
struct VectorOf {
  typedef Number Type __attribute__((vector_size(kVectorBytes)));
};

template <typename Number>
using Vector = typename VectorOf<Number>::Type;

template <typename Number>
inline Vector<Number> load(const Number* from) {
  Vector<Number> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename Number>
inline void store(Number* into, Vector<Number> vector) {
  std::memcpy(into, &vector, sizeof vector);
}

template <typename Number>
inline Number sum_of(Vector<Number> vector) {
  Number sum = 0;
  for (int lane = 0; lane < kLanes<Number>; ++lane) sum += vector[lane];
  return sum;
}

// The next whole number of vectors.
template <typename Number>
inline std::int64_t padded(std::int64_t count) {
  return (count + kLanes<Number> - 1) / kLanes<Number> * kLanes<Number>;
}

// Zeros that begin where a cache line does, so that no vector lies across two.
template <typename Number>
class Buffer {
 public:
  explicit Buffer(std::int64_t count)
      : numbers_(static_cast<Number*>(::operator new(sizeof(Number) * count, kLine))) {
    std::memset(static_cast<void*>(numbers_), 0, sizeof(Number) * count);
  }
  ~Buffer() { ::operator delete(numbers_, kLine); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Number* data() { return numbers_; }

 private:
  static constexpr std::align_val_t kLine{64};
  Number* numbers_;
};

template <typename Number>
struct Exponential;

template <>
struct Exponential<float> {
  using Bits = std::int32_t;
  static constexpr float lowest = -87.0f;      // below it the result is 0
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

// e^x for x that do not overflow; not-a-number stays one.
template <typename Number>
inline Vector<Number> exponential(Vector<Number> x) {
  using Of = Exponential<Number>;
  using Bits = Vector<typename Of::Bits>;
  const auto vanishes = x < Of::lowest;
  const Vector<Number> inside = vanishes ? Of::lowest + Vector<Number>{} : x;
  const Vector<Number> shifted = inside * Number(1.4426950408889634) + Of::magic;
  const Vector<Number> whole = shifted - Of::magic;
  const Vector<Number> rest = (inside - whole * Of::ln2_high) - whole * Of::ln2_low;
  Vector<Number> series = Number(kInverseFactorial[Of::terms]) + Vector<Number>{};
#pragma GCC unroll 16
  for (int k = Of::terms - 1; k >= 0; --k) series = series * rest + Number(kInverseFactorial[k]);
  // The whole number stands in the mantissa's lowest bits; shifted up it is the exponent's.
  using Unsigned = Vector<std::make_unsigned_t<typename Of::Bits>>;
  const auto power = ((Unsigned)shifted << Of::mantissa) +
                     (std::make_unsigned_t<typename Of::Bits>(Of::bias) << Of::mantissa);
  static_assert(sizeof(Bits) == sizeof(power), "one exponent a number");
  return vanishes ? Vector<Number>{} : series * (Vector<Number>)power;
}

}  // namespace drifting
