// CPUID policy: the feature bits of cpuid_features.inc, and the leaves that are more than feature bits.
#include "cpu/cpuid.h"

#include <cpuid.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "cpu/cpu_model.h"
#include "cpu/cpuid_features.h"

namespace veneer::cpu {

namespace {

using Register = CpuidPolicy::Register;
using Leaf = CpuidPolicy::Leaf;

// Up to the TSC leaves; also on hosts that end earlier, so that 0x15 and 0x16 exist for every guest.
constexpr std::uint32_t max_basic_leaf = 0x16;
constexpr std::uint32_t max_extended_leaf_intel = 0x80000008;
// What QEMU's guests see, too. Firmware maps all that can be addressed: with 48 bits OVMF's page tables of 2 MiB pages
// take 512 MiB, and where these are not there it runs into its own stack.
constexpr unsigned most_physical_bits = 40;
constexpr std::uint32_t max_extended_leaf_amd = 0x80000021;
constexpr std::uint32_t hypervisor_base = 0x40000000;
constexpr std::uint32_t hypervisor_max_leaf = 0x40000010;
constexpr std::uint32_t apic_bus_khz = 1'000'000;

// KVM paravirtual features (leaf 0x40000001 EAX), as Linux' arch/x86 documentation of KVM's CPUID lists them.
constexpr std::uint32_t KVM_FEATURE_CLOCKSOURCE = 1u << 0;
constexpr std::uint32_t KVM_FEATURE_NOP_IO_DELAY = 1u << 1;
constexpr std::uint32_t KVM_FEATURE_CLOCKSOURCE2 = 1u << 3;
constexpr std::uint32_t KVM_FEATURE_STEAL_TIME = 1u << 5;
constexpr std::uint32_t KVM_FEATURE_PV_UNHALT = 1u << 7;
constexpr std::uint32_t KVM_FEATURE_PV_TLB_FLUSH = 1u << 9;
constexpr std::uint32_t KVM_FEATURE_PV_SEND_IPI = 1u << 11;
constexpr std::uint32_t KVM_FEATURE_PV_SCHED_YIELD = 1u << 13;
constexpr std::uint32_t KVM_FEATURE_CLOCKSOURCE_STABLE = 1u << 24;

// XCR0 components (SDM 1 13.1).
constexpr std::uint64_t XCR0_X87 = 1u << 0;
constexpr std::uint64_t XCR0_SSE = 1u << 1;
constexpr std::uint64_t XCR0_AVX = 1u << 2;
constexpr std::uint64_t XCR0_AVX512 = 7u << 5;
constexpr unsigned xsave_legacy_bytes = 512 + 64;

CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  CpuidResult result;
  const auto last = static_cast<std::uint32_t>(__get_cpuid_max(leaf & 0x80000000u, nullptr));
  if (leaf > last) return result;
  __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
  return result;
}

std::uint32_t& register_of(CpuidResult& result, Register reg) {
  switch (reg) {
    case Register::Eax:
      return result.eax;
    case Register::Ebx:
      return result.ebx;
    case Register::Ecx:
      return result.ecx;
    case Register::Edx:
      break;
  }
  return result.edx;
}

std::uint32_t register_of(const CpuidResult& result, Register reg) {
  CpuidResult copy = result;
  return register_of(copy, reg);
}

bool is_vendor(const CpuidResult& leaf0, std::string_view vendor) {
  char text[12];
  std::memcpy(text, &leaf0.ebx, 4);
  std::memcpy(text + 4, &leaf0.edx, 4);
  std::memcpy(text + 8, &leaf0.ecx, 4);
  return std::string_view(text, sizeof text) == vendor;
}

/// Bits an APIC id needs for `count` processors.
unsigned id_bits(unsigned count) { return static_cast<unsigned>(std::bit_width(count - 1)); }

bool is_amd(const CpuidResult& vendor) {
  // Hygon's processors are AMD's; Zhaoxin's and VIA's follow Intel.
  return is_vendor(vendor, "AuthenticAMD") || is_vendor(vendor, "HygonGenuine");
}

std::uint64_t enabled_xcr0() {
  constexpr std::uint32_t OSXSAVE = 1u << 27;
  if ((host_cpuid(1).ecx & OSXSAVE) == 0) return XCR0_X87;
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  std::uint64_t mask = low & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
  if ((mask & XCR0_AVX) == 0 || (mask & XCR0_AVX512) != XCR0_AVX512) mask &= ~XCR0_AVX512;
  return mask;
}

/// AVX and AVX-512 need their XCR0 components, which a host's own settings may withhold.
bool state_enabled(const FeatureBit& feature, std::uint64_t xcr0) {
  const std::string_view name = feature.name;
  if (name.starts_with("AVX512")) return (xcr0 & XCR0_AVX512) != 0;
  constexpr std::string_view need_avx[] = {"AVX", "AVX2", "FMA", "F16C", "VAES", "VPCLMULQDQ"};
  if (std::find(std::begin(need_avx), std::end(need_avx), name) != std::end(need_avx)) return (xcr0 & XCR0_AVX) != 0;
  return true;
}

/// XCR0 of a guest with these features (SDM 1 13.3).
std::uint64_t guest_xcr0(const FeatureSet& features, std::uint64_t host) {
  const auto has = [&](Feature feature) { return features.test(static_cast<std::size_t>(feature)); };
  if (!has(Feature::XSAVE)) return XCR0_X87;
  std::uint64_t mask = host;
  if (!has(Feature::AVX512F)) mask &= ~XCR0_AVX512;
  if (!has(Feature::AVX)) mask &= ~(XCR0_AVX | XCR0_AVX512);
  if (!has(Feature::SSE)) mask = XCR0_X87;
  return mask;
}

/// Puts leaves together: the feature table first, then what describes this machine.
class Builder {
 public:
  Builder(const CpuIdentity& identity, const FeatureSet& features, unsigned vcpus, std::uint64_t tsc_hz)
      : identity_(identity), features_(features), vcpus_(std::max(vcpus, 1u)), tsc_hz_(tsc_hz) {
    host_amd_ = is_amd(host_cpuid(0));
    amd_ = identity.intel_vendor ? false : host_amd_;
    intel_ = !amd_;
    host_xcr0_ = enabled_xcr0();
    xcr0_mask_ = guest_xcr0(features, host_xcr0_);
  }

