// A small x86-64 assembler for the translator: the few instruction shapes that it invents itself.
//
// Guest instructions are re-encoded from their own bytes (encode.h); this writes the glue around them straight into
// the code cache, without per-block set-up. Addresses are those of the writable mapping; all emitted references are
// relative or through gs, so that the code runs at the executable mapping's address.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "base/assert.h"

namespace veneer::cpu::bt {

/// Host registers in encoding order.
enum Host : std::uint8_t { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 };

/// Condition codes as in Jcc's opcode.
enum class Cond : std::uint8_t { O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G };

class Assembler {
 public:
  using Mark = std::uint8_t*;  ///< a position in the emitted code

  void begin(std::uint8_t* start, std::uint8_t* end) {
    at_ = start;
    end_ = end;
  }
  Mark here() const { return at_; }
  /// Registers that emitted code has written since clear_written(), apart from those of re-encoded guest instructions.
  bool has_written(Host r) const { return (written_ >> r) & 1; }
  void wrote(Host r) { written_ |= 1u << r; }
  void clear_written(Host r) { written_ &= ~(1u << r); }
  std::size_t room() const { return static_cast<std::size_t>(end_ - at_); }

  void byte(unsigned b) { *at_++ = static_cast<std::uint8_t>(b); }
  void bytes(std::span<const std::uint8_t> data) {
    std::memcpy(at_, data.data(), data.size());
    at_ += data.size();
  }
  void imm32(std::int32_t v) {
    std::memcpy(at_, &v, 4);
    at_ += 4;
  }
  void imm64(std::uint64_t v) {
    std::memcpy(at_, &v, 8);
    at_ += 8;
  }

  // mov r64, r64 / r32, r32
  void mov(Host to, Host from) { wrote(to), rex_rr(1, from, to), byte(0x89), modrm_rr(from, to); }
  void mov32(Host to, Host from) { wrote(to), rex_rr(0, from, to), byte(0x89), modrm_rr(from, to); }
  void mov_imm32(Host to, std::uint32_t v) {  // zero-extends
    wrote(to);
    if (to >= 8) byte(0x41);
    byte(0xb8 + (to & 7)), imm32(static_cast<std::int32_t>(v));
  }
  void mov_imm(Host to, std::uint64_t v) {
    wrote(to);
    if (v <= 0xffffffffu) return mov_imm32(to, static_cast<std::uint32_t>(v));
    if (static_cast<std::int64_t>(v) == static_cast<std::int32_t>(v)) {
      byte(0x48 | (to >> 3)), byte(0xc7), byte(0xc0 | (to & 7)), imm32(static_cast<std::int32_t>(v));
      return;
    }
    byte(0x48 | (to >> 3)), byte(0xb8 + (to & 7)), imm64(v);
  }

  // gs:[displacement]
  void load_gs(Host to, std::int32_t disp) { wrote(to), gs_op(1, 0x8b, to, disp); }
  void load_gs32(Host to, std::int32_t disp) { wrote(to), gs_op(0, 0x8b, to, disp); }
  /// movzx r32, word gs:[disp]: as wide as store_gs16, or the store would not forward.
  void load_gs16(Host to, std::int32_t disp) {
    wrote(to);
    byte(0x65), rex(false, to, 0, 0), byte(0x0f), byte(0xb7), byte(((to & 7u) << 3) | 4), byte(0x25), imm32(disp);
  }
  void cmp_gs(Host r, std::int32_t disp) { gs_op(1, 0x3b, r, disp); }
  void store_gs(std::int32_t disp, Host from) { gs_op(1, 0x89, from, disp); }
  void store_gs16(std::int32_t disp, Host from) { byte(0x66), gs_op(0, 0x89, from, disp); }
  void store_gs_imm32(std::int32_t disp, std::int32_t v) { gs_op(1, 0xc7, static_cast<Host>(0), disp), imm32(v); }
  void jmp_gs(std::int32_t disp) { gs_op(0, 0xff, static_cast<Host>(4), disp); }
  void call_gs(std::int32_t disp) { gs_op(0, 0xff, static_cast<Host>(2), disp); }
  // gs:[index*8 + displacement]
  void load_gs_index8(Host to, Host index, std::int32_t disp) { wrote(to), gs_index_op(0x8b, to, index, disp); }
  void add_gs_index8(Host to, Host index, std::int32_t disp) { wrote(to), gs_index_op(0x03, to, index, disp); }
  void jmp_gs_index8(Host index, std::int32_t disp) { indirect_gs_index8(4, index, disp); }
  void call_gs_index8(Host index, std::int32_t disp) { indirect_gs_index8(2, index, disp); }

