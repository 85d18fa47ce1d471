// The architectural state of one x86-64 virtual CPU: everything software can observe, engine-independent.
//
// This is what engines load and store, what the debugger shows, what snapshots keep and what tests compare.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/segment.h"
#include "cpu/svm_state.h"

namespace veneer::cpu {

/// General-purpose registers in encoding order (SDM 2A table 2-2).
enum Gpr : unsigned { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, gpr_count };

/// Segment registers in encoding order.
enum SegReg : unsigned { ES, CS, SS, DS, FS, GS, segment_count };

// RFLAGS (SDM 1 3.4.3)
inline constexpr std::uint64_t RFLAGS_CF = 1u << 0;
inline constexpr std::uint64_t RFLAGS_FIXED1 = 1u << 1;
inline constexpr std::uint64_t RFLAGS_PF = 1u << 2;
inline constexpr std::uint64_t RFLAGS_AF = 1u << 4;
inline constexpr std::uint64_t RFLAGS_ZF = 1u << 6;
inline constexpr std::uint64_t RFLAGS_SF = 1u << 7;
inline constexpr std::uint64_t RFLAGS_TF = 1u << 8;
inline constexpr std::uint64_t RFLAGS_IF = 1u << 9;
inline constexpr std::uint64_t RFLAGS_DF = 1u << 10;
inline constexpr std::uint64_t RFLAGS_OF = 1u << 11;
inline constexpr std::uint64_t RFLAGS_IOPL = 3u << 12;
inline constexpr std::uint64_t RFLAGS_NT = 1u << 14;
inline constexpr std::uint64_t RFLAGS_RF = 1u << 16;
inline constexpr std::uint64_t RFLAGS_VM = 1u << 17;
inline constexpr std::uint64_t RFLAGS_AC = 1u << 18;
inline constexpr std::uint64_t RFLAGS_VIF = 1u << 19;
inline constexpr std::uint64_t RFLAGS_VIP = 1u << 20;
inline constexpr std::uint64_t RFLAGS_ID = 1u << 21;
inline constexpr std::uint64_t RFLAGS_ARITH = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;

// Control registers (SDM 3A 2.5)
inline constexpr std::uint64_t CR0_PE = 1u << 0;
inline constexpr std::uint64_t CR0_MP = 1u << 1;
inline constexpr std::uint64_t CR0_EM = 1u << 2;
inline constexpr std::uint64_t CR0_TS = 1u << 3;
inline constexpr std::uint64_t CR0_ET = 1u << 4;
inline constexpr std::uint64_t CR0_NE = 1u << 5;
inline constexpr std::uint64_t CR0_WP = 1u << 16;
inline constexpr std::uint64_t CR0_AM = 1u << 18;
inline constexpr std::uint64_t CR0_NW = 1u << 29;
inline constexpr std::uint64_t CR0_CD = 1u << 30;
inline constexpr std::uint64_t CR0_PG = 1u << 31;
inline constexpr std::uint64_t CR4_VME = 1u << 0;
inline constexpr std::uint64_t CR4_PVI = 1u << 1;
inline constexpr std::uint64_t CR4_TSD = 1u << 2;
inline constexpr std::uint64_t CR4_DE = 1u << 3;
inline constexpr std::uint64_t CR4_PSE = 1u << 4;
inline constexpr std::uint64_t CR4_PAE = 1u << 5;
inline constexpr std::uint64_t CR4_MCE = 1u << 6;
inline constexpr std::uint64_t CR4_PGE = 1u << 7;
inline constexpr std::uint64_t CR4_PCE = 1u << 8;
inline constexpr std::uint64_t CR4_OSFXSR = 1u << 9;
inline constexpr std::uint64_t CR4_OSXMMEXCPT = 1u << 10;
inline constexpr std::uint64_t CR4_UMIP = 1u << 11;
inline constexpr std::uint64_t CR4_LA57 = 1u << 12;
inline constexpr std::uint64_t CR4_FSGSBASE = 1u << 16;
inline constexpr std::uint64_t CR4_PCIDE = 1u << 17;
inline constexpr std::uint64_t CR4_OSXSAVE = 1u << 18;
inline constexpr std::uint64_t CR4_SMEP = 1u << 20;
inline constexpr std::uint64_t CR4_SMAP = 1u << 21;

// IA32_EFER (SDM 3A 2.2.1)
inline constexpr std::uint64_t EFER_SCE = 1u << 0;
inline constexpr std::uint64_t EFER_LME = 1u << 8;
inline constexpr std::uint64_t EFER_LMA = 1u << 10;
inline constexpr std::uint64_t EFER_NXE = 1u << 11;
inline constexpr std::uint64_t EFER_SVME = 1u << 12;  // APM 2 3.1.7

/// Room for the standard (non-compacted) XSAVE image of every component offered (x87 to AVX-512: 2,696 bytes).
inline constexpr unsigned xsave_area_bytes = 2816;

/// Architectural vectors (SDM 3A table 6-1).
enum Vector : std::uint8_t {
  VECTOR_DE = 0,
  VECTOR_DB = 1,
  VECTOR_NMI = 2,
  VECTOR_BP = 3,
  VECTOR_OF = 4,
  VECTOR_BR = 5,
  VECTOR_UD = 6,
  VECTOR_NM = 7,
  VECTOR_DF = 8,
  VECTOR_TS = 10,
  VECTOR_NP = 11,
  VECTOR_SS = 12,
  VECTOR_GP = 13,
  VECTOR_PF = 14,
  VECTOR_MF = 16,
  VECTOR_AC = 17,
  VECTOR_MC = 18,
  VECTOR_XM = 19,
};

/// All of it. Reset values are those after INIT/power-up (SDM 3A table 9-1) once reset_state() made them.
struct ArchState {
  std::array<std::uint64_t, gpr_count> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = RFLAGS_FIXED1;
  std::array<Segment, segment_count> segments{};
  Segment ldtr, tr;
  DescriptorTable gdtr, idtr;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  std::uint64_t xcr0 = 1;
  std::array<std::uint64_t, 8> dr{};  ///< dr[4] and dr[5] are unused

