// Names for the CPUID feature bits of cpuid_features.inc.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "cpu/cpuid.h"

namespace veneer::cpu {

enum class Feature : std::uint8_t {
#define FEATURE(name, leaf, subleaf, reg, bit, source) name,
#include "cpu/cpuid_features.inc"
#undef FEATURE
};

/// Who provides a feature (cpuid_features.inc).
enum class FeatureSource : std::uint8_t { Host, Engine, Topology, Intel, Amd, Nested, Behaviour };

struct FeatureBit {
  const char* name;
  std::uint32_t leaf, subleaf;
  CpuidPolicy::Register reg;
  unsigned bit;
  FeatureSource source;
};

inline constexpr FeatureBit feature_bits[] = {
#define FEATURE(name, leaf, subleaf, reg, bit, source) \
  {#name, leaf, subleaf, CpuidPolicy::Register::reg, bit, FeatureSource::source},
#include "cpu/cpuid_features.inc"
#undef FEATURE
};

inline constexpr std::size_t feature_count = std::size(feature_bits);
/// Indexed by Feature.
using FeatureSet = std::bitset<feature_count>;

/// What a guest could be offered here: host features that the translator supports, and the engine's own.
FeatureSet host_features(unsigned vcpus);

/// True when the guest's CPUID shows the feature.
inline bool has(const CpuidPolicy& policy, Feature feature) {
  const FeatureBit& bit = feature_bits[static_cast<unsigned>(feature)];
  return policy.has(bit.leaf, bit.subleaf, bit.reg, bit.bit);
}

}  // namespace veneer::cpu
