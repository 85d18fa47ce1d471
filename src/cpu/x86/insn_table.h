// The instruction table: one row per mnemonic a guest may execute, and how the translator treats it.
//
// It is an allow-list. A mnemonic without a row is Undefined: the guest gets #UD (traps.md 2). The rows are in the
// rows_*.inc files beside this one, keyed by Zydis mnemonic; a few mnemonics stand for several instructions
// (MOV r/MOV sreg/MOV CR, MOVSD string/SSE2, near and far RET), and classify() tells these apart by encoding.
// Everything here is immutable after start-up and may be used from any thread.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>

#include "cpu/cpuid.h"

namespace veneer::cpu::x86 {

/// What the translator does with an instruction (engine.md 1).
enum class Treatment : std::uint8_t {
  Undefined,  ///< #UD
  Native,     ///< the same instruction: copied when it touches registers only, its operand rewritten when in memory
  Emit,       ///< the emitter writes host code for it: control flow, stack, strings, what 64-bit mode cannot encode
  CallOut,    ///< a C++ routine does it: system state, save areas
};

/// How the address of the memory access follows from the instruction (traps.md 5).
enum class AddressForm : std::uint8_t {
  None,         ///< no explicit memory access (the stack of PUSH, POP, CALL, RET ... is the emitter's business)
  ModRm,        ///< the operand in the encoding, if it is memory: Zydis operand size bytes at the effective address
  Moffs,        ///< MOV AL/eAX with an offset in the instruction and no ModRM byte (A0-A3)
  AddressOnly,  ///< a ModRM operand that is computed and not accessed: LEA, NOP, INVLPG
  Hint,         ///< PREFETCHx: may be dropped, never faults
  CacheLine,    ///< CLFLUSH, CLFLUSHOPT, CLWB: checked like a one-byte read, acts on the line
  BitString,    ///< BT/BTS/BTR/BTC m,r: the bit index adds (index >> log2(size)) * size bytes, signed
  Xlat,         ///< [rBX + zero-extended AL]
  MaskMov,      ///< MASKMOVQ, MASKMOVDQU: [rDI], only the bytes whose mask bit is set, no fault on the others
  ElementMask,  ///< VMASKMOVPS/PD, VPMASKMOVD/Q: ModRM, but masked elements neither accessed nor faulting
  Compress,     ///< VCOMPRESS*, VEXPAND*, VPCOMPRESS*, VPEXPAND*: the first popcount(mask) elements only
  Vsib,         ///< gather and scatter: one address per element
  String,       ///< MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS: [rSI] and/or ES:[rDI]
  FarPointer,   ///< m16:16, m16:32, m16:64
  Descriptor,   ///< SGDT, SIDT, LGDT, LIDT: 6 bytes, in 64-bit mode 10
  FpuEnv,       ///< FNSTENV, FLDENV: 14 or 28 bytes by operand size
  FpuState,     ///< FNSAVE, FRSTOR: 94 or 108 bytes by operand size
  FxArea,       ///< FXSAVE, FXRSTOR: 512 bytes, 16-aligned
  XsaveArea,    ///< XSAVE, XSAVEOPT, XSAVEC, XRSTOR: size by EDX:EAX & XCR0, 64-aligned
};

/// Which enabling bits an instruction obeys.
enum class FpClass : std::uint8_t {
  None,
  Wait,    ///< FWAIT: #NM if CR0.MP and TS
  X87,     ///< #NM if CR0.EM or TS
  Mmx,     ///< #UD if CR0.EM, #NM if TS
  Sse,     ///< #UD if CR0.EM or not CR4.OSFXSR, #NM if TS
  Avx,     ///< #UD if real/virtual-8086 mode, not CR4.OSXSAVE or XCR0[2:1] != 11b, #NM if TS
  Avx512,  ///< as Avx, and #UD if XCR0[7:5] != 111b
};

/// What the instruction does to its memory operand.
enum class MemAccess : std::uint8_t {
  None,
  Read,
  Write,      ///< written without being read
  ReadWrite,  ///< write permission is needed before anything happens (CMPXCHG writes even if unequal)
  Operand,    ///< in rows only, never from classify(): as Zydis' operand actions say
};

struct Row {
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  Treatment treatment = Treatment::Undefined;
  AddressForm form = AddressForm::None;
  FpClass fp = FpClass::None;
  bool lockable = false;               ///< accepts LOCK with a memory destination (XCHG locks by itself)
  MemAccess access = MemAccess::None;  ///< of the operand when it is memory
};

/// The mnemonic's row; an Undefined one if it has none. O(1). This is the row of the mnemonic's usual form:
/// the translator wants classify().
const Row& row(ZydisMnemonic mnemonic);

/// The row made exact for one decoded instruction:
///  - treatment by encoding: MOV to and from segment, control and debug registers, far CALL/JMP/RET, the string
///    instructions that share MOVSD and CMPSD; encodings that do not exist in 64-bit mode (40-4F INC/DEC, opcode 82)
///    and A0-A3 are Emit;
///  - Undefined where W of VEX or EVEX is ignored in the guest's mode but would widen the operand in the host's;
///  - form None and access None if no operand is in memory, BitString only with a register index;
///  - fp by encoding (legacy, VEX, EVEX) and register file (MMX or XMM);
///  - access from the operand's actions.
/// `operands` are all visible operands (instruction.operand_count_visible at least).
Row classify(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands);

/// True when masked-off elements of the memory operand must neither be accessed nor fault: EVEX with an opmask,
/// ElementMask, MaskMov, Compress, and Vsib forms. The translator's fast path may access all of it if all is
/// accessible *and* it is a read; otherwise the active elements decide.
bool suppresses_faults(const ZydisDecodedInstruction& instruction, const Row& row);

/// The index of the visible memory operand, or -1.
int memory_operand(const ZydisDecodedInstruction& instruction, const ZydisDecodedOperand* operands);

/// The CPUID policy made ready for questions per decoded instruction. Build one per engine.
class FeatureGate {
 public:
  explicit FeatureGate(const CpuidPolicy& policy);
  /// True when the guest's CPUID shows what this encoding needs (else #UD).
  bool offered(const ZydisDecodedInstruction& instruction) const;

 private:
  std::array<bool, ZYDIS_ISA_SET_MAX_VALUE + 1> isa_set_{};
  bool has_for_mnemonic(const ZydisDecodedInstruction& instruction) const;
  bool pclmulqdq_ = false;
  bool lahf_lm_ = false;
  bool tsc_ = false, msr_ = false, cmpxchg8b_ = false, sep_ = false, svm_ = false;
};

/// FeatureGate(policy).offered(instruction), for tests and single questions.
bool feature_offered(const CpuidPolicy& policy, const ZydisDecodedInstruction& instruction);

/// A decoder that reads code as the guest's processor does: extensions that are off in `policy` decode as the NOPs
/// or older instructions whose encodings they took (ENDBR64, BNDMOV, CLDEMOTE; LZCNT as BSR).
ZydisDecoder make_decoder(ZydisMachineMode mode, ZydisStackWidth stack_width, const CpuidPolicy& policy);

}  // namespace veneer::cpu::x86
