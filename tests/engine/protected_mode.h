// 32-bit protected mode without paging: descriptors for every kind of transfer, and handlers that halt.
#pragma once

#include "machine.h"

namespace veneer::engine_tests {

// Behind the selectors of machine.h. Those with 3 in the low bits are user code's.
inline constexpr std::uint16_t ldt_selector = 0x50, task_selector = 0x58, task_gate_selector = 0x60,
                               call_gate = 0x68 | 3, code16 = 0x70, conforming = 0x78, task16_selector = 0x80,
                               small_data = 0x88, read_only = 0x90, execute_only = 0x98, expand_down = 0xa0,
                               user_task = 0xa8, limited_code = 0xb0;
inline constexpr std::uint64_t old_tss_at = tss_at, task_at = 0xb000, task16_at = 0xb200, ldt_at = 0xb400;
inline constexpr std::uint64_t user_code32_at = 0x110000, kernel_entry_at = 0x120000, task_code_at = 0x130000;
inline constexpr std::uint64_t user_stack_top = 0x208000, task_stack_top = 0x20a000;

// Type bytes of descriptors: P, DPL, S, type.
inline constexpr unsigned PRESENT = 0x80, DPL3 = 0x60;

/// A segment or system descriptor (SDM 3A 3.4.5).
constexpr std::uint64_t descriptor(std::uint64_t base, std::uint64_t limit, unsigned type_byte, unsigned flags = 0) {
  return (limit & 0xffff) | (base & 0xffffff) << 16 | std::uint64_t{type_byte} << 40 | (limit >> 16 & 0xf) << 48 |
         std::uint64_t{flags} << 52 | (base >> 24 & 0xff) << 56;
}
/// A gate (SDM 3A 5.8.3, 6.11, 7.2.5).
constexpr std::uint64_t gate_descriptor(std::uint16_t selector, std::uint64_t offset, unsigned type_byte,
                                        unsigned parameters = 0) {
  return (offset & 0xffff) | std::uint64_t{selector} << 16 | std::uint64_t{parameters} << 32 |
         std::uint64_t{type_byte} << 40 | (offset >> 16 & 0xffff) << 48;
}

/// What a default handler found on its stack.
struct Taken32 {
  unsigned vector = 0;
  std::optional<std::uint32_t> error;
  std::uint32_t eip = 0, cs = 0, eflags = 0;
  std::uint32_t esp = 0, ss = 0;                 ///< after a change of stacks
  std::uint32_t es = 0, ds = 0, fs = 0, gs = 0;  ///< from virtual-8086 mode
};

class ProtectedModeTest : public EngineTest {
 protected:
  static constexpr unsigned BIG = 4, PAGES = 8;

  void put_descriptor(std::uint16_t selector, std::uint64_t bits) { m.put(gdt_at + (selector & ~7u), bits); }
  std::uint64_t descriptor_at(std::uint16_t selector) { return m.get(gdt_at + (selector & ~7u)); }
  void put_gate(unsigned vector, std::uint64_t bits) { m.put(idt_at + 8 * vector, bits); }

  /// Supervisor code at code_at.
  void protected_mode(Code code) {
    m.load(code_at, code);
    m.long_mode();
    m.state.cr0 &= ~cpu::CR0_PG;
    m.state.cr4 &= ~(cpu::CR4_PAE | cpu::CR4_PGE);
    m.state.efer = 0;
    m.state.segments[cpu::CS] = {kernel_code32, 0xc9b, 0xffffffff, 0};
    put_descriptor(ldt_selector, descriptor(ldt_at, 0xff, PRESENT | 2));
    put_descriptor(task_selector, descriptor(task_at, 0x67, PRESENT | 9));
    put_descriptor(user_task, descriptor(task_at, 0x67, PRESENT | DPL3 | 9));
    put_descriptor(task_gate_selector, gate_descriptor(task_selector, 0, PRESENT | DPL3 | 5));
    put_descriptor(call_gate, gate_descriptor(kernel_code32, kernel_entry_at, PRESENT | DPL3 | 0xc, 2));
    put_descriptor(code16, descriptor(code_at, 0xffff, PRESENT | 0x1a));
    put_descriptor(conforming, descriptor(0, 0xfffff, PRESENT | 0x1e, BIG | PAGES));
    put_descriptor(task16_selector, descriptor(task16_at, 0x2b, PRESENT | 1));
    put_descriptor(small_data, descriptor(data_at, 0xfff, PRESENT | 0x12, BIG));
    put_descriptor(read_only, descriptor(data_at, 0xfff, PRESENT | 0x10, BIG));
    put_descriptor(execute_only, descriptor(data_at, 0xfff, PRESENT | 0x18, BIG));
    put_descriptor(expand_down, descriptor(data_at, 0xfff, PRESENT | 0x16, BIG));
    put_descriptor(limited_code, descriptor(code_at, 0x1f, PRESENT | 0x1a, BIG));
    m.state.gdtr.limit = 0xff;
    m.put(old_tss_at + 4, kernel_stack_top, 4);
    m.put(old_tss_at + 8, kernel_data, 4);
    for (unsigned vector = 0; vector < 256; vector++)
      put_gate(vector, gate_descriptor(kernel_code32, handlers_at + 16 * vector,
                                       PRESENT | (vector == cpu::VECTOR_BP ? DPL3 : 0) | 0xe));
    m.state.idtr.limit = 256 * 8 - 1;
  }
  /// User code at user_code32_at.
  void user32(Code code) {
    protected_mode({});
    m.load(user_code32_at, code);
    m.state.rip = user_code32_at;
    m.state.gpr[cpu::RSP] = user_stack_top;
    m.state.segments[cpu::CS] = {user_code32, 0xcfb, 0xffffffff, 0};
    for (const auto data : {cpu::SS, cpu::DS, cpu::ES}) m.state.segments[data] = {user_data, 0xcf3, 0xffffffff, 0};
  }
  std::uint32_t stack(unsigned n) { return static_cast<std::uint32_t>(m.get(m.state.gpr[cpu::RSP] + 4 * n, 4)); }

  /// run() must end in a default handler.
  Taken32 run_to_exception() {
    Taken32 taken;
    const cpu::Exit exit = m.run();
    EXPECT_EQ(exit.reason, cpu::ExitReason::Halted) << exit.message;
    const std::uint64_t at = m.state.rip - 1 - handlers_at;
    EXPECT_TRUE(at < 256 * 16 && at % 16 == 0) << "halted outside the handlers, at " << std::hex << m.state.rip;
    if (at >= 256 * 16) return taken;
    taken.vector = static_cast<unsigned>(at / 16);
    constexpr std::uint32_t with_error = 1u << cpu::VECTOR_DF | 1u << cpu::VECTOR_TS | 1u << cpu::VECTOR_NP |
                                         1u << cpu::VECTOR_SS | 1u << cpu::VECTOR_GP | 1u << cpu::VECTOR_PF |
                                         1u << cpu::VECTOR_AC;
    unsigned n = 0;
    if (taken.vector < 32 && ((with_error >> taken.vector) & 1)) taken.error = stack(n++);
    taken.eip = stack(n++);
    taken.cs = stack(n++);
    taken.eflags = stack(n++);
    taken.esp = stack(n++);
    taken.ss = stack(n++);
    taken.es = stack(n++);
    taken.ds = stack(n++);
    taken.fs = stack(n++);
    taken.gs = stack(n++);
    return taken;
  }
};

}  // namespace veneer::engine_tests