  std::vector<Leaf> build() {
    add_identity();
    add_feature_bits();
    repeat_leaf_1();
    add_caches();
    add_topology();
    add_xsave();
    add_hypervisor();
    add_frequencies();
    add_sizes();
    add_svm();
    cut();
    return std::move(leaves_);
  }

  std::uint64_t xcr0_mask() const { return xcr0_mask_; }
  std::uint64_t host_xcr0() const { return host_xcr0_; }
  bool amd() const { return amd_; }
  unsigned physical_bits() const {
    // Without PAE, PSE-36 or long mode nothing above 4 GiB can be named (SDM 3A 4.1.4).
    if (!has(Feature::PAE) && !has(Feature::PSE36)) return 32;
    if (!has(Feature::LONG_MODE)) return 36;
    const unsigned bits = host_cpuid(0x80000008).eax & 0xff;
    return bits == 0 ? 36 : std::min(bits, most_physical_bits);
  }

 private:
  CpuidResult& at(std::uint32_t leaf, std::uint32_t subleaf, bool subleaf_matters) {
    for (Leaf& entry : leaves_) {
      if (entry.leaf == leaf && (!entry.subleaf_matters || entry.subleaf == subleaf)) return entry.result;
    }
    leaves_.push_back({leaf, subleaf, subleaf_matters, {}});
    return leaves_.back().result;
  }
  CpuidResult& at(std::uint32_t leaf) { return at(leaf, 0, false); }
  CpuidResult& at(std::uint32_t leaf, std::uint32_t subleaf) { return at(leaf, subleaf, true); }

