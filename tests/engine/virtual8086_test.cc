// Virtual-8086 mode: entering and leaving it, what is sensitive to IOPL, and its extensions (SDM 3B chapter 20).
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Virtual8086 : public ProtectedModeTest {
 protected:
  static constexpr std::uint64_t program_at = 0x20000;  ///< 2000:0000
  static constexpr std::uint16_t program_segment = 0x2000, stack_segment = 0x3000;
  static constexpr std::uint64_t map_at = 0x68;  ///< the I/O map in the TSS, behind 32 bytes for redirection

  /// A virtual-8086 program that runs at once.
  void virtual8086(Code code, unsigned iopl) {
    protected_mode({});
    m.load(program_at, code);
    m.state.rip = 0;
    m.state.gpr[RSP] = 0x1000;
    m.state.rflags = RFLAGS_FIXED1 | RFLAGS_VM | iopl << 12;
    for (Segment& s : m.state.segments) s = {program_segment, 0xf3, 0xffff, program_at};
    m.state.segments[SS] = {stack_segment, 0xf3, 0xffff, std::uint64_t{stack_segment} << 4};
    // Everything redirected or allowed is 0: all bits are set here.
    constexpr std::uint16_t io_map = map_at + 32;
    m.put(old_tss_at + 0x66, io_map, 2);
    for (unsigned i = 0; i < 32 + 64; i++) m.put(old_tss_at + map_at + i, 0xff, 1);
    m.state.tr.limit = map_at + 32 + 63;
  }
  void redirect(unsigned vector) {
    const std::uint64_t at = old_tss_at + map_at + vector / 8;
    m.put(at, m.get(at, 1) & ~(1u << vector % 8), 1);
    m.put(vector * 4, std::uint64_t{program_segment} << 16 | 0x100, 4);
    m.put(program_at + 0x100, 0xcc, 1);  // INT3: to the supervisor
  }
};

GUEST_CODE(enter_vm86, 32, R"(
  push 0x5000
  push 0x4000
  push 0x3000
  push 0x2000
  push 0x3000
  push 0x1000
  push 0x23002
  push 0x2000
  push 0x10
  iretd
)");
GUEST_CODE(show_segments, 16, R"(
  mov ax, ds
  mov bx, es
  mov cx, fs
  mov dx, gs
  mov si, cs
  mov di, ss
  int3
)");

TEST_P(Virtual8086, IretEnters) {
  protected_mode(enter_vm86);
  m.load(0x20010, show_segments);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, 0x2000u);
  EXPECT_EQ(taken.eflags, 0x23002u);
  EXPECT_EQ(taken.esp, 0x1000u);
  EXPECT_EQ(taken.ss, 0x3000u);
  EXPECT_EQ(taken.es, 0x2000u);
  EXPECT_EQ(taken.ds, 0x3000u);
  EXPECT_EQ(taken.fs, 0x4000u);
  EXPECT_EQ(taken.gs, 0x5000u);
  EXPECT_EQ(reg(RAX) & 0xffff, 0x3000u);
  EXPECT_EQ(reg(RSI) & 0xffff, 0x2000u);
  EXPECT_EQ(m.state.segments[DS].selector, 0) << "data segments are null in the handler";
  EXPECT_EQ(m.state.rflags & RFLAGS_VM, 0u);
}

GUEST_CODE(int_21, 16, "int 0x21");

TEST_P(Virtual8086, IntNeedsIopl3) {
  virtual8086(int_21, 0);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, 0u);
  EXPECT_EQ(taken.eip, 0u);
  EXPECT_EQ(taken.eflags & RFLAGS_VM, RFLAGS_VM);
}

TEST_P(Virtual8086, IntWithIopl3GoesThroughTheIdt) {
  virtual8086(int_21, 3);
  put_gate(0x21, gate_descriptor(kernel_code32, handlers_at + 16 * 0x21, PRESENT | DPL3 | 0xe));
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, 0x21u);
  EXPECT_EQ(taken.eip, 2u);
  EXPECT_EQ(taken.ss, stack_segment);
}