  /// lea to, [base + disp]; 32-bit form truncates.
  void lea(Host to, Host base, std::int32_t disp, bool wide = true) {
    wrote(to), rex(wide, to, 0, base), byte(0x8d), modrm_mem(to, base, disp);
  }
  /// The same, 7 bytes long whatever the displacement.
  void lea_long(Host to, Host base, std::int32_t disp) {
    VENEER_ASSERT((base & 7) != 4);
    rex(true, to, 0, base), byte(0x8d), byte(0x80 | ((to & 7u) << 3) | (base & 7u)), imm32(disp);
  }
  /// lea to, [base + index*scale + disp]
  void lea(Host to, Host base, Host index, unsigned scale_log2, std::int32_t disp, bool wide = true) {
    VENEER_ASSERT(index != rsp);
    wrote(to), rex(wide, to, index, base), byte(0x8d);
    const unsigned sib = (scale_log2 << 6) | ((index & 7u) << 3) | (base & 7u);
    if (disp == 0 && (base & 7) != 5) {
      byte(((to & 7u) << 3) | 4), byte(sib);
    } else if (disp == static_cast<std::int8_t>(disp)) {
      byte(0x44 | ((to & 7u) << 3)), byte(sib), byte(static_cast<std::uint8_t>(disp));
    } else {
      byte(0x84 | ((to & 7u) << 3)), byte(sib), imm32(disp);
    }
  }
  /// lea to, [index*scale + disp]
  void lea_index(Host to, Host index, unsigned scale_log2, std::int32_t disp, bool wide = true) {
    VENEER_ASSERT(index != rsp);
    wrote(to), rex(wide, to, index, 0), byte(0x8d);
    byte(((to & 7u) << 3) | 4), byte((scale_log2 << 6) | ((index & 7u) << 3) | 5), imm32(disp);
  }

  // [base + index] with an operand of 8 << n bits: mov only
  void load(unsigned size, Host to, Host base, Host index) {
    wrote(to), mem_bi(size, size == 1 ? 0x8a : 0x8b, to, base, index);
  }
  void store(unsigned size, Host base, Host index, Host from) {
    mem_bi(size, size == 1 ? 0x88 : 0x89, from, base, index);
  }
  /// mov between a 64-bit register and [base + index + disp]
  void load_at(Host to, Host base, Host index, std::int32_t disp) { wrote(to), mem_bid(0x8b, to, base, index, disp); }
  void store_at(Host base, Host index, std::int32_t disp, Host from) { mem_bid(0x89, from, base, index, disp); }
  void store64(Host base, std::int32_t disp, Host from) {
    rex(true, from, 0, base), byte(0x89), modrm_mem(from, base, disp);
  }
  void store32(Host base, std::int32_t disp, Host from) {
    rex(false, from, 0, base), byte(0x89), modrm_mem(from, base, disp);
  }
  /// movzx r32, word [base + disp]
  void load_zx16(Host to, Host base, std::int32_t disp) {
    wrote(to), rex(false, to, 0, base), byte(0x0f), byte(0xb7), modrm_mem(to, base, disp);
  }
  /// mov r64, [base + disp]
  void load64(Host to, Host base, std::int32_t disp) {
    wrote(to), rex(true, to, 0, base), byte(0x8b), modrm_mem(to, base, disp);
  }
  /// lea to, [base + index + disp32]: the answer is the position of the displacement.
  Mark lea_disp32(Host to, Host base, Host index) {
    wrote(to), rex(true, to, index, base), byte(0x8d);
    byte(0x84 | ((to & 7u) << 3)), byte(((index & 7u) << 3) | (base & 7u));
    return rel32_slot();
  }
  static constexpr unsigned lea_disp32_opcode_bytes = 4;
  void push(Host r) {
    if (r >= 8) byte(0x41);
    byte(0x50 | (r & 7u));
  }
  void ret(std::uint16_t release) { byte(0xc2), byte(release & 0xff), byte(release >> 8); }
  /// mov r32, [base] (the loop poll)
  void load32(Host to, Host base) { wrote(to), rex(false, to, 0, base), byte(0x8b), modrm_mem(to, base, 0); }