  static bool has_subleaves(std::uint32_t leaf) { return leaf == 7 || leaf == 0xd; }

  bool has(Feature feature) const { return features_.test(static_cast<std::size_t>(feature)); }

  std::uint32_t max_extended_leaf() const {
    if (identity_.max_extended_leaf) return *identity_.max_extended_leaf;
    return amd_ ? max_extended_leaf_amd : max_extended_leaf_intel;
  }

  /// Vendor, family, model and stepping are the host's unless the model is a certain processor: guests choose code
  /// paths and workarounds by them.
  void add_identity() {
    at(0) = identity_.intel_vendor ? CpuidResult{0, 0x756e6547, 0x6c65746e, 0x49656e69} : host_cpuid(0);
    at(0).eax = identity_.max_basic_leaf.value_or(max_basic_leaf);
    at(1).eax = identity_.signature.value_or(host_cpuid(1).eax);
    // CLFLUSH size; APIC ids in the package
    if (has(Feature::CLFLUSH)) at(1).ebx = host_cpuid(1).ebx & 0x0000ff00u;
    if (has(Feature::HTT) || !identity_.signature) at(1).ebx |= std::min(1u << id_bits(vcpus_), 255u) << 16;
    at(0x80000000) = amd_ ? host_cpuid(0x80000000) : CpuidResult{};
    at(0x80000000).eax = max_extended_leaf();
    if (amd_) {
      at(0x80000001).eax = host_cpuid(0x80000001).eax;
      at(0x80000001).ebx = host_cpuid(0x80000001).ebx & 0xf0000000u;  // package type
    }
    add_brand();
  }

  void add_brand() {
    constexpr std::uint32_t first = 0x80000002;
    if (identity_.brand.empty()) {
      for (std::uint32_t leaf = first; leaf < first + 3; ++leaf) at(leaf) = host_cpuid(leaf);
      return;
    }
    char text[48] = {};
    std::memcpy(text, identity_.brand.data(), std::min(identity_.brand.size(), sizeof text - 1));
    for (std::uint32_t leaf = 0; leaf < 3; ++leaf) std::memcpy(&at(first + leaf), text + 16 * leaf, 16);
  }

  void add_feature_bits() {
    for (std::size_t i = 0; i < feature_count; ++i) {
      const FeatureBit& feature = feature_bits[i];
      CpuidResult& result = has_subleaves(feature.leaf) ? at(feature.leaf, feature.subleaf) : at(feature.leaf);
      if (features_.test(i)) register_of(result, feature.reg) |= 1u << feature.bit;
    }
    at(7, 0).eax = 1;  // highest subleaf
  }

  /// AMD's 0x80000001 EDX repeats these bits of leaf 1 (APM 3 E.4.2); on Intel they are zero.
  void repeat_leaf_1() {
    constexpr std::uint32_t repeated = 0x0183f3ff;
    if (amd_) at(0x80000001).edx |= at(1).edx & repeated;
  }

  /// Cache sizes are the host's; who shares them is this machine's (one-thread cores, the last level for all).
  void add_caches() {
    if (intel_) {
      // Of an AMD host nothing is known in leaf 2's terms: FFh says that leaf 4 has it (SDM 2A table 3-12).
      constexpr CpuidResult see_leaf_4{0x00ff0001, 0, 0, 0};
      at(2) = host_amd_ ? see_leaf_4 : host_cpuid(2);
      add_cache_leaf(4);
    } else {
      at(0x80000005) = host_cpuid(0x80000005);
      add_cache_leaf(0x8000001d);
    }
    at(0x80000006) = host_cpuid(0x80000006);
  }

