// CPUID policy: what the guest's CPUID instruction answers, from one readable table.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace veneer::cpu {

/// What CPUID puts into EAX, EBX, ECX, EDX.
struct CpuidResult {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidResult&) const = default;
};

struct CpuChoice;

/// Address spaces that SVM's TLB tags tell apart, 0 being the host's (CPUID Fn8000_000A EBX).
inline constexpr std::uint32_t svm_asids = 1u << 14;

/// A fixed table of leaves, made once before vCPUs run. Dynamic bits (OSXSAVE, APIC id, APIC enable, XSAVE sizes)
/// are filled in by query().
class CpuidPolicy {
 public:
  struct Leaf {
    std::uint32_t leaf;
    std::uint32_t subleaf;
    bool subleaf_matters;
    CpuidResult result;
  };
  /// What of a vCPU's state CPUID shows.
  struct Dynamic {
    std::uint32_t apic_id = 0;
    bool osxsave = false;      ///< CR4.OSXSAVE
    bool apic_enabled = true;  ///< IA32_APIC_BASE bit 11
    std::uint64_t xcr0 = 1;
  };

  /// The host's CPU as a guest may see it: host features that the translator supports, Veneer's own hypervisor
  /// leaves (KVM signature, kvmclock, TSC frequency).
  static CpuidPolicy host(unsigned vcpus, std::uint64_t tsc_hz);
  /// The processor of --cpu (cpu_model.h). An error when this host lacks what it needs.
  static Result<CpuidPolicy> make(const CpuChoice& choice, unsigned vcpus, std::uint64_t tsc_hz);

  /// No processor answers with random numbers of its own any more (deterministic mode): RDRAND, RDSEED.
  void hide_random_numbers();

  CpuidResult query(std::uint32_t leaf, std::uint32_t subleaf, const Dynamic& dynamic) const;

  /// XCR0 bits a guest may set.
  std::uint64_t xcr0_mask() const { return xcr0_mask_; }
  /// XCR0 components of the host, which an engine has to keep for a guest that runs natively: the guest may have SSE
  /// without XSAVE.
  std::uint64_t host_xcr0() const { return host_xcr0_; }
  /// The guest sees AMD's (or Hygon's) vendor name, and AMD's ways.
  bool amd() const { return amd_; }
  /// Display family (SDM 2A figure 3-6): 4 is a 486, 6 everything Intel makes since.
  unsigned family() const;
  /// Physical address width in bits.
  unsigned physical_bits() const { return physical_bits_; }
  std::uint64_t tsc_hz() const { return tsc_hz_; }
  /// True when the static policy shows this bit: has(7, 0, CpuidRegister::Ebx, 20) is SMAP.
  enum class Register : std::uint8_t { Eax, Ebx, Ecx, Edx };
  bool has(std::uint32_t leaf, std::uint32_t subleaf, Register reg, unsigned bit) const;
  const std::vector<Leaf>& leaves() const { return leaves_; }

 private:
  std::vector<Leaf> leaves_;
  std::uint64_t xcr0_mask_ = 1;
  std::uint64_t host_xcr0_ = 1;
  std::uint32_t max_basic_leaf_ = 0;
  bool amd_ = false;
  std::uint64_t tsc_hz_ = 0;
  unsigned physical_bits_ = 40;
};

}  // namespace veneer::cpu
