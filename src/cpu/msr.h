// MSR policy: which model-specific registers exist, what may be written to them, and who keeps them.
//
// One readable table (msr.cc). Anything not in it is #GP(0). The engine asks find_msr() for the kind, handles the
// kinds that are live engine or APIC state itself, and uses read_msr()/write_msr() for the rest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "cpu/cpuid.h"
#include "cpu/cpuid_features.h"
#include "cpu/state.h"

namespace veneer::cpu {

/// Who keeps an MSR.
enum class MsrKind : std::uint8_t {
  Stored,     ///< a field of ArchState, nothing else happens
  Constant,   ///< reads `value`; WRMSR is #GP(0)
  Ignored,    ///< reads `value`; writes are accepted and forgotten
  WriteOnly,  ///< commands (IA32_PRED_CMD): RDMSR is #GP(0), writes checked and forgotten
  Apic,       ///< InterruptPort::read_msr/write_msr: IA32_APIC_BASE, x2APIC, IA32_TSC_DEADLINE
  Tsc,        ///< IA32_TIME_STAMP_COUNTER: host TSC + tsc_offset; a write changes tsc_offset and tsc_adjust
  TscAdjust,  ///< IA32_TSC_ADJUST: a write adds the difference to tsc_offset
  FsBase,     ///< segments[FS].base
  GsBase,     ///< segments[GS].base
  Efer,       ///< IA32_EFER: check with efer_after_write()
  VmCr,       ///< VM_CR: what its LOCK bit leaves of a write
  PvClock,    ///< stored; the engine (re)writes the clock page in guest memory afterwards
};

/// What WRMSR checks before it stores.
enum class MsrCheck : std::uint8_t {
  Any,          ///< every value is fine
  Mask,         ///< #GP(0) if a bit outside `writable` is set
  Canonical,    ///< #GP(0) unless bits 63-47 are equal
  Pat,          ///< eight memory types, each 0, 1, 4, 5, 6 or 7 (SDM 3A 12.12.2)
  MtrrTypes,    ///< eight memory types, each 0, 1, 4, 5 or 6 (SDM 3A 12.11.2.2)
  MtrrBase,     ///< type 7-0, address up to MAXPHYADDR
  MtrrMask,     ///< valid bit 11, mask up to MAXPHYADDR
  AllOrNone,    ///< zero or all ones (SDM 3B 16.3.2.1); bits 0 and 10 may be clear: software masks flaws of old chips
  Page,         ///< bits 11-0 clear, address up to MAXPHYADDR
  MtrrDefault,  ///< type 7-0, FE bit 10, E bit 11
};

struct MsrRow {
  std::uint32_t index = 0;
  const char* name = "";
  MsrKind kind = MsrKind::Constant;
  MsrCheck check = MsrCheck::Any;
  std::uint64_t writable = ~std::uint64_t{0};           ///< for MsrCheck::Mask
  std::uint64_t value = 0;                              ///< for Constant and Ignored
  std::uint64_t& (*field)(ArchState& state) = nullptr;  ///< for Stored, PvClock, TscAdjust, FsBase, GsBase, Efer
  /// The guest's CPUID has to show one of these; empty: nothing special.
  std::array<std::optional<Feature>, 3> needs{};
  bool amd = false;  ///< exists on AMD's processors only
};

/// The row of an MSR, or nullptr: #GP(0). The x2APIC range 0x800-0x8ff shares one row.
const MsrRow* find_msr(std::uint32_t index);
/// The same for a guest with this CPUID: nullptr also when the MSR belongs to a feature that it does not show.
const MsrRow* find_msr(std::uint32_t index, const CpuidPolicy& cpuid);

/// RDMSR of everything that does not need the APIC or the time (kinds Apic and Tsc). nullopt: #GP(0).
std::optional<std::uint64_t> read_msr(const ArchState& state, const CpuidPolicy& cpuid, std::uint32_t index);

/// WRMSR of the same kinds, with the checks; false: #GP(0) and nothing changed. Efer goes through
/// efer_after_write(); TscAdjust moves tsc_offset too; for PvClock it stores only.
bool write_msr(ArchState& state, const CpuidPolicy& cpuid, std::uint32_t index, std::uint64_t value);

/// Whether `value` passes the row's check (also for kinds the engine stores itself: FsBase, PvClock, ...).
bool msr_value_allowed(const MsrRow& row, const CpuidPolicy& cpuid, std::uint64_t value);

/// EFER as it would be after WRMSR of `value`, or nullopt for #GP(0): reserved bits, or LME changed while paging is
/// on (SDM 3A 2.2.1). LMA is read-only and kept from `current`.
std::optional<std::uint64_t> efer_after_write(std::uint64_t current, std::uint64_t cr0, const CpuidPolicy& cpuid,
                                              std::uint64_t value);

}  // namespace veneer::cpu