  void add_cache_leaf(std::uint32_t leaf) {
    constexpr std::uint32_t max_caches = 8;
    for (std::uint32_t index = 0; index < max_caches; ++index) {
      // Both vendors' leaves have the same fields.
      CpuidResult cache = host_cpuid(host_amd_ ? 0x8000001d : 4, index);
      const std::uint32_t type = cache.eax & 0x1f;
      if (type == 0) {
        at(leaf, index) = {};
        break;
      }
      const std::uint32_t level = cache.eax >> 5 & 7;
      const std::uint32_t sharing = level >= 3 ? sharing_ids() - 1 : 0;
      cache.eax = (cache.eax & 0x3ffu) | sharing << 14;
      if (leaf == 4) cache.eax |= std::min(sharing_ids() - 1, 63u) << 26;  // core ids in the package
      at(leaf, index) = cache;
    }
  }

  /// APIC ids set aside for the package: a power of two.
  std::uint32_t sharing_ids() const { return std::min(1u << id_bits(vcpus_), 4096u); }

  /// `vcpus` cores of one thread each in one package; APIC id = vCPU number. EDX of 0xb is dynamic.
  void add_topology() {
    constexpr std::uint32_t thread_level = 1u << 8;
    constexpr std::uint32_t core_level = 2u << 8;
    at(0xb, 0) = {0, 1, thread_level | 0, 0};
    at(0xb, 1) = {id_bits(vcpus_), vcpus_, core_level | 1, 0};
    if (amd_) at(0x8000001e) = {};  // EAX (extended APIC id) and EBX (core id) are dynamic; one node
  }

  void add_xsave() {
    if (!has(Feature::XSAVE)) return;
    CpuidResult& sizes = at(0xd, 0);
    sizes.eax = static_cast<std::uint32_t>(xcr0_mask_);
    std::uint32_t largest = xsave_legacy_bytes;
    for (std::uint32_t component = 2; component < 8; ++component) {
      if ((xcr0_mask_ >> component & 1) == 0) continue;
      // Offsets differ between vendors, and areas are saved natively: they must be the host's.
      CpuidResult area = host_cpuid(0xd, component);
      area.ecx &= 2;  // bit 1: aligned to 64 in the compacted format; bit 0 would say supervisor state
      area.edx = 0;
      largest = std::max(largest, area.eax + area.ebx);
      at(0xd, component) = area;
    }
    at(0xd, 0).ecx = largest;
  }

  /// We speak KVM's paravirtual clock, so that guests need no PIT to find the TSC's frequency.
  void add_hypervisor() {
    if (!has(Feature::HYPERVISOR)) return;
    CpuidResult& signature = at(hypervisor_base);
    signature = {hypervisor_max_leaf, 0x4b4d564b, 0x564b4d56, 0x4d};  // "KVMKVMKVM\0\0\0"
    at(hypervisor_base + 1).eax = KVM_FEATURE_CLOCKSOURCE | KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 |
                                  KVM_FEATURE_STEAL_TIME | KVM_FEATURE_CLOCKSOURCE_STABLE;
    // Spinning and waking among several processors: hypercalls (cpu/bt/callouts_hypercall.cc), and the flags beside
    // the steal time (cpu/bt/steal_time.cc).
    if (vcpus_ > 1)
      at(hypervisor_base + 1).eax |=
          KVM_FEATURE_PV_UNHALT | KVM_FEATURE_PV_TLB_FLUSH | KVM_FEATURE_PV_SEND_IPI | KVM_FEATURE_PV_SCHED_YIELD;
    at(hypervisor_base + 0x10) = {static_cast<std::uint32_t>(tsc_hz_ / 1000), apic_bus_khz, 0, 0};
  }

