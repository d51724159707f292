// Vectors of numbers as wide as the processor's registers, and powers of two on them.
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

// One number from all lanes, by halves: `join` takes two vectors and gives one.
template <typename Number, int kBytes = kVectorBytes, typename V, typename Join>
inline Number across(V vector, Join join) {
  if constexpr (kBytes <= 16) {
    Number found = vector[0];
    for (int lane = 1; lane < kBytes / static_cast<int>(sizeof(Number)); ++lane)
      found = join(found, vector[lane]);
    return found;
  } else {
    typedef Number Half __attribute__((vector_size(kBytes / 2)));
    Half halves[2];
    std::memcpy(halves, &vector, sizeof halves);
    return across<Number, kBytes / 2>(Half(join(halves[0], halves[1])), join);
  }
}

template <typename Number>
inline Number sum_of(Vector<Number> vector) {
  return across<Number>(vector, [](auto a, auto b) { return a + b; });
}

template <typename Number>
inline Number least_of(Vector<Number> vector) {
  return across<Number>(vector, [](auto a, auto b) { return b < a ? b : a; });
}

// The sum of squares: of some vectors in their own precision, of all in double. Squares that leave
// the range of their precision are formed in double as well.
template <typename Number>
inline double squares_of(std::int64_t count, const Number* numbers) {
  constexpr std::int64_t kBlock = 32 * kLanes<Number>;
  double total = 0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t size = count - begin < kBlock ? count - begin : kBlock;
    const Number* from = numbers + begin;
    Vector<Number> sums{};
    std::int64_t at = 0;
    for (; at + kLanes<Number> <= size; at += kLanes<Number>) {
      const Vector<Number> vector = load(from + at);
      sums += vector * vector;
    }
    double sum = sum_of<Number>(sums);
    for (; at < size; ++at) sum += static_cast<double>(from[at]) * static_cast<double>(from[at]);
    if (!(sum > 1e-30 && sum < 1e30)) {
      sum = 0;
      for (at = 0; at < size; ++at)
        sum += static_cast<double>(from[at]) * static_cast<double>(from[at]);
    }
    total += sum;
  }
  return total;
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

// 2^r = series in r for |r| <= 1/2, to below the rounding of either type.
template <typename Number>
struct Exponential;

template <>
struct Exponential<float> {
  using Bits = std::int32_t;
  static constexpr float lowest = -125.0f;     // below it the result is 0
  static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  static constexpr int mantissa = 23, bias = 127, degree = 6;
  // Of least relative error, 1.9e-9.
  static constexpr float series[] = {1.0000000005541663f,    0.6931472057372676f,
                                     0.24022646890634652f,   0.055503287769653374f,
                                     0.009618488957075231f,  0.0013399931219193481f,
                                     0.00015345812011544304f};
};

template <>
struct Exponential<double> {
  using Bits = std::int64_t;
  static constexpr double lowest = -1020.0;
  static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
  // ln(2)^k / k!: the first term left out is 4e-18.
  static constexpr double series[] = {
      1.0,
      0.69314718055994531,
      0.24022650695910071,
      0.055504108664821580,
      0.0096181291076284772,
      0.0013333558146428443,
      0.00015403530393381610,
      1.5252733804059840e-05,
      1.3215486790144309e-06,
      1.0178086009239699e-07,
      7.0549116208011233e-09,
      4.4455382718708119e-10,
      2.5678435993488208e-11,
      1.3691488853904129e-12};
};

// 2^x for x that do not overflow; not-a-number stays one.
template <typename Number>
inline Vector<Number> power_of_two(Vector<Number> x) {
  using Of = Exponential<Number>;
  using Unsigned = std::make_unsigned_t<typename Of::Bits>;
  const auto vanishes = x < Of::lowest;
  const Vector<Number> inside = vanishes ? Of::lowest + Vector<Number>{} : x;
  const Vector<Number> shifted = inside + Of::magic;
  const Vector<Number> rest = inside - (shifted - Of::magic);
  Vector<Number> series = Of::series[Of::degree] + Vector<Number>{};
#pragma GCC unroll 16
  for (int k = Of::degree - 1; k >= 0; --k) series = series * rest + Of::series[k];
  // The whole number stands in the mantissa's lowest bits; shifted up it is the exponent's.
  const auto power = ((Vector<Unsigned>)shifted << Of::mantissa) +
                     (Unsigned(Of::bias) << Of::mantissa);
  return vanishes ? Vector<Number>{} : series * (Vector<Number>)power;
}

}  // namespace drifting