TEST_P(Virtual8086, VmeRedirectsIntToTheProgram) {
  virtual8086(int_21, 0);
  m.state.cr4 |= CR4_VME;
  m.state.rflags |= RFLAGS_VIF;
  redirect(0x21);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.cs, program_segment);
  EXPECT_EQ(taken.eip, 0x101u);
  EXPECT_EQ(taken.esp, 0x1000u - 6);
  EXPECT_EQ(taken.eflags & RFLAGS_VIF, 0u);
  const std::uint64_t frame = (std::uint64_t{stack_segment} << 4) + 0x1000 - 6;
  EXPECT_EQ(m.get(frame, 2), 2u) << "IP";
  EXPECT_EQ(m.get(frame + 2, 2), program_segment);
  EXPECT_EQ(m.get(frame + 4, 2), RFLAGS_FIXED1 | RFLAGS_IOPL | RFLAGS_IF) << "VIF is shown as IF, IOPL as 3";
}

TEST_P(Virtual8086, VmeWithASetBitAsksTheSupervisor) {
  virtual8086(int_21, 0);
  m.state.cr4 |= CR4_VME;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
}

GUEST_CODE(cli_sti, 16, R"(
  cli
  pushf
  pop ax
  sti
  pushf
  pop bx
  int3
)");

TEST_P(Virtual8086, CliNeedsIopl3) {
  virtual8086(cli_sti, 0);
  EXPECT_EQ(run_to_exception().vector, VECTOR_GP);
}

TEST_P(Virtual8086, VmeHasAVirtualInterruptFlag) {
  virtual8086(cli_sti, 0);
  m.state.cr4 |= CR4_VME;
  m.state.rflags |= RFLAGS_VIF | RFLAGS_IF;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(reg(RAX) & (RFLAGS_IF | RFLAGS_IOPL), RFLAGS_IOPL);
  EXPECT_EQ(reg(RBX) & (RFLAGS_IF | RFLAGS_IOPL), RFLAGS_IOPL | RFLAGS_IF);
  EXPECT_EQ(taken.eflags & (RFLAGS_IF | RFLAGS_VIF | RFLAGS_IOPL), RFLAGS_IF | RFLAGS_VIF);
}

TEST_P(Virtual8086, StiWithAnInterruptWaiting) {
  virtual8086(cli_sti, 0);
  m.state.cr4 |= CR4_VME;
  m.state.rflags |= RFLAGS_VIP;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, 3u);
}

GUEST_CODE(iret_vm86, 16, R"(
  push 0x3202
  push cs
  push 0x20
  iret
  .org guest_iret_vm86_begin + 0x20
  int3
)");

TEST_P(Virtual8086, IretUnderVme) {
  virtual8086(iret_vm86, 0);
  m.state.cr4 |= CR4_VME;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.eip, 0x21u);
  EXPECT_EQ(taken.eflags & (RFLAGS_IF | RFLAGS_VIF | RFLAGS_IOPL), RFLAGS_VIF);
}

TEST_P(Virtual8086, IretNeedsIopl3WithoutVme) {
  virtual8086(iret_vm86, 0);
  EXPECT_EQ(run_to_exception().vector, VECTOR_GP);
}

GUEST_CODE(ports, 16, R"(
  in al, 0x40
  in al, 0x48
)");

TEST_P(Virtual8086, PortsAskTheBitmapWhateverIopl) {
  virtual8086(ports, 3);
  m.put(old_tss_at + map_at + 32 + 8, 0xfe, 1);  // port 40h
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, 2u);
}

GUEST_CODE(user_cli_sti, 32, R"(
  cli
  sti
  cli
  int3
)");

TEST_P(Virtual8086, ProtectedModeVirtualInterrupts) {
  user32(user_cli_sti);
  m.state.cr4 |= CR4_PVI;
  m.state.rflags |= RFLAGS_IF | RFLAGS_VIF;
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_BP);
  EXPECT_EQ(taken.eflags & (RFLAGS_IF | RFLAGS_VIF), RFLAGS_IF);
}

TEST_P(Virtual8086, WithoutThemCliFaults) {
  user32(user_cli_sti);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.eip, user_code32_at);
}

ENGINE_SUITE(Virtual8086);

}  // namespace
}  // namespace veneer::engine_tests
