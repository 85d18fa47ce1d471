// CPU models: the table of models, the names of features, and what needs what.
#include "cpu/cpu_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <vector>

namespace veneer::cpu {

namespace {

constexpr std::size_t index_of(Feature feature) { return static_cast<std::size_t>(feature); }
constexpr Feature feature_at(std::size_t index) { return static_cast<Feature>(index); }

/// What /proc/cpuinfo and QEMU call a feature, where that is not our name in lower case.
struct Names {
  Feature feature;
  const char* linux_name;
  const char* qemu_name;
};
constexpr Names other_names[] = {
    {Feature::SSE3, "pni", "sse3"},
    {Feature::CMPXCHG16B, "cx16", "cx16"},
    {Feature::CMPXCHG8B, "cx8", "cx8"},
    {Feature::TSC_DEADLINE, "tsc_deadline_timer", "tsc-deadline"},
    {Feature::CLFLUSH, "clflush", "clfsh"},
    {Feature::HTT, "ht", "ht"},
    {Feature::SHA, "sha_ni", "sha-ni"},
    {Feature::LZCNT, "abm", "lzcnt"},
    {Feature::PREFETCHW, "3dnowprefetch", "3dnowprefetch"},
    {Feature::TOPOLOGY_EXTENSIONS, "topoext", "topoext"},
    {Feature::PAGE_1GB, "pdpe1gb", "pdpe1gb"},
    {Feature::LONG_MODE, "lm", "lm"},
    {Feature::INVARIANT_TSC, "nonstop_tsc", "invtsc"},
    {Feature::AVX512_IFMA, "avx512ifma", "avx512ifma"},
    {Feature::AVX512_VBMI, "avx512vbmi", "avx512vbmi"},
    {Feature::AVX512_VBMI2, "avx512_vbmi2", "avx512vbmi2"},
    {Feature::AVX512_VNNI, "avx512_vnni", "avx512vnni"},
    {Feature::AVX512_BITALG, "avx512_bitalg", "avx512bitalg"},
    {Feature::AVX512_VPOPCNTDQ, "avx512_vpopcntdq", "avx512-vpopcntdq"},
    {Feature::AVX512_BF16, "avx512_bf16", "avx512-bf16"},
    {Feature::MMXEXT, "mmxext", "mmxext"},
    {Feature::FSRM, "fsrm", "fsrm"},
    {Feature::SPEC_CTRL, "spec_ctrl", "spec-ctrl"},
    {Feature::AMD_IBRS, "ibrs", "ibrs"},
    {Feature::AMD_SSB_NO, "ssb_no", "amd-no-ssb"},
    {Feature::X2APIC, "x2apic", "x2apic"},
    {Feature::RDRAND, "rdrand", "rdrand"},
};

/// `feature` is useless or impossible without `needs` (SDM 1 chapters 11 to 15, 2A CPUID).
struct Dependency {
  Feature feature, needs;
};
constexpr Dependency dependencies[] = {
    {Feature::MMX, Feature::FPU},
    {Feature::FXSR, Feature::FPU},
    {Feature::MMXEXT, Feature::MMX},
    {Feature::SSE, Feature::FXSR},
    {Feature::SSE2, Feature::SSE},
    {Feature::SSE3, Feature::SSE2},
    {Feature::SSSE3, Feature::SSE3},
    {Feature::SSE4_1, Feature::SSSE3},
    {Feature::SSE4_2, Feature::SSE4_1},
    {Feature::SSE4A, Feature::SSE3},
    {Feature::MISALIGNSSE, Feature::SSE},
    {Feature::AES, Feature::SSE2},
    {Feature::PCLMULQDQ, Feature::SSE2},
    {Feature::SHA, Feature::SSSE3},
    {Feature::GFNI, Feature::SSE2},
    {Feature::XSAVE, Feature::FXSR},
    {Feature::XSAVEOPT, Feature::XSAVE},
    {Feature::XSAVEC, Feature::XSAVE},
    {Feature::XGETBV1, Feature::XSAVE},
    {Feature::AVX, Feature::XSAVE},
    {Feature::AVX, Feature::SSE2},
    {Feature::AVX2, Feature::AVX},
    {Feature::FMA, Feature::AVX},
    {Feature::F16C, Feature::AVX},
    {Feature::VAES, Feature::AVX},
    {Feature::VAES, Feature::AES},
    {Feature::VPCLMULQDQ, Feature::AVX},
    {Feature::VPCLMULQDQ, Feature::PCLMULQDQ},
    {Feature::AVX512F, Feature::AVX2},
    {Feature::AVX512F, Feature::FMA},
    {Feature::AVX512F, Feature::F16C},
    {Feature::AVX512DQ, Feature::AVX512F},
    {Feature::AVX512_IFMA, Feature::AVX512F},
    {Feature::AVX512CD, Feature::AVX512F},
    {Feature::AVX512BW, Feature::AVX512F},
    {Feature::AVX512VL, Feature::AVX512F},
    {Feature::AVX512_VNNI, Feature::AVX512F},
    {Feature::AVX512_VPOPCNTDQ, Feature::AVX512F},
    {Feature::AVX512_VBMI, Feature::AVX512BW},
    {Feature::AVX512_VBMI2, Feature::AVX512BW},
    {Feature::AVX512_BITALG, Feature::AVX512BW},
    {Feature::AVX512_BF16, Feature::AVX512BW},
    {Feature::PSE36, Feature::PSE},
    {Feature::NX, Feature::PAE},
    {Feature::LONG_MODE, Feature::PAE},
    {Feature::LONG_MODE, Feature::MSR},
    {Feature::LONG_MODE, Feature::SYSCALL},
    {Feature::LAHF_LM, Feature::LONG_MODE},
    {Feature::PAGE_1GB, Feature::LONG_MODE},
    {Feature::PCID, Feature::LONG_MODE},
    {Feature::FSGSBASE, Feature::LONG_MODE},
    {Feature::CMPXCHG16B, Feature::LONG_MODE},
    {Feature::CMPXCHG16B, Feature::CMPXCHG8B},
    {Feature::SYSCALL, Feature::MSR},
    {Feature::NX, Feature::MSR},
    {Feature::SEP, Feature::MSR},
    {Feature::MTRR, Feature::MSR},
    {Feature::PAT, Feature::MSR},
    {Feature::MCA, Feature::MSR},
    {Feature::MCA, Feature::MCE},
    {Feature::APIC, Feature::MSR},
    {Feature::X2APIC, Feature::APIC},
    {Feature::TSC_DEADLINE, Feature::APIC},
    {Feature::TSC_DEADLINE, Feature::TSC},
    {Feature::ARAT, Feature::APIC},
    {Feature::TSC_ADJUST, Feature::TSC},
    {Feature::TSC_ADJUST, Feature::MSR},
    {Feature::RDTSCP, Feature::TSC},
    {Feature::RDTSCP, Feature::MSR},
    {Feature::INVARIANT_TSC, Feature::TSC},
    {Feature::SPEC_CTRL, Feature::MSR},
    {Feature::AMD_IBRS, Feature::MSR},
    {Feature::ARCH_CAPABILITIES, Feature::MSR},
    {Feature::OSVW, Feature::MSR},
    {Feature::SVM, Feature::LONG_MODE},
    {Feature::NPT, Feature::SVM},
    {Feature::NRIP_SAVE, Feature::SVM},
    {Feature::VMCB_CLEAN, Feature::SVM},
    {Feature::FLUSHBYASID, Feature::SVM},
};

/// A model's features: those of `base`, `more`, and for `modern` ones all of the engine's, vendor's and machine's own.
struct Model {
  const char* name;
  const char* what;
  const Model* base;
  bool modern;
  CpuIdentity identity;
  std::initializer_list<Feature> more;
};

using enum Feature;

constexpr std::initializer_list<Feature> none = {};
// What user programs may use at each level (x86-64 psABI 3.1.1); the rest of "baseline" is what every such processor
// has.
constexpr std::initializer_list<Feature> v1_more = {FPU, TSC, CMPXCHG8B, CMOV, CLFLUSH, MMX, FXSR, SSE, SSE2};
constexpr std::initializer_list<Feature> v2_more = {CMPXCHG16B, LAHF_LM, POPCNT, SSE3, SSSE3, SSE4_1, SSE4_2};
constexpr std::initializer_list<Feature> v3_more = {AVX,   AVX2,  BMI1,  BMI2,     F16C,   FMA,
                                                    LZCNT, MOVBE, XSAVE, XSAVEOPT, XSAVEC, XGETBV1};
constexpr std::initializer_list<Feature> v4_more = {AVX512F, AVX512BW, AVX512CD, AVX512DQ, AVX512VL};
// Intel's data sheets: i486DX4 (the first with CPUID), Pentium III, Core 2 Duo T7700.
constexpr std::initializer_list<Feature> i486_more = {FPU, VME, PSE};
constexpr std::initializer_list<Feature> p3_more = {DE,  TSC, MSR,  PAE, MCE,   CMPXCHG8B, APIC, SEP, MTRR,
                                                    PGE, MCA, CMOV, PAT, PSE36, MMX,       FXSR, SSE, HYPERVISOR};
constexpr std::initializer_list<Feature> core2_more = {CLFLUSH, SSE2,      SSE3,    SSSE3, CMPXCHG16B,
                                                       LAHF_LM, LONG_MODE, SYSCALL, NX,    HTT};

constexpr Model v1{"x86-64-v1", "the first 64-bit processors",           nullptr,
                   true,        {false, {}, {}, {}, "Veneer x86-64-v1"}, v1_more};
constexpr Model v2{"x86-64-v2", "... with SSE4.2 and POPCNT (2009)",     &v1,
                   true,        {false, {}, {}, {}, "Veneer x86-64-v2"}, v2_more};
constexpr Model v3{"x86-64-v3", "... with AVX2, FMA and BMI (2013)",     &v2,
                   true,        {false, {}, {}, {}, "Veneer x86-64-v3"}, v3_more};
constexpr Model v4{"x86-64-v4", "... with AVX-512 (2017)", &v3, true, {false, {}, {}, {}, "Veneer x86-64-v4"}, v4_more};
constexpr Model i486{"486", "Intel i486DX4: 32 bits, CPUID, no TSC, MSRs or APIC", nullptr,
                     false, {true, 0x480, 1, 0x80000000, "Intel i486DX4"},         i486_more};
constexpr Model pentium3{
    "pentium3", "Intel Pentium III: 32 bits, SSE", &i486, false, {true, 0x673, 2, 0x80000000, "Intel Pentium III"},
    p3_more};
constexpr Model core2duo{"core2duo",
                         "Intel Core 2 Duo: 64 bits, SSSE3",
                         &pentium3,
                         false,
                         {true, 0x6fb, 10, 0x80000008, "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz"},
                         core2_more};
constexpr Model host{"host", "what this host has and Veneer can offer (the default)", nullptr, true, {}, none};

constexpr const Model* models[] = {&host, &v1, &v2, &v3, &v4, &i486, &pentium3, &core2duo};

/// What comes with +svm, all of it unless switched off by name.
FeatureSet nested_features() {
  FeatureSet set;
  for (std::size_t i = 0; i < feature_count; ++i) set.set(i, feature_bits[i].source == FeatureSource::Nested);
  return set;
}

FeatureSet features_of(const Model& model, const FeatureSet& available) {
  if (&model == &host) return available & ~nested_features();
  FeatureSet set;
  for (const Model* level = &model; level != nullptr; level = level->base)
    for (const Feature feature : level->more) set.set(index_of(feature));
  for (std::size_t i = 0; i < feature_count; ++i) {
    switch (feature_bits[i].source) {
      case FeatureSource::Host:
        break;
      case FeatureSource::Engine:
        if (model.modern) set.set(i);
        break;
      case FeatureSource::Topology:
      case FeatureSource::Intel:
      case FeatureSource::Amd:
        set.set(i, available.test(i) && (model.modern || set.test(i)));
        break;
      case FeatureSource::Behaviour:
        set.set(i, available.test(i) && model.modern);
        break;
      case FeatureSource::Nested:
        break;
    }
  }
  return set;
}

/// Lower case, and _ for whatever else the two ways of spelling have.
std::string plain(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool separator = c == '-' || c == '.';
    result += separator ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

std::optional<Feature> find_feature(std::string_view name) {
  const std::string wanted = plain(name);
  for (const Names& names : other_names)
    if (wanted == plain(names.linux_name) || wanted == plain(names.qemu_name)) return names.feature;
  for (std::size_t i = 0; i < feature_count; ++i)
    if (wanted == plain(feature_bits[i].name)) return feature_at(i);
  return std::nullopt;
}

std::string listed(const FeatureSet& set) {
  std::string text;
  for (std::size_t i = 0; i < feature_count; ++i)
    if (set.test(i)) text += (text.empty() ? "" : ", ") + feature_name(feature_at(i));
  return text;
}

/// Takes away what needs something that is not there.
FeatureSet without_orphans(FeatureSet set) {
  for (bool again = true; again;) {
    again = false;
    for (const Dependency& dependency : dependencies) {
      if (!set.test(index_of(dependency.feature)) || set.test(index_of(dependency.needs))) continue;
      set.reset(index_of(dependency.feature));
      again = true;
    }
  }
  return set;
}

/// The first thing that `feature` needs and `set` lacks.
std::optional<Feature> lacking(Feature feature, const FeatureSet& set) {
  for (const Dependency& dependency : dependencies) {
    if (dependency.feature != feature) continue;
    if (!set.test(index_of(dependency.needs))) return dependency.needs;
    if (const auto deeper = lacking(dependency.needs, set)) return deeper;
  }
  return std::nullopt;
}

/// One "+feature" or "-feature".
Result<void> apply_switch(std::string_view word, CpuChoice& choice) {
  const bool on = word.front() == '+';
  const auto feature = find_feature(word.substr(1));
  if (!feature) return Error(fmt::format("\"{}\" is not a feature (--cpu help lists them)", word.substr(1)));
  if (!switchable(*feature))
    return Error(fmt::format("{} says how the host's processor or this machine is and cannot be switched",
                             feature_name(*feature)));
  (on ? choice.on : choice.off).set(index_of(*feature));
  if (choice.on.test(index_of(*feature)) && choice.off.test(index_of(*feature)))
    return Error(fmt::format("{} is switched both on and off", feature_name(*feature)));
  return {};
}

std::string wrapped(const std::string& words) {
  constexpr std::size_t width = 100;
  std::string text = "  ";
  std::size_t column = 2;
  for (std::size_t at = 0; at < words.size();) {
    const std::size_t end = std::min(words.find(' ', at), words.size());
    if (column + (end - at) > width) text += "\n  ", column = 2;
    text += words.substr(at, end - at) + ' ';
    column += end - at + 1;
    at = end + 1;
  }
  return text + '\n';
}

}  // namespace

std::string feature_name(Feature feature) {
  for (const Names& names : other_names)
    if (names.feature == feature) return names.linux_name;
  return plain(feature_bits[index_of(feature)].name);
}

bool switchable(Feature feature) {
  const FeatureSource source = feature_bits[index_of(feature)].source;
  if (feature == NULL_SELECT_CLEARS_BASE) return false;
  return source != FeatureSource::Topology && source != FeatureSource::Behaviour;
}

Result<FeatureSet> CpuChoice::features(const FeatureSet& available) const {
  const Model& chosen = *models[model];
  const bool svm = on.test(index_of(SVM));
  if ((on & nested_features()).any() && (chosen.identity.intel_vendor || !available.test(index_of(SVM))))
    return Error(fmt::format(
        "--cpu {}: svm is AMD's, and this processor's vendor is another; VMX, Intel's kind, is not offered. "
        "Use --cpu host or x86-64-v1 to v4 on an AMD host",
        text));
  const FeatureSet wanted =
      without_orphans((features_of(chosen, available) | (svm ? nested_features() : FeatureSet())) & ~off);
  if (const FeatureSet missing = wanted & ~available; missing.any())
    return Error(fmt::format("--cpu {}: this host lacks {}; choose another model or switch these off (-{})",
                             chosen.name, listed(missing), feature_name(feature_at(missing._Find_first()))));
  if (const FeatureSet missing = on & ~available; missing.any())
    return Error(fmt::format("--cpu {}: this host lacks {}", text, listed(missing)));
  const FeatureSet result = wanted | on;
  for (std::size_t i = 0; i < feature_count; ++i) {
    if (!on.test(i)) continue;
    if (const auto needed = lacking(feature_at(i), result))
      return Error(
          fmt::format("--cpu {}: {} needs {}, which is off", text, feature_name(feature_at(i)), feature_name(*needed)));
  }
  return result;
}

CpuIdentity CpuChoice::identity() const { return models[model]->identity; }

Result<CpuChoice> parse_cpu(const std::string& text) {
  CpuChoice choice;
  choice.text = text;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (at == 0) {
      const auto* row = std::find_if(std::begin(models), std::end(models),
                                     [&](const Model* candidate) { return word == candidate->name; });
      if (row == std::end(models)) return Error(fmt::format("\"{}\" is not a CPU model (--cpu help lists them)", word));
      choice.model = static_cast<unsigned>(row - std::begin(models));
    } else if (word.size() > 1 && (word.front() == '+' || word.front() == '-')) {
      TRY_VOID(apply_switch(word, choice));
    } else {
      return Error(fmt::format("\"{}\" is neither +feature nor -feature (--cpu help lists features)", word));
    }
    at = end + 1;
  }
  // Contradictions that no host can mend.
  TRY_VOID(choice.features(FeatureSet().set()));
  return choice;
}

std::string describe_cpu_models() {
  std::string text = "Models:\n";
  for (const Model* model : models) text += fmt::format("  {:11}{}\n", model->name, model->what);
  text +=
      "\nA feature is switched by +NAME or -NAME behind the model, as in --cpu x86-64-v3,+aes,-avx2.\n"
      "What needs a feature that is off goes off with it.\n\nFeatures that this host can offer:\n";
  const FeatureSet available = host_features(1);
  std::string has, lacks;
  for (std::size_t i = 0; i < feature_count; ++i) {
    if (!switchable(feature_at(i))) continue;
    (available.test(i) ? has : lacks) += feature_name(feature_at(i)) + ' ';
  }
  text += wrapped(has);
  if (!lacks.empty()) text += "\nand cannot:\n" + wrapped(lacks);
  return text;
}

}  // namespace veneer::cpu
