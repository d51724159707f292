// The samples of a feature, and the targets of one of its groups (a label and a vector).

#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace drifting {

// Samples [L, count, V, C] of one kind, whose channels lie side by side; strides are in numbers.
struct Samples {
  const void* numbers;
  std::int64_t count, of_label, of_sample, of_vector;
};

struct Feature {
  std::int64_t groups, vectors, channels;  // L*V, V, C
  Samples positive, generated, other;      // other may have none
  const void* units;                       // [L*V]: multiplies a group's samples; or null for ones

  std::int64_t targets() const { return positive.count + generated.count + other.count; }
};

// From one row of targets to the next: whole vectors, and an odd number of cache lines so that the
// rows of a panel do not compete for the same few places of a cache.
template <typename Number>
inline std::int64_t row_stride(std::int64_t channels) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(Number));
  const std::int64_t lines = (channels + kLine - 1) / kLine;
  return (lines > 1 ? lines | 1 : lines) * kLine;
}

// Gathers targets as [M, stride], in the order positives, generated samples, others, measured from
// the generated samples' mean: others may lie anywhere if they weigh nothing.
template <typename Number>
class Gathering {
 public:
  explicit Gathering(const Feature& feature) : feature_(feature), centre_(feature.channels) {}

  void group(std::int64_t group, Number* into, std::int64_t stride) {
    channels(group, 0, feature_.channels, into, stride);
  }

  // Some of the channels alone.
  void channels(std::int64_t group, std::int64_t first, std::int64_t count, Number* into,
                std::int64_t stride) {
    const Number* units = static_cast<const Number*>(feature_.units);
    const Number unit = units ? units[group] : Number(1);
    Number* centre = centre_.data();
    std::fill(centre, centre + count, Number(0));
    const Samples& generated = feature_.generated;
    for (std::int64_t n = 0; n < generated.count; ++n) {
      const Number* from = sample(generated, group, n) + first;
      for (std::int64_t c = 0; c < count; ++c) centre[c] += from[c] * unit;
    }
    for (std::int64_t c = 0; c < count; ++c) centre[c] /= Number(generated.count);
    for (const Samples* each : {&feature_.positive, &generated, &feature_.other}) {
      for (std::int64_t n = 0; n < each->count; ++n, into += stride) {
        const Number* from = sample(*each, group, n) + first;
        for (std::int64_t c = 0; c < count; ++c) into[c] = from[c] * unit - centre[c];
      }
    }
  }

  // Ask for a group that comes next: its samples lie far from one another, where no processor
  // looks ahead by itself.
  void look_ahead(std::int64_t group) const {
    if (group >= feature_.groups || feature_.channels > kAhead) return;
    for (const Samples* each : {&feature_.generated, &feature_.positive, &feature_.other})
      for (std::int64_t n = 0; n < each->count; ++n) {
        const Number* from = sample(*each, group, n);
        for (std::int64_t c = 0; c < feature_.channels; c += 64 / sizeof(Number))
          __builtin_prefetch(from + c);
      }
  }

 private:
  static constexpr std::int64_t kAhead = 64;  // channels up to which a group fits the first cache

  const Number* sample(const Samples& from, std::int64_t group, std::int64_t n) const {
    return static_cast<const Number*>(from.numbers) + group / feature_.vectors * from.of_label +
           n * from.of_sample + group % feature_.vectors * from.of_vector;
  }

  const Feature& feature_;
  Buffer<Number> centre_;
};

}  // namespace drifting