  void rorx(Host to, Host from, unsigned count) {
    wrote(to), byte(0xc4), byte((to >= 8 ? 0 : 0x80u) | 0x40u | (from >= 8 ? 0 : 0x20u) | 3u), byte(0xfb), byte(0xf0);
    byte(0xc0 | ((to & 7u) << 3) | (from & 7u)), byte(count);
  }
  void shrx(Host to, Host from, Host count) { shift_x(3, to, from, count); }
  void shlx(Host to, Host from, Host count) { shift_x(1, to, from, count); }
  void sarx(Host to, Host from, Host count) { shift_x(2, to, from, count); }
  void movsx16(Host to, Host from) { wrote(to), rex_rr(1, to, from), byte(0x0f), byte(0xbf), modrm_rr(to, from); }
  void movsxd(Host to, Host from) { wrote(to), rex_rr(1, to, from), byte(0x63), modrm_rr(to, from); }
  void mov16(Host to, Host from) { wrote(to), byte(0x66), rex_rr(0, from, to), byte(0x89), modrm_rr(from, to); }
  void movzx16(Host to, Host from) { wrote(to), rex_rr(0, to, from), byte(0x0f), byte(0xb7), modrm_rr(to, from); }
  void add(Host to, Host from) { wrote(to), rex_rr(1, from, to), byte(0x01), modrm_rr(from, to); }
  void cmp_imm32(Host r, std::int32_t v) { byte(0x48 | (r >> 3)), byte(0x81), byte(0xf8 | (r & 7)), imm32(v); }
  enum class Alu : std::uint8_t { Add = 0, Sub = 5, Cmp = 7 };
  void alu(Alu op, Host to, Host from, bool wide) {
    wrote(to);
    rex(wide, from, 0, to), byte(static_cast<unsigned>(op) << 3 | 1), modrm_rr(from, to);
  }
  void alu_imm32(Alu op, Host to, std::int32_t v, bool wide) {
    wrote(to);
    rex(wide, 0, 0, to), byte(0x81), byte(0xc0 | static_cast<unsigned>(op) << 3 | (to & 7u)), imm32(v);
  }
  void not_(Host r) { wrote(r), rex(true, 0, 0, r), byte(0xf7), byte(0xd0 | (r & 7u)); }
  void test(Host x, Host y, bool wide) { rex(wide, y, 0, x), byte(0x85), modrm_rr(y, x); }
  void lahf() { byte(0x9f); }
  void sahf() { byte(0x9e); }
  void seto_al() { byte(0x0f), byte(0x90), byte(0xc0); }
  void add_al(unsigned v) { byte(0x04), byte(v); }

  // Jumps whose distance is filled in later: the answer is the position of the rel32.
  Mark jmp() { return byte(0xe9), rel32_slot(); }
  Mark call() { return byte(0xe8), rel32_slot(); }
  Mark jcc(Cond c) { return byte(0x0f), byte(0x80 | static_cast<unsigned>(c)), rel32_slot(); }
  Mark jrcxz() { return byte(0xe3), byte(0), at_ - 1; }  // rel8
  void bind(Mark rel32) { patch(rel32, at_); }
  static void patch(Mark rel32, Mark target) {
    const auto distance = static_cast<std::int32_t>(target - (rel32 + 4));
    std::memcpy(rel32, &distance, 4);
  }
  void bind8(Mark rel8) {
    const auto distance = at_ - (rel8 + 1);
    VENEER_ASSERT(distance >= -128 && distance <= 127);
    *rel8 = static_cast<std::uint8_t>(distance);
  }
  void jmp_to(Mark target) { patch(jmp(), target); }

