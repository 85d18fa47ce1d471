// The other modes: real mode from reset, protected mode without and with paging, the way into long mode.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Modes : public EngineTest {
 protected:
  void protected_mode(Code code) {
    m.load(code_at, code);
    m.long_mode();
    m.state.cr0 &= ~CR0_PG;
    m.state.cr4 &= ~(CR4_PAE | CR4_PGE);
    m.state.efer = 0;
    m.state.segments[CS] = {kernel_code32, 0xc9b, 0xffffffff, 0};
  }
  void real_mode(Code code, std::uint16_t segment = 0x1000) {
    reset_state(m.state);
    m.load(std::uint64_t{segment} << 4, code);
    for (Segment& s : m.state.segments) s = {segment, 0x93, 0xffff, std::uint64_t{segment} << 4};
    m.state.segments[CS].attributes = 0x9b;
    m.state.rip = 0;
    m.state.gpr = {};
    m.state.gpr[RSP] = 0x8000;
  }
};

GUEST_CODE(real_arithmetic, 16, R"(
  mov ax, 0x1234
  mov bx, ax
  shl eax, 16
  add bx, 0xf000
  adc cx, 0
  push bx
  pop dx
  hlt
)");

TEST_P(Modes, RealModeArithmetic) {
  real_mode(real_arithmetic);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x12340000u);
  EXPECT_EQ(reg(RBX), 0x0234u);
  EXPECT_EQ(reg(RCX), 1u);
  EXPECT_EQ(reg(RDX), 0x0234u);
}

GUEST_CODE(real_segments, 16, R"(
  mov ax, 0x2000
  mov es, ax
  mov word ptr es:[0x10], 0xbeef
  mov ax, es:[0x10]
  hlt
)");

TEST_P(Modes, RealModeSegmentsAreShifted) {
  real_mode(real_segments);
  m.run();
  EXPECT_EQ(m.get(0x20010, 2), 0xbeefu);
  EXPECT_EQ(reg(RAX), 0xbeefu);
}

GUEST_CODE(real_wrap, 16, R"(
  mov si, 0xffff
  lodsb
  hlt
)");

TEST_P(Modes, RealModeIndicesWrap) {
  real_mode(real_wrap);
  m.put(0x1ffff, 0x5a, 1);
  m.run();
  EXPECT_EQ(reg(RAX) & 0xff, 0x5au);
  EXPECT_EQ(reg(RSI), 0u);
}

GUEST_CODE(real_interrupt, 16, R"(
  int 0x21
  hlt
)");
GUEST_CODE(real_handler, 16, R"(
  mov ax, 0x4c
  iret
)");

TEST_P(Modes, RealModeInterruptsGoThroughTheVectorTable) {
  real_mode(real_interrupt);
  m.load(0x30000, real_handler);
  m.put(0x21 * 4, 0x30000000, 4);  // 3000:0000
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x4cu);
  EXPECT_EQ(m.state.rip, real_interrupt.size());
  EXPECT_EQ(reg(RSP), 0x8000u);
}

GUEST_CODE(reset_code, 16, R"(
  mov dx, 0x80
  mov al, 0x11
  out dx, al
  hlt
)");

TEST_P(Modes, ResetStartsBelow4GiB) {
  // A second ROM slot would be nicer; the test machine's RAM does not reach there, so CS:IP is moved into it.
  reset_state(m.state);
  EXPECT_EQ(m.state.segments[CS].base + m.state.rip, 0xfffffff0u);
  m.state.segments[CS].base = 0xf0000;
  m.load(0xffff0, reset_code);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  const std::vector<BusAccess> expected = {{true, 0x80, 1, 0x11}};
  EXPECT_EQ(m.board.ports, expected);
}

GUEST_CODE(into_long_mode, 16, R"(
  lgdt cs:[2f - guest_into_long_mode_begin]
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  mov eax, 0x10000
  mov cr3, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x100
  wrmsr
  mov eax, cr0
  or eax, 0x80000001
  mov cr0, eax
  ljmp 0x08:0
  .org guest_into_long_mode_begin + 0x80
2: .word 79
  .long 0x1000
)");
GUEST_CODE(in_long_mode, 64, R"(
  mov ax, 0x10
  mov ss, ax
  mov rsp, 0x8000
  mov rax, 0x1122334455667788
  hlt
)");

TEST_P(Modes, TheWayIntoLongMode) {
  real_mode(into_long_mode, 0x800);
  m.load(0, in_long_mode);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x1122334455667788u);
  EXPECT_TRUE(m.state.long_mode());
  EXPECT_TRUE(m.state.code64());
  EXPECT_EQ(m.state.efer & EFER_LMA, EFER_LMA);
}

GUEST_CODE(flat32, 32, R"(
  mov eax, 0x11223344
  mov ebx, 0x200000
  mov [ebx], eax
  pushad
  popad
  push 0x77
  pop ecx
  lea edx, [ebx + ecx * 4]
  bswap eax
  hlt
)");

