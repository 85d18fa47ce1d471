// CPU models: what --cpu says, and which features and identity a guest's processor has by it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cpu/cpuid_features.h"

namespace veneer::cpu {

/// What CPUID says besides features. Empty fields are the host's.
struct CpuIdentity {
  bool intel_vendor = false;               ///< "GenuineIntel" whatever the host is
  std::optional<std::uint32_t> signature;  ///< leaf 1 EAX: family, model, stepping
  std::optional<std::uint32_t> max_basic_leaf, max_extended_leaf;
  std::string_view brand;
};

/// A model and what was switched: "x86-64-v3,+aes,-avx2".
struct CpuChoice {
  std::string text = "host";
  unsigned model = 0;  ///< row of the table in cpu_model.cc; 0: host
  FeatureSet on, off;

  /// The features of this processor on a host that has `available`. What needs a feature that is off goes off with
  /// it. Errors: `available` lacks what the model or a + asks for; a + lacks what it needs.
  Result<FeatureSet> features(const FeatureSet& available) const;
  CpuIdentity identity() const;
};

/// Parses --cpu: a model, then features with + or - in front, as /proc/cpuinfo or QEMU call them. Errors: unknown
/// words, features that cannot be switched, contradictions.
Result<CpuChoice> parse_cpu(const std::string& text);

/// The feature's name as /proc/cpuinfo has it: "pni", "sse4_1".
std::string feature_name(Feature feature);

/// False for bits that only describe the host's processor or the machine.
bool switchable(Feature feature);

/// What `--cpu help` prints: models, features, and what this host has of them.
std::string describe_cpu_models();

}  // namespace veneer::cpu
