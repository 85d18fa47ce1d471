// MSR policy: the table, and the checks of WRMSR.
#include "cpu/msr.h"

#include <algorithm>
#include <iterator>

#include "base/bits.h"

namespace veneer::cpu {

namespace {

// IA32_ARCH_CAPABILITIES (SDM 4 table 2-2): everything says "not affected", enhanced IBRS is "there". Guests then
// use neither page-table isolation nor retpolines, VERW or L1D flushes. None of these would protect anything here:
// guest kernel and guest user code are host code of one privilege level in one address space, and the translator
// promises no secrecy against speculation (traps.md 21); they would only cost.
// Linux reads this register on AMD processors too when CPUID leaf 7 EDX bit 29 is set.
constexpr std::uint64_t arch_capabilities = bit(0) |   // RDCL_NO: no Meltdown (page-table isolation), no L1TF
                                            bit(1) |   // IBRS_ALL: enhanced IBRS, so no retpolines
                                            bit(3) |   // SKIP_L1DFL_VMENTRY
                                            bit(4) |   // SSB_NO
                                            bit(5) |   // MDS_NO: no VERW on kernel exit
                                            bit(6) |   // IF_PSCHANGE_MC_NO: no ITLB multihit
                                            bit(8) |   // TAA_NO
                                            bit(13) |  // SBDR_SSDP_NO  (MMIO stale data: all three)
                                            bit(14) |  // FBSDP_NO
                                            bit(15) |  // PSDP_NO
                                            bit(20) |  // BHI_NO: no branch-history clearing on SYSCALL
                                            bit(24) |  // PBRSB_NO
                                            bit(26) |  // GDS_NO
                                            bit(27) |  // RFDS_NO
                                            bit(62);   // ITS_NO: no indirect thunks
// Off: RSBA (bit 2) and RRSBA (bit 19), which would bring RSB stuffing or retpolines back; TSX_CTRL (bit 7).

constexpr std::uint64_t SPEC_CTRL_IBRS_STIBP_SSBD = 7;
constexpr std::uint64_t PRED_CMD_IBPB = 1;
constexpr std::uint64_t mtrr_capabilities = 8 | bit(8) | bit(10);  // 8 variable, fixed, write-combining
constexpr std::uint64_t feature_control_locked = 1;                // VMX stays off
// Microcode revision: high half as Intel guests read it, low half as AMD guests do. High enough for no one to ask
// for an update, and guests under a hypervisor do not load one.
constexpr std::uint64_t microcode_revision = 0x01000000'01000065;
constexpr std::uint64_t HWCR_TSC_FREQ_SEL = bit(24);  // the TSC counts at P0's frequency (else Linux complains)
constexpr std::uint64_t DE_CFG_LFENCE_SERIALIZE = bit(1);
constexpr std::uint64_t osvw_length = 4;             // four errata documented, none present
constexpr std::uint64_t STEAL_TIME_RESERVED = 0x3e;  // bit 0 enables, the page is 64-aligned
constexpr std::uint64_t MCG_CTL_P = bit(8);
constexpr std::uint64_t low_32 = 0xffffffff;
// APM 2 15.30.1; DPD, R_INIT and DIS_A20M are kept and mean nothing here.
constexpr std::uint64_t VM_CR_LOCK = bit(3), VM_CR_SVMDIS = bit(4), VM_CR_WRITABLE = 0x1f;

constexpr std::uint64_t canonical_bits = 48;

// Rows by kind, so that the table reads as columns.
using Field = std::uint64_t& (*)(ArchState&);
constexpr MsrRow stored(std::uint32_t index, const char* name, Field field, MsrCheck check = MsrCheck::Any,
                        std::uint64_t writable = ~std::uint64_t{0}) {
  return {index, name, MsrKind::Stored, check, writable, 0, field};
}
constexpr MsrRow constant(std::uint32_t index, const char* name, std::uint64_t value) {
  return {index, name, MsrKind::Constant, MsrCheck::Any, 0, value, nullptr};
}
constexpr MsrRow ignored(std::uint32_t index, const char* name, std::uint64_t value = 0) {
  return {index, name, MsrKind::Ignored, MsrCheck::Any, 0, value, nullptr};
}
constexpr MsrRow command(std::uint32_t index, const char* name, std::uint64_t writable) {
  return {index, name, MsrKind::WriteOnly, MsrCheck::Mask, writable, 0, nullptr};
}
constexpr MsrRow apic(std::uint32_t index, const char* name) {
  return {index, name, MsrKind::Apic, MsrCheck::Any, 0, 0, nullptr};
}
/// The row exists for guests that are shown one of the features.
constexpr MsrRow with(MsrRow row, Feature feature, std::optional<Feature> other = {},
                      std::optional<Feature> third = {}) {
  row.needs = {feature, other, third};
  return row;
}
constexpr MsrRow amd(MsrRow row) {
  row.amd = true;
  return row;
}
constexpr MsrRow special(std::uint32_t index, const char* name, MsrKind kind, Field field,
                         MsrCheck check = MsrCheck::Any, std::uint64_t writable = ~std::uint64_t{0}) {
  return {index, name, kind, check, writable, 0, field};
}

#define FIELD(member) [](ArchState& state) -> std::uint64_t& { return state.member; }
#define MTRR_FIXED(index, name, n) with(stored(index, name, FIELD(mtrr_fixed[n]), MsrCheck::MtrrTypes), Feature::MTRR)
#define MTRR_PAIR(n)                                                                                            \
  with(stored(0x200 + 2 * n, "IA32_MTRR_PHYSBASE" #n, FIELD(mtrr_variable[2 * n]), MsrCheck::MtrrBase),         \
       Feature::MTRR),                                                                                          \
      with(stored(0x201 + 2 * n, "IA32_MTRR_PHYSMASK" #n, FIELD(mtrr_variable[2 * n + 1]), MsrCheck::MtrrMask), \
           Feature::MTRR)
// Nothing ever goes wrong: STATUS may be cleared only (SDM 3B 16.3.2.2; AMD's HWCR.McStatusWrEn is not there).
#define MCE_BANK(n)                                                                                                \
  with(stored(0x400 + 4 * n, "IA32_MC" #n "_CTL", FIELD(mce[4 * n]), MsrCheck::AllOrNone), Feature::MCA),          \
      with(stored(0x401 + 4 * n, "IA32_MC" #n "_STATUS", FIELD(mce[4 * n + 1]), MsrCheck::Mask, 0), Feature::MCA), \
      with(stored(0x402 + 4 * n, "IA32_MC" #n "_ADDR", FIELD(mce[4 * n + 2])), Feature::MCA),                      \
      with(stored(0x403 + 4 * n, "IA32_MC" #n "_MISC", FIELD(mce[4 * n + 3])), Feature::MCA)

// By index. "Ignored" rows are what Linux (L) and Windows (W) probe without asking CPUID first.
constexpr MsrRow rows[] = {
    // Pentium machine-check pair: W reads them.
    ignored(0x0, "P5_MC_ADDR"),
    ignored(0x1, "P5_MC_TYPE"),
    with(special(0x10, "IA32_TIME_STAMP_COUNTER", MsrKind::Tsc, nullptr), Feature::TSC),
    // kvmclock of kernels before 2.6.35.
    with(special(0x11, "MSR_KVM_WALL_CLOCK", MsrKind::PvClock, FIELD(kvm_wall_clock)), Feature::HYPERVISOR),
    with(special(0x12, "MSR_KVM_SYSTEM_TIME", MsrKind::PvClock, FIELD(kvm_system_time)), Feature::HYPERVISOR),
    constant(0x17, "IA32_PLATFORM_ID", 0),
    with(apic(0x1b, "IA32_APIC_BASE"), Feature::APIC),
    ignored(0x2a, "EBL_CR_POWERON"),  // W
    constant(0x3a, "IA32_FEATURE_CONTROL", feature_control_locked),
    with(special(0x3b, "IA32_TSC_ADJUST", MsrKind::TscAdjust, FIELD(tsc_adjust)), Feature::TSC_ADJUST),
    with(stored(0x48, "IA32_SPEC_CTRL", FIELD(spec_ctrl), MsrCheck::Mask, SPEC_CTRL_IBRS_STIBP_SSBD),
         Feature::SPEC_CTRL, Feature::AMD_IBRS),
    with(command(0x49, "IA32_PRED_CMD", PRED_CMD_IBPB), Feature::SPEC_CTRL, Feature::AMD_IBRS),
    ignored(0x79, "IA32_BIOS_UPDT_TRIG"),
    ignored(0x8b, "IA32_BIOS_SIGN_ID", microcode_revision),  // AMD: PATCH_LEVEL
    ignored(0xce, "MSR_PLATFORM_INFO"),                      // L, W on Intel
    with(constant(0xfe, "IA32_MTRRCAP", mtrr_capabilities), Feature::MTRR),
    with(constant(0x10a, "IA32_ARCH_CAPABILITIES", arch_capabilities), Feature::ARCH_CAPABILITIES),
    with(stored(0x174, "IA32_SYSENTER_CS", FIELD(sysenter_cs)), Feature::SEP),
    with(stored(0x175, "IA32_SYSENTER_ESP", FIELD(sysenter_esp), MsrCheck::Canonical), Feature::SEP),
    with(stored(0x176, "IA32_SYSENTER_EIP", FIELD(sysenter_eip), MsrCheck::Canonical), Feature::SEP),
    with(constant(0x179, "IA32_MCG_CAP", ArchState::mce_banks | MCG_CTL_P), Feature::MCA),
    with(stored(0x17a, "IA32_MCG_STATUS", FIELD(mcg_status)), Feature::MCA),
    with(stored(0x17b, "IA32_MCG_CTL", FIELD(mcg_ctl), MsrCheck::AllOrNone), Feature::MCA),
    ignored(0x198, "IA32_PERF_STATUS"),  // W
    ignored(0x199, "IA32_PERF_CTL"),
    stored(0x1a0, "IA32_MISC_ENABLE", FIELD(misc_enable)),
    ignored(0x1d9, "IA32_DEBUGCTL"),  // L writes it back when single-stepping
    constant(0x1db, "LASTBRANCHFROMIP", 0),
    constant(0x1dc, "LASTBRANCHTOIP", 0),
    constant(0x1dd, "LASTINTFROMIP", 0),
    constant(0x1de, "LASTINTTOIP", 0),
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
    MTRR_FIXED(0x250, "IA32_MTRR_FIX64K_00000", 0),
    MTRR_FIXED(0x258, "IA32_MTRR_FIX16K_80000", 1),
    MTRR_FIXED(0x259, "IA32_MTRR_FIX16K_A0000", 2),
    MTRR_FIXED(0x268, "IA32_MTRR_FIX4K_C0000", 3),
    MTRR_FIXED(0x269, "IA32_MTRR_FIX4K_C8000", 4),
    MTRR_FIXED(0x26a, "IA32_MTRR_FIX4K_D0000", 5),
    MTRR_FIXED(0x26b, "IA32_MTRR_FIX4K_D8000", 6),
    MTRR_FIXED(0x26c, "IA32_MTRR_FIX4K_E0000", 7),
    MTRR_FIXED(0x26d, "IA32_MTRR_FIX4K_E8000", 8),
    MTRR_FIXED(0x26e, "IA32_MTRR_FIX4K_F0000", 9),
    MTRR_FIXED(0x26f, "IA32_MTRR_FIX4K_F8000", 10),
    with(stored(0x277, "IA32_PAT", FIELD(pat), MsrCheck::Pat), Feature::PAT),
    with(stored(0x2ff, "IA32_MTRR_DEF_TYPE", FIELD(mtrr_def_type), MsrCheck::MtrrDefault), Feature::MTRR),
    MCE_BANK(0),
    MCE_BANK(1),
    MCE_BANK(2),
    MCE_BANK(3),
    MCE_BANK(4),
    MCE_BANK(5),
    MCE_BANK(6),
    MCE_BANK(7),
    MCE_BANK(8),
    MCE_BANK(9),
    with(apic(0x6e0, "IA32_TSC_DEADLINE"), Feature::TSC_DEADLINE),
    with(apic(0x800, "x2APIC 0x800-0x8ff"), Feature::X2APIC),
    with(special(0x4b564d00, "MSR_KVM_WALL_CLOCK_NEW", MsrKind::PvClock, FIELD(kvm_wall_clock)), Feature::HYPERVISOR),
    with(special(0x4b564d01, "MSR_KVM_SYSTEM_TIME_NEW", MsrKind::PvClock, FIELD(kvm_system_time)), Feature::HYPERVISOR),
    with(stored(0x4b564d03, "MSR_KVM_STEAL_TIME", FIELD(kvm_steal_time), MsrCheck::Mask, ~STEAL_TIME_RESERVED),
         Feature::HYPERVISOR),
    with(special(0xc0000080, "IA32_EFER", MsrKind::Efer, FIELD(efer)), Feature::SYSCALL, Feature::NX,
         Feature::LONG_MODE),
    with(stored(0xc0000081, "IA32_STAR", FIELD(star)), Feature::SYSCALL),
    with(stored(0xc0000082, "IA32_LSTAR", FIELD(lstar), MsrCheck::Canonical), Feature::LONG_MODE),
    with(stored(0xc0000083, "IA32_CSTAR", FIELD(cstar), MsrCheck::Canonical), Feature::LONG_MODE),
    with(stored(0xc0000084, "IA32_FMASK", FIELD(sfmask), MsrCheck::Mask, low_32), Feature::LONG_MODE),
    with(special(0xc0000100, "IA32_FS_BASE", MsrKind::FsBase, FIELD(segments[FS].base), MsrCheck::Canonical),
         Feature::LONG_MODE),
    with(special(0xc0000101, "IA32_GS_BASE", MsrKind::GsBase, FIELD(segments[GS].base), MsrCheck::Canonical),
         Feature::LONG_MODE),
    with(stored(0xc0000102, "IA32_KERNEL_GS_BASE", FIELD(kernel_gs_base), MsrCheck::Canonical), Feature::LONG_MODE),
    with(stored(0xc0000103, "IA32_TSC_AUX", FIELD(tsc_aux), MsrCheck::Mask, low_32), Feature::RDTSCP),
    // AMD's own (APM 2 appendix A, the families' PPRs); Intel guests do not ask.
    amd(ignored(0xc0010010, "SYSCFG")),
    amd(ignored(0xc0010015, "HWCR", HWCR_TSC_FREQ_SEL)),
    amd(ignored(0xc001001a, "TOP_MEM")),
    amd(ignored(0xc001001d, "TOP_MEM2")),
    amd(ignored(0xc001001f, "NB_CFG")),
    amd(ignored(0xc0010020, "PATCH_LOADER")),
    amd(ignored(0xc0010055, "INT_PENDING")),
    amd(ignored(0xc0010058, "MMIO_CFG_BASE")),
    with(special(0xc0010114, "VM_CR", MsrKind::VmCr, FIELD(svm.vm_cr), MsrCheck::Mask, VM_CR_WRITABLE), Feature::SVM),
    with(stored(0xc0010117, "VM_HSAVE_PA", FIELD(svm.vm_hsave_pa), MsrCheck::Page), Feature::SVM),
    with(ignored(0xc0010140, "OSVW_ID_LENGTH", osvw_length), Feature::OSVW),
    with(ignored(0xc0010141, "OSVW_STATUS"), Feature::OSVW),
    amd(ignored(0xc0011020, "LS_CFG")),
    amd(ignored(0xc0011021, "IC_CFG")),
    amd(ignored(0xc0011022, "DC_CFG")),
    amd(ignored(0xc0011023, "BU_CFG")),
    amd(ignored(0xc0011029, "DE_CFG", DE_CFG_LFENCE_SERIALIZE)),
    amd(ignored(0xc001102a, "BU_CFG2")),
};

#undef MCE_BANK
#undef MTRR_PAIR
#undef MTRR_FIXED
#undef FIELD

constexpr bool by_index(const MsrRow& a, const MsrRow& b) { return a.index < b.index; }
static_assert(std::is_sorted(std::begin(rows), std::end(rows), by_index));

bool canonical(std::uint64_t value) {
  const auto extended = static_cast<std::int64_t>(value << (64 - canonical_bits)) >> (64 - canonical_bits);
  return static_cast<std::uint64_t>(extended) == value;
}

// Memory types (SDM 3A table 12-2): 2, 3 and above 7 are reserved, 7 (UC-) exists in the PAT only.
bool mtrr_type(std::uint64_t type) { return type == 0 || type == 1 || (type >= 4 && type <= 6); }
bool pat_type(std::uint64_t type) { return mtrr_type(type) || type == 7; }

template <typename Allowed>
bool every_byte(std::uint64_t value, Allowed allowed) {
  for (unsigned shift = 0; shift < 64; shift += 8) {
    if (!allowed(value >> shift & 0xff)) return false;
  }
  return true;
}

}  // namespace

const MsrRow* find_msr(std::uint32_t index) {
  constexpr std::uint32_t x2apic_first = 0x800, x2apic_last = 0x8ff;
  if (index > x2apic_first && index <= x2apic_last) index = x2apic_first;
  const MsrRow* found = std::lower_bound(std::begin(rows), std::end(rows), index,
                                         [](const MsrRow& row, std::uint32_t wanted) { return row.index < wanted; });
  return found != std::end(rows) && found->index == index ? found : nullptr;
}

const MsrRow* find_msr(std::uint32_t index, const CpuidPolicy& cpuid) {
  const MsrRow* row = find_msr(index);
  if (row == nullptr || (row->amd && !cpuid.amd())) return nullptr;
  if (!row->needs[0]) return row;
  for (const std::optional<Feature>& feature : row->needs)
    if (feature && has(cpuid, *feature)) return row;
  return nullptr;
}

bool msr_value_allowed(const MsrRow& row, const CpuidPolicy& cpuid, std::uint64_t value) {
  const std::uint64_t beyond_physical = ~(bit(cpuid.physical_bits()) - 1);
  switch (row.check) {
    case MsrCheck::Any:
      return true;
    case MsrCheck::Mask:
      return (value & ~row.writable) == 0;
    case MsrCheck::Canonical:
      return canonical(value);
    case MsrCheck::Pat:
      return every_byte(value, pat_type);
    case MsrCheck::MtrrTypes:
      return every_byte(value, mtrr_type);
    case MsrCheck::MtrrBase:
      return mtrr_type(value & 0xff) && (value & (Bits<11, 8>::mask | beyond_physical)) == 0;
    case MsrCheck::MtrrMask:
      return (value & (Bits<10, 0>::mask | beyond_physical)) == 0;
    case MsrCheck::AllOrNone:
      return value == 0 || (value | bit(0) | bit(10)) == ~std::uint64_t{0};
    case MsrCheck::Page:
      return (value & (Bits<11, 0>::mask | beyond_physical)) == 0;
    case MsrCheck::MtrrDefault:
      return mtrr_type(value & 0xff) && (value & ~(Bits<7, 0>::mask | Bits<11, 10>::mask)) == 0;
  }
  return false;
}

std::optional<std::uint64_t> efer_after_write(std::uint64_t current, std::uint64_t cr0, const CpuidPolicy& cpuid,
                                              std::uint64_t value) {
  using Register = CpuidPolicy::Register;
  std::uint64_t writable = 0;
  if (cpuid.has(0x80000001, 0, Register::Edx, 11)) writable |= EFER_SCE;
  if (cpuid.has(0x80000001, 0, Register::Edx, 29)) writable |= EFER_LME;
  if (cpuid.has(0x80000001, 0, Register::Edx, 20)) writable |= EFER_NXE;
  if (cpuid.has(0x80000001, 0, Register::Ecx, 2)) writable |= EFER_SVME;
  if ((value & ~(writable | EFER_LMA)) != 0) return std::nullopt;
  if ((cr0 & CR0_PG) && ((value ^ current) & EFER_LME)) return std::nullopt;
  return (value & ~EFER_LMA) | (current & EFER_LMA);
}

std::optional<std::uint64_t> read_msr(const ArchState& state, const CpuidPolicy& cpuid, std::uint32_t index) {
  const MsrRow* row = find_msr(index, cpuid);
  if (row == nullptr) return std::nullopt;
  switch (row->kind) {
    case MsrKind::Constant:
    case MsrKind::Ignored:
      return row->value;
    case MsrKind::Stored:
    case MsrKind::PvClock:
    case MsrKind::TscAdjust:
    case MsrKind::FsBase:
    case MsrKind::GsBase:
    case MsrKind::Efer:
    case MsrKind::VmCr:
      return row->field(const_cast<ArchState&>(state));  // only read here
    case MsrKind::WriteOnly:
    case MsrKind::Apic:
    case MsrKind::Tsc:
      break;
  }
  return std::nullopt;
}

bool write_msr(ArchState& state, const CpuidPolicy& cpuid, std::uint32_t index, std::uint64_t value) {
  const MsrRow* row = find_msr(index, cpuid);
  if (row == nullptr || !msr_value_allowed(*row, cpuid, value)) return false;
  switch (row->kind) {
    case MsrKind::Ignored:
    case MsrKind::WriteOnly:
      return true;
    case MsrKind::Stored:
    case MsrKind::PvClock:
    case MsrKind::FsBase:
    case MsrKind::GsBase:
      row->field(state) = value;
      return true;
    case MsrKind::TscAdjust:
      state.tsc_offset += value - state.tsc_adjust;
      state.tsc_adjust = value;
      return true;
    case MsrKind::Efer: {
      const std::optional<std::uint64_t> efer = efer_after_write(state.efer, state.cr0, cpuid, value);
      if (!efer || ((*efer & EFER_SVME) && (state.svm.vm_cr & VM_CR_SVMDIS))) return false;
      state.efer = *efer;
      return true;
    }
    case MsrKind::VmCr: {
      if ((value & VM_CR_SVMDIS) && (state.efer & EFER_SVME)) return false;
      constexpr std::uint64_t locked = VM_CR_LOCK | VM_CR_SVMDIS;
      const std::uint64_t kept = state.svm.vm_cr & VM_CR_LOCK ? locked : 0;
      state.svm.vm_cr = (value & ~kept) | (state.svm.vm_cr & kept);
      return true;
    }
    case MsrKind::Constant:
    case MsrKind::Apic:
    case MsrKind::Tsc:
      break;
  }
  return false;
}

}  // namespace veneer::cpu
