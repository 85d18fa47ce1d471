// What an instruction reads, writes and may raise, from Zydis' description of it.
#include "cpu/bt/insn.h"

#include "cpu/state.h"

namespace veneer::cpu::bt {
namespace {

/// Exception classes (SDM 2A 2.4, 2.8) in which #XM can come up.
bool raises_simd_exceptions(ZydisExceptionClass c) {
  switch (c) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
    case ZYDIS_EXCEPTION_CLASS_E2:
    case ZYDIS_EXCEPTION_CLASS_E3:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E11:
      return true;
    default:
      return false;
  }
}

bool shift_by_register(const Insn& insn) {
  switch (insn.mnemonic()) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      break;
    default:
      return false;
  }
  const ZydisDecodedOperand& count = insn.op[insn.z.operand_count_visible - 1];
  // A count of 0 leaves the flags alone; so does an immediate 0 after masking.
  if (count.type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
    return (count.imm.value.u & (insn.z.operand_width == 64 ? 63 : 31)) == 0;
  return true;
}

}  // namespace

int gpr_number(ZydisRegister reg, bool& high) {
  high = false;
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return ZydisRegisterGetId(reg);
    case ZYDIS_REGCLASS_GPR8: {
      const int id = reg - ZYDIS_REGISTER_AL;  // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B...
      if (id < 4) return id;
      if (id < 8) {
        high = true;
        return id - 4;
      }
      return id - 4;
    }
    default:
      return -1;
  }
}

void analyse(Insn& insn) {
  const ZydisDecodedInstruction& z = insn.z;
  if (z.cpu_flags) {
    const ZydisAccessedFlags& f = *z.cpu_flags;
    const auto written = f.modified | f.set_0 | f.set_1 | f.undefined;
    insn.reads_flags = (f.tested & RFLAGS_ARITH) != 0;
    insn.writes_all_flags = (written & RFLAGS_ARITH) == RFLAGS_ARITH && !insn.reads_flags;
    insn.writes_some_flags = (written & RFLAGS_ARITH) != 0;
    // Undefined flags that hardware in fact leaves alone, and writes that may not happen.
    if (shift_by_register(insn)) insn.writes_all_flags = false;
    switch (z.mnemonic) {
      case ZYDIS_MNEMONIC_BSF:
      case ZYDIS_MNEMONIC_BSR:
      case ZYDIS_MNEMONIC_BT:
      case ZYDIS_MNEMONIC_BTS:
      case ZYDIS_MNEMONIC_BTR:
      case ZYDIS_MNEMONIC_BTC:
      case ZYDIS_MNEMONIC_MUL:
      case ZYDIS_MNEMONIC_IMUL:
      case ZYDIS_MNEMONIC_DIV:
      case ZYDIS_MNEMONIC_IDIV:
      case ZYDIS_MNEMONIC_SHL:
      case ZYDIS_MNEMONIC_SHR:
      case ZYDIS_MNEMONIC_SAR:
      case ZYDIS_MNEMONIC_SHLD:
      case ZYDIS_MNEMONIC_SHRD:
      case ZYDIS_MNEMONIC_LZCNT:
      case ZYDIS_MNEMONIC_TZCNT:
      case ZYDIS_MNEMONIC_BEXTR:
        insn.writes_all_flags = insn.writes_all_flags && (f.undefined & RFLAGS_ARITH) == 0;
        break;
      default:
        break;
    }
  }
  bool mmx = false;  // CVTPD2PI and its kin are SSE's by their row
  for (unsigned i = 0; i < z.operand_count; i++) {
    const ZydisDecodedOperand& op = insn.op[i];
    if (op.type == ZYDIS_OPERAND_TYPE_REGISTER && (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
      bool high;
      const int n = gpr_number(op.reg.value, high);
      if (n >= 0) insn.gpr_written |= 1u << n;
    }
    mmx |= op.type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_MMX;
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.mem.type == ZYDIS_MEMOP_TYPE_MEM) insn.accesses++;
  }
  insn.memory_op = static_cast<std::int8_t>(x86::memory_operand(z, insn.op));
  insn.native_fault = z.mnemonic == ZYDIS_MNEMONIC_DIV || z.mnemonic == ZYDIS_MNEMONIC_IDIV ||
                      insn.row.fp == x86::FpClass::X87 || insn.row.fp == x86::FpClass::Wait ||
                      insn.row.fp == x86::FpClass::Mmx || mmx || raises_simd_exceptions(z.meta.exception_class);
}

bool waits_for_x87(const Insn& insn) {
  if (insn.row.fp == x86::FpClass::Mmx) return true;
  return insn.row.fp == x86::FpClass::X87 && insn.mnemonic() != ZYDIS_MNEMONIC_FNSTCW &&
         insn.mnemonic() != ZYDIS_MNEMONIC_FNSTSW;
}

MemoryOperand memory_operand(const Insn& insn) {
  MemoryOperand m;
  const auto& mem = insn.op[insn.memory_op].mem;
  bool high;
  m.address_bytes = static_cast<std::uint8_t>(insn.z.address_width / 8);
  m.displacement = mem.disp.has_displacement ? mem.disp.value : 0;
  if (mem.base == ZYDIS_REGISTER_RIP || mem.base == ZYDIS_REGISTER_EIP) {
    m.base = MemoryOperand::rip;
    m.displacement += insn.next_offset();
  } else if (mem.base != ZYDIS_REGISTER_NONE) {
    m.base = static_cast<std::uint8_t>(gpr_number(mem.base, high));
  }
  if (mem.index != ZYDIS_REGISTER_NONE) {
    const int n = gpr_number(mem.index, high);
    if (n >= 0) m.index = static_cast<std::uint8_t>(n);
    m.scale_log2 = static_cast<std::uint8_t>(mem.scale == 8 ? 3 : mem.scale == 4 ? 2 : mem.scale == 2 ? 1 : 0);
  }
  switch (mem.segment) {
    case ZYDIS_REGISTER_ES:
      m.segment = ES;
      break;
    case ZYDIS_REGISTER_CS:
      m.segment = CS;
      break;
    case ZYDIS_REGISTER_SS:
      m.segment = SS;
      break;
    case ZYDIS_REGISTER_FS:
      m.segment = FS;
      break;
    case ZYDIS_REGISTER_GS:
      m.segment = GS;
      break;
    default:
      m.segment = DS;
      break;
  }
  return m;
}

}  // namespace veneer::cpu::bt
