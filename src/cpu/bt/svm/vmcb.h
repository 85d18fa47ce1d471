// The virtual machine control block: layout, intercepts and exit codes (APM 2 appendices B and C).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/cpuid.h"

namespace veneer::cpu::bt {

/// Why a guest came out. Those below 0xa0 are the numbers of intercept bits, counted from the VMCB's start.
enum class ExitCode : std::uint64_t {
  READ_CR0 = 0x00,   // to 0fh
  WRITE_CR0 = 0x10,  // to 1fh
  READ_DR0 = 0x20,   // to 2fh
  WRITE_DR0 = 0x30,  // to 3fh
  EXCP0 = 0x40,      // to 5fh
  INTR = 0x60,
  NMI = 0x61,
  VINTR = 0x64,
  CR0_SEL_WRITE = 0x65,
  IDTR_READ = 0x66,
  GDTR_READ = 0x67,
  LDTR_READ = 0x68,
  TR_READ = 0x69,
  IDTR_WRITE = 0x6a,
  GDTR_WRITE = 0x6b,
  LDTR_WRITE = 0x6c,
  TR_WRITE = 0x6d,
  RDTSC = 0x6e,
  RDPMC = 0x6f,
  PUSHF = 0x70,
  POPF = 0x71,
  CPUID = 0x72,
  IRET = 0x74,
  SWINT = 0x75,
  INVD = 0x76,
  PAUSE = 0x77,
  HLT = 0x78,
  INVLPG = 0x79,
  INVLPGA = 0x7a,
  IOIO = 0x7b,
  MSR = 0x7c,
  TASK_SWITCH = 0x7d,
  FERR_FREEZE = 0x7e,
  SHUTDOWN = 0x7f,
  VMRUN = 0x80,
  VMMCALL = 0x81,
  VMLOAD = 0x82,
  VMSAVE = 0x83,
  STGI = 0x84,
  CLGI = 0x85,
  RDTSCP = 0x87,
  ICEBP = 0x88,
  WBINVD = 0x89,
  XSETBV = 0x8d,
  NPF = 0x400,
  INVALID = ~std::uint64_t{0},
};
constexpr ExitCode operator+(ExitCode first, unsigned number) {
  return static_cast<ExitCode>(static_cast<std::uint64_t>(first) + number);
}

/// Words of intercepts that exist here; the third one of appendix B's vectors 0Ch to 10h is the last.
inline constexpr unsigned intercept_words = 5;

/// TLB_CONTROL (APM 2 15.16.2).
enum class TlbControl : std::uint8_t { Nothing = 0, All = 1, Asid = 3, AsidLocal = 7 };

/// EVENTINJ and EXITINTINFO (APM 2 15.20, 15.7.2).
struct EventField {
  enum Type : unsigned { INTR = 0, NMI = 2, EXCEPTION = 3, SOFTWARE = 4 };
  static constexpr std::uint64_t ERROR_VALID = 1u << 11, VALID = 1u << 31;
  std::uint64_t bits = 0;

  constexpr std::uint8_t vector() const { return static_cast<std::uint8_t>(bits); }
  constexpr unsigned type() const { return static_cast<unsigned>(bits >> 8) & 7; }
  constexpr bool has_error() const { return bits & ERROR_VALID; }
  constexpr bool valid() const { return bits & VALID; }
  constexpr std::uint32_t error() const { return static_cast<std::uint32_t>(bits >> 32); }
};

/// The quadword at 60h.
struct VirtualInterruptField {
  static constexpr std::uint64_t V_IRQ = 1u << 8, V_IGN_TPR = 1u << 20, V_INTR_MASKING = 1u << 24;
  static constexpr unsigned V_INTR_PRIO_SHIFT = 16, V_INTR_VECTOR_SHIFT = 32;
};

struct VmcbControl {
  std::uint32_t intercepts[intercept_words];
  std::uint32_t more_intercepts;  ///< of instructions that are not offered, INVPCID excepted
  std::uint8_t reserved_18[0x24];
  std::uint16_t pause_threshold, pause_count;
  std::uint64_t iopm_base_pa, msrpm_base_pa;
  std::uint64_t tsc_offset;
  std::uint32_t asid;
  std::uint8_t tlb_control;
  std::uint8_t reserved_5d[3];
  std::uint64_t virtual_interrupt;
  std::uint64_t interrupt_shadow;
  std::uint64_t exit_code, exit_info1, exit_info2, exit_int_info;
  std::uint64_t np_enable;
  std::uint64_t avic_bar, ghcb;
  std::uint64_t event_injection;
  std::uint64_t n_cr3;
  std::uint64_t lbr;
  std::uint64_t clean;
  std::uint64_t next_rip;
  std::uint8_t fetched_bytes;
  std::uint8_t instruction[15];
};
static_assert(offsetof(VmcbControl, more_intercepts) == 0x14);
static_assert(offsetof(VmcbControl, iopm_base_pa) == 0x40);
static_assert(offsetof(VmcbControl, asid) == 0x58);
static_assert(offsetof(VmcbControl, exit_code) == 0x70);
static_assert(offsetof(VmcbControl, np_enable) == 0x90);
static_assert(offsetof(VmcbControl, event_injection) == 0xa8);
static_assert(offsetof(VmcbControl, next_rip) == 0xc8);
static_assert(sizeof(VmcbControl) == 0xe0);

inline constexpr std::uint64_t NP_ENABLE = 1;
inline constexpr std::uint64_t INTERRUPT_SHADOW = 1;

struct VmcbSegment {
  std::uint16_t selector, attributes;
  std::uint32_t limit;
  std::uint64_t base;
};

inline constexpr unsigned vmcb_save_at = 0x400;

/// The state save area; offsets in appendix B count from the VMCB's start.
struct VmcbSave {
  VmcbSegment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
  std::uint8_t reserved_4a0[0x2b];
  std::uint8_t cpl;
  std::uint8_t reserved_4cc[4];
  std::uint64_t efer;
  std::uint8_t reserved_4d8[0x70];
  std::uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
  std::uint8_t reserved_580[0x58];
  std::uint64_t rsp;
  std::uint8_t reserved_5e0[0x18];
  std::uint64_t rax;
  std::uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
  std::uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
  std::uint64_t cr2;
  std::uint8_t reserved_648[0x20];
  std::uint64_t g_pat;
};
static_assert(offsetof(VmcbSave, cpl) == 0xcb);
static_assert(offsetof(VmcbSave, efer) == 0xd0);
static_assert(offsetof(VmcbSave, cr4) == 0x148);
static_assert(offsetof(VmcbSave, rip) == 0x178);
static_assert(offsetof(VmcbSave, rsp) == 0x1d8);
static_assert(offsetof(VmcbSave, rax) == 0x1f8);
static_assert(offsetof(VmcbSave, cr2) == 0x240);
static_assert(offsetof(VmcbSave, g_pat) == 0x268);

// What is read and written of the maps (APM 2 15.10.1, 15.11).
inline constexpr std::uint64_t io_map_bytes = 0x3000, msr_map_bytes = 0x2000;

/// ASIDs offered: as many as a TLB context's tag has room for.
inline constexpr unsigned asid_bits = 14;
static_assert(svm_asids == 1u << asid_bits);

/// The pseudo-vector of a #VMEXIT on its way through code that knows faults only: BtVcpu::noted_exit_ says which.
inline constexpr std::uint8_t VECTOR_VMEXIT = 0xff;

}  // namespace veneer::cpu::bt