TEST_P(Modes, ProtectedModeWithoutPaging) {
  protected_mode(flat32);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.get(data_at, 4), 0x11223344u);
  EXPECT_EQ(reg(RAX), 0x44332211u);
  EXPECT_EQ(reg(RCX), 0x77u);
  EXPECT_EQ(reg(RDX), 0x2001dcu);
}

GUEST_CODE(wrap32, 32, R"(
  mov ebx, 0xfffffff0
  mov eax, [ebx + 0x200020]
  hlt
)");

TEST_P(Modes, AddressesWrapAt4GiB) {
  protected_mode(wrap32);
  m.put(data_at + 0x10, 0xcafe, 4);
  m.run();
  EXPECT_EQ(reg(RAX), 0xcafeu);
}

GUEST_CODE(based_segment, 32, R"(
  mov eax, fs:[0x10]
  mov ebx, fs:[0xfffffff0]
  hlt
)");

TEST_P(Modes, SegmentBasesCountIn32BitCode) {
  protected_mode(based_segment);
  m.state.segments[FS] = {kernel_data, 0xc93, 0xffffffff, data_at + 0x100};
  m.put(data_at + 0x110, 1, 4);
  m.put(data_at + 0xf0, 2, 4);
  m.run();
  EXPECT_EQ(reg(RAX), 1u);
  EXPECT_EQ(reg(RBX), 2u);
}

GUEST_CODE(limit_check, 32, R"(
  mov eax, fs:[0xffc]
  mov ebx, fs:[0xffd]
  hlt
)");

TEST_P(Modes, SegmentLimitsAreChecked) {
  protected_mode(limit_check);
  m.state.segments[FS] = {kernel_data, 0x493, 0xfff, data_at};
  m.put(data_at + 0xffc, 0x99, 4);
  // A 32-bit IDT: #GP goes to a task-less interrupt gate.
  m.put(idt_at + 8 * VECTOR_GP, (handlers_at & 0xffff) | std::uint64_t{kernel_code32} << 16 | 0x8e00ull << 32);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, handlers_at + 1) << "#GP";
  EXPECT_EQ(reg(RAX), 0x99u);
  EXPECT_EQ(m.get(m.state.gpr[RSP], 4), 0u) << "error code";
  EXPECT_EQ(m.get(m.state.gpr[RSP] + 4, 4), code_at + 6) << "EIP";
}

constexpr std::uint64_t directory_at = 0x800000, table_at = 0x801000;

GUEST_CODE(load_ebx, 32, "mov eax, [ebx]\nhlt");

TEST_P(Modes, TwoLevelPaging) {
  protected_mode(load_ebx);
  for (std::uint64_t i = 0; i < 1024; i++) m.put(table_at + 4 * i, (i << 12) | PTE_P | PTE_W, 4);
  m.put(directory_at, table_at | PTE_P | PTE_W, 4);
  m.put(directory_at + 4 * (0xc0000000 >> 22), table_at | PTE_P | PTE_W, 4);
  m.state.cr3 = directory_at;
  m.state.cr0 |= CR0_PG;
  m.state.gpr[RBX] = 0xc0000000 + data_at;
  m.put(data_at, 0x5151, 4);
  m.run();
  EXPECT_EQ(reg(RAX), 0x5151u);
}

TEST_P(Modes, TwoLevelPagingWith4MiBPages) {
  protected_mode(load_ebx);
  m.put(directory_at, 0 | PTE_P | PTE_W | PTE_PS, 4);
  m.put(directory_at + 4 * (0xc0000000 >> 22), 0 | PTE_P | PTE_W | PTE_PS, 4);
  m.state.cr3 = directory_at;
  m.state.cr0 |= CR0_PG;
  m.state.cr4 |= CR4_PSE;
  m.state.gpr[RBX] = 0xc0000000 + data_at;
  m.put(data_at, 0x5151, 4);
  m.run();
  EXPECT_EQ(reg(RAX), 0x5151u);
}

TEST_P(Modes, PaePaging) {
  protected_mode(load_ebx);
  constexpr std::uint64_t pdpt_at = 0x802000, pd_at = 0x803000;
  for (unsigned i = 0; i < 4; i++) m.put(pdpt_at + 8 * i, pd_at | PTE_P);
  m.put(pd_at, 0 | PTE_P | PTE_W | PTE_PS);
  m.put(pd_at + 8, 0x200000 | PTE_P | PTE_W | PTE_PS);
  m.state.cr3 = pdpt_at;
  m.state.cr0 |= CR0_PG;
  m.state.cr4 |= CR4_PAE;
  m.state.gpr[RBX] = 0xc0000000 + data_at;
  m.put(data_at, 0x5151, 4);
  m.run();
  EXPECT_EQ(reg(RAX), 0x5151u);
}

ENGINE_SUITE(Modes);

}  // namespace
}  // namespace veneer::engine_tests