  /// Leaf 0x15 names the crystal clock, which Linux takes for the APIC timer's, so it is the APIC bus clock; the
  /// ratio is the closest whose numerator times crystal kHz fits 32 bits, for Linux multiplies so.
  void add_frequencies() {
    constexpr std::uint64_t largest_numerator = 0xffffffffu / apic_bus_khz;
    std::uint64_t numerator = tsc_hz_, denominator = std::uint64_t{apic_bus_khz} * 1000;
    // Continued fraction: (p1, q1) is the latest convergent of numerator/denominator.
    std::uint64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0;
    while (denominator != 0) {
      const std::uint64_t term = numerator / denominator;
      if (p1 != 0 && term > (largest_numerator - p0) / p1) break;
      const std::uint64_t p2 = term * p1 + p0, q2 = term * q1 + q0;
      p0 = p1, q0 = q1, p1 = p2, q1 = q2;
      const std::uint64_t rest = numerator % denominator;
      numerator = denominator;
      denominator = rest;
    }
    if (q1 != 0 && p1 != 0) {
      at(0x15) = {static_cast<std::uint32_t>(q1), static_cast<std::uint32_t>(p1), apic_bus_khz * 1000, 0};
    }
    const auto mhz = static_cast<std::uint32_t>(tsc_hz_ / 1'000'000);
    at(0x16) = {mhz & 0xffffu, mhz & 0xffffu, 100, 0};
  }

  void add_sizes() {
    constexpr std::uint32_t virtual_bits = 48;  // no LA57
    if (!has(Feature::LONG_MODE)) return;
    CpuidResult& sizes = at(0x80000008);
    sizes.eax = virtual_bits << 8 | physical_bits();
    if (amd_) sizes.ecx = id_bits(vcpus_) << 12 | std::min(vcpus_ - 1, 255u);
  }

  void add_svm() {
    if (!has(Feature::SVM)) return;
    constexpr std::uint32_t revision = 1;
    at(0x8000000a).eax = revision;
    at(0x8000000a).ebx = svm_asids;
  }

  /// Old processors end early, and what they end with nobody has described.
  void cut() {
    const std::uint32_t basic = at(0).eax, extended = max_extended_leaf();
    std::erase_if(leaves_, [&](const Leaf& entry) {
      if (entry.leaf >= 0x80000000) return entry.leaf > extended;
      return entry.leaf < hypervisor_base && entry.leaf > basic;
    });
  }

  const CpuIdentity& identity_;
  const FeatureSet& features_;
  unsigned vcpus_;
  std::uint64_t tsc_hz_;
  bool host_amd_ = false, amd_ = false, intel_ = false;
  std::uint64_t xcr0_mask_ = 0, host_xcr0_ = 0;
  std::vector<Leaf> leaves_;
};

const Leaf* find_leaf(const std::vector<Leaf>& leaves, std::uint32_t leaf, std::uint32_t subleaf) {
  for (const Leaf& entry : leaves) {
    if (entry.leaf == leaf && (!entry.subleaf_matters || entry.subleaf == subleaf)) return &entry;
  }
  return nullptr;
}

/// Bytes of an XSAVE image of the components in `components` (SDM 1 13.4.2, 13.4.3).
std::uint32_t xsave_bytes(const std::vector<Leaf>& leaves, std::uint64_t components, bool compacted) {
  std::uint32_t size = xsave_legacy_bytes;
  for (std::uint32_t component = 2; component < 63; ++component) {
    if ((components >> component & 1) == 0) continue;
    const Leaf* area = find_leaf(leaves, 0xd, component);
    if (area == nullptr) continue;
    if (!compacted) {
      size = std::max(size, area->result.eax + area->result.ebx);
      continue;
    }
    if (area->result.ecx & 2) size = (size + 63) & ~63u;
    size += area->result.eax;
  }
  return size;
}

}  // namespace

FeatureSet host_features(unsigned vcpus) {
  const bool amd = is_amd(host_cpuid(0));
  const std::uint64_t xcr0 = enabled_xcr0();
  const auto offered = [&](const FeatureBit& feature) {
    switch (feature.source) {
      case FeatureSource::Host:
      case FeatureSource::Behaviour:
        return (register_of(host_cpuid(feature.leaf, feature.subleaf), feature.reg) >> feature.bit & 1) != 0 &&
               state_enabled(feature, xcr0);
      case FeatureSource::Engine:
        return true;
      case FeatureSource::Topology:
        return vcpus > 1;
      case FeatureSource::Intel:
        return !amd;
      case FeatureSource::Amd:
      case FeatureSource::Nested:
        return amd;
    }
    return false;
  };
  FeatureSet set;
  for (std::size_t i = 0; i < feature_count; ++i) set.set(i, offered(feature_bits[i]));
  return set;
}