  // Model-specific registers that belong to the processor core; the local APIC keeps its own.
  std::uint64_t efer = 0;
  std::uint64_t star = 0, lstar = 0, cstar = 0, sfmask = 0;
  std::uint64_t kernel_gs_base = 0;  ///< FS and GS bases are segments[FS].base and segments[GS].base
  std::uint64_t tsc_aux = 0;
  std::uint64_t tsc_offset = 0;  ///< guest TSC = host TSC + tsc_offset (modulo 2^64)
  std::uint64_t tsc_adjust = 0;
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  std::uint64_t pat = 0x0007040600070406;
  std::uint64_t misc_enable = 1;
  std::uint64_t mtrr_def_type = 0;
  std::array<std::uint64_t, 11> mtrr_fixed{};
  std::array<std::uint64_t, 16> mtrr_variable{};  ///< base0, mask0, base1, ...
  std::uint64_t spec_ctrl = 0;
  static constexpr unsigned mce_banks = 10;
  std::uint64_t mcg_status = 0, mcg_ctl = ~std::uint64_t{0};
  std::array<std::uint64_t, 4 * mce_banks> mce{};         ///< CTL, STATUS, ADDR, MISC of each bank
  std::uint64_t kvm_system_time = 0, kvm_wall_clock = 0;  ///< MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW
  std::uint64_t kvm_steal_time = 0;                       ///< MSR_KVM_STEAL_TIME

  // Between instructions.
  bool halted = false;            ///< after HLT, waiting for an interrupt
  bool interrupt_shadow = false;  ///< after STI, MOV SS, POP SS: one instruction without interrupts
  bool nmi_blocked = false;       ///< until IRET

  SvmState svm;

  /// x87, SSE, AVX, AVX-512 in the standard XSAVE format (SDM 1 13.4).
  alignas(64) std::array<std::uint8_t, xsave_area_bytes> xsave{};

  /// Current privilege level: SS.DPL (CS.RPL in real mode is not it).
  unsigned cpl() const { return (cr0 & CR0_PE) ? ((rflags & RFLAGS_VM) ? 3u : segments[SS].dpl()) : 0u; }
  bool long_mode() const { return (efer & EFER_LMA) != 0; }
  bool code64() const { return long_mode() && (segments[CS].attributes & Segment::L); }
};

/// Power-up state (SDM 3A 9.1.1): CS:IP f000:fff0, real mode, default XSAVE image.
void reset_state(ArchState& state);

}  // namespace veneer::cpu