  void nops(unsigned n) {
    static constexpr std::uint8_t one[] = {0x90}, two[] = {0x66, 0x90}, three[] = {0x0f, 0x1f, 0x00};
    for (; n >= 3; n -= 3) bytes(three);
    if (n == 2) bytes(two);
    if (n == 1) bytes(one);
  }

 private:
  void shift_x(unsigned pp, Host to, Host from, Host count) {  // 64-bit SHLX, SARX, SHRX
    wrote(to);
    byte(0xc4), byte((to >= 8 ? 0 : 0x80u) | 0x40u | (from >= 8 ? 0 : 0x20u) | 2u);
    byte(0x80u | ((~static_cast<unsigned>(count) & 15u) << 3) | pp), byte(0xf7);
    byte(0xc0 | ((to & 7u) << 3) | (from & 7u));
  }
  Mark rel32_slot() {
    const Mark slot = at_;
    imm32(0);
    return slot;
  }
  void rex(bool w, unsigned reg, unsigned index, unsigned base) {
    const unsigned r = (w ? 8u : 0) | (reg >= 8 ? 4u : 0) | (index >= 8 ? 2u : 0) | (base >= 8 ? 1u : 0);
    if (r) byte(0x40 | r);
  }
  void rex_rr(unsigned w, Host reg, Host rm) { rex(w != 0, reg, 0, rm); }
  void modrm_rr(Host reg, Host rm) { byte(0xc0 | ((reg & 7u) << 3) | (rm & 7u)); }
  void modrm_mem(Host reg, Host base, std::int32_t disp) {
    const bool sib = (base & 7) == 4;
    const unsigned rm = (reg & 7u) << 3 | (base & 7u);
    const bool none = disp == 0 && (base & 7) != 5;
    const bool small = disp == static_cast<std::int8_t>(disp);
    byte((none ? 0 : small ? 0x40u : 0x80u) | rm);
    if (sib) byte(0x24);
    if (none) return;
    if (small)
      byte(static_cast<std::uint8_t>(disp));
    else
      imm32(disp);
  }
  void gs_op(unsigned w, unsigned opcode, Host reg, std::int32_t disp) {
    byte(0x65), rex(w != 0, reg, 0, 0), byte(opcode), byte(((reg & 7u) << 3) | 4), byte(0x25), imm32(disp);
  }
  void gs_index_op(unsigned opcode, Host reg, Host index, std::int32_t disp) {
    byte(0x65), rex(true, reg, index, 0), byte(opcode), byte(((reg & 7u) << 3) | 4);
    byte(0xc5 | ((index & 7u) << 3)), imm32(disp);
  }
  void indirect_gs_index8(unsigned operation, Host index, std::int32_t disp) {
    byte(0x65);
    if (index >= 8) byte(0x42);
    byte(0xff), byte(operation << 3 | 4), byte(0xc5 | ((index & 7u) << 3)), imm32(disp);
  }
  void mem_bid(unsigned opcode, Host reg, Host base, Host index, std::int32_t disp) {
    rex(true, reg, index, base), byte(opcode);
    const bool small = disp == static_cast<std::int8_t>(disp);
    byte((small ? 0x44u : 0x84u) | ((reg & 7u) << 3)), byte(((index & 7u) << 3) | (base & 7u));
    if (small)
      byte(static_cast<std::uint8_t>(disp));
    else
      imm32(disp);
  }
  void mem_bi(unsigned size, unsigned opcode, Host reg, Host base, Host index) {
    if (size == 2) byte(0x66);
    const unsigned r = 0x40 | (size == 8 ? 8u : 0) | (reg >= 8 ? 4u : 0) | (index >= 8 ? 2u : 0) | (base >= 8 ? 1u : 0);
    if (r != 0x40 || size == 1) byte(r);
    byte(opcode), byte(((reg & 7u) << 3) | 4), byte(((index & 7u) << 3) | (base & 7u));
  }

  std::uint32_t written_ = 0;
  std::uint8_t* at_ = nullptr;
  std::uint8_t* end_ = nullptr;
};

}  // namespace veneer::cpu::bt