Result<CpuidPolicy> CpuidPolicy::make(const CpuChoice& choice, unsigned vcpus, std::uint64_t tsc_hz) {
  TRY(const FeatureSet features, choice.features(host_features(vcpus)));
  const CpuIdentity identity = choice.identity();
  Builder builder(identity, features, vcpus, tsc_hz);
  CpuidPolicy policy;
  policy.leaves_ = builder.build();
  policy.max_basic_leaf_ = policy.leaves_.front().result.eax;
  policy.xcr0_mask_ = builder.xcr0_mask();
  policy.host_xcr0_ = builder.host_xcr0();
  policy.physical_bits_ = builder.physical_bits();
  policy.amd_ = builder.amd();
  policy.tsc_hz_ = tsc_hz;
  return policy;
}

CpuidPolicy CpuidPolicy::host(unsigned vcpus, std::uint64_t tsc_hz) {
  return make(CpuChoice{}, vcpus, tsc_hz).value();  // the host has what the host has
}

unsigned CpuidPolicy::family() const {
  const Leaf* entry = find_leaf(leaves_, 1, 0);
  const std::uint32_t signature = entry != nullptr ? entry->result.eax : 0;
  const unsigned family = signature >> 8 & 0xf;
  return family == 0xf ? family + (signature >> 20 & 0xff) : family;
}

void CpuidPolicy::hide_random_numbers() {
  for (Leaf& entry : leaves_) {
    if (entry.leaf == 1) entry.result.ecx &= ~(1u << 30);
    if (entry.leaf == 7 && entry.subleaf == 0) entry.result.ebx &= ~(1u << 18);
  }
}

CpuidResult CpuidPolicy::query(std::uint32_t leaf, std::uint32_t subleaf, const Dynamic& dynamic) const {
  constexpr std::uint32_t OSXSAVE = 1u << 27;
  constexpr std::uint32_t APIC = 1u << 9;

  // Past the last basic leaf processors answer with the last one (Intel) or zero (AMD): zero is what code expects.
  const Leaf* entry = find_leaf(leaves_, leaf, subleaf);
  CpuidResult result = entry != nullptr ? entry->result : CpuidResult{};
  switch (leaf) {
    case 1:
      result.ebx |= dynamic.apic_id << 24;
      if (dynamic.osxsave) result.ecx |= OSXSAVE;
      if (!dynamic.apic_enabled) result.edx &= ~APIC;
      break;
    case 0xb:
      // Also in the subleaves past the last level (SDM 2A, CPUID leaf 0BH); ECX[7:0] echoes the input.
      if (max_basic_leaf_ < leaf) break;
      result.edx = dynamic.apic_id;
      if (entry == nullptr) result.ecx = subleaf & 0xff;
      break;
    case 0xd:
      if (entry == nullptr) break;
      if (subleaf == 0) result.ebx = xsave_bytes(leaves_, dynamic.xcr0, false);
      if (subleaf == 1 && has(0xd, 1, Register::Eax, 1)) result.ebx = xsave_bytes(leaves_, dynamic.xcr0, true);
      break;
    case 0x80000001:
      // AMD's copy of leaf 1's bit; Intel has none.
      if (!dynamic.apic_enabled) result.edx &= ~APIC;
      break;
    case 0x8000001e:
      if (entry == nullptr) break;
      result.eax = dynamic.apic_id;
      result.ebx = dynamic.apic_id & 0xff;
      break;
    default:
      break;
  }
  return result;
}

bool CpuidPolicy::has(std::uint32_t leaf, std::uint32_t subleaf, Register reg, unsigned bit) const {
  const Leaf* entry = find_leaf(leaves_, leaf, subleaf);
  return entry != nullptr && (register_of(entry->result, reg) >> bit & 1) != 0;
}

}  // namespace veneer::cpu
