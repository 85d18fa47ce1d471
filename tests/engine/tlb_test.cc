// What a translation look-aside buffer may remember, and what makes it forget: INVLPG, CR3, CR4, PCID, INVPCID.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t window = 0x600000000000;

/// Reads the window, changes its page-table entry from page A to page B, does something, and reads it again.
class Tlb : public EngineTest {
 protected:
  Tlb() {
    m.put(data_at, 0xaaaa);
    m.put(data_at + page_size, 0xbbbb);
    map_window(0);
  }
  void map_window(std::uint64_t extra) {
    m.map(window, data_at, PTE_W | extra);
    extra_ = extra;
  }
  void run_change(Code code) {
    program(code);
    m.state.gpr[RBX] = window;
    m.state.gpr[RSI] = m.entry_of(window);
    m.state.gpr[RDX] = (data_at + page_size) | PTE_P | PTE_W | extra_;
    m.state.cr4 |= cr4;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
    EXPECT_EQ(m.state.rip, code_at + code.size()) << "an exception?";
    EXPECT_EQ(reg(RCX), 0xaaaau);
  }
  std::uint64_t cr4 = 0;

 private:
  std::uint64_t extra_ = 0;
};

#define CHANGE(name, text) \
  GUEST_CODE(change_##name, 64, "mov rcx, [rbx]\n mov [rsi], rdx\n" text "\nmov rax, [rbx]\nhlt")

CHANGE(invlpg, "invlpg [rbx]");
CHANGE(invlpg_inside, "invlpg [rbx + 0xfff]");
CHANGE(cr3, "mov rdi, cr3\nmov cr3, rdi");
CHANGE(cr4_pge, "mov rdi, cr4\nbtc rdi, 7\nmov cr4, rdi\nbtc rdi, 7\nmov cr4, rdi");
CHANGE(cr0_pg_bits, "mov rdi, cr0\nbtc rdi, 16\nmov cr0, rdi\nbtc rdi, 16\nmov cr0, rdi");
CHANGE(invpcid_all, "push 0\npush 0\nmov edi, 2\ninvpcid rdi, [rsp]\nadd rsp, 16");
CHANGE(invpcid_all_but_global, "push 0\npush 0\nmov edi, 3\ninvpcid rdi, [rsp]\nadd rsp, 16");
CHANGE(invpcid_address, "push rbx\npush 0\nxor edi, edi\ninvpcid rdi, [rsp]\nadd rsp, 16");
CHANGE(invpcid_context, "push 0\npush 0\nmov edi, 1\ninvpcid rdi, [rsp]\nadd rsp, 16");

TEST_P(Tlb, InvlpgForgetsThePage) {
  run_change(change_invlpg);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvlpgTakesAnyAddressInThePage) {
  run_change(change_invlpg_inside);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvlpgForgetsGlobalPagesToo) {
  map_window(PTE_G);
  run_change(change_invlpg);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, LoadingCr3Forgets) {
  run_change(change_cr3);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, TogglingPgeForgetsGlobalPages) {
  map_window(PTE_G);
  run_change(change_cr4_pge);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvpcidAllForgetsGlobalPages) {
  map_window(PTE_G);
  run_change(change_invpcid_all);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvpcidAllButGlobalForgets) {
  run_change(change_invpcid_all_but_global);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvpcidAddressForgets) {
  run_change(change_invpcid_address);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, InvpcidContextForgets) {
  run_change(change_invpcid_context);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(Tlb, LoadingCr3WithPcidForgetsItsOwn) {
  cr4 = CR4_PCIDE;
  run_change(change_cr3);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

GUEST_CODE(write_enable, 64, R"(
  mov eax, [rbx]
  mov qword ptr [rsi], rdx
  invlpg [rbx]
  mov dword ptr [rbx], 77
  hlt
)");

TEST_P(Tlb, APageMadeWritableIsWritable) {
  m.map(window, data_at, 0);
  program(write_enable);
  m.state.gpr[RBX] = window;
  m.state.gpr[RSI] = m.entry_of(window);
  m.state.gpr[RDX] = data_at | PTE_P | PTE_W;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.get(data_at, 4), 77u);
}

GUEST_CODE(two_pcids, 64, R"(
  mov cr3, r8       # PCID 1, tables A
  mov rcx, [rbx]
  mov cr3, r9       # PCID 2, tables B
  mov rax, [rbx]
  bts r8, 63
  mov cr3, r8       # back, keeping what is known
  mov rdx, [rbx]
  hlt
)");

TEST_P(Tlb, PcidsKeepAddressSpacesApart) {
  // A second tree that differs in the window only: copy the top table and map again below it.
  constexpr std::uint64_t second_root = 0x800000;
  for (unsigned i = 0; i < 512; i++) m.put(second_root + 8 * i, m.get(page_tables_at + 8 * i));
  constexpr std::uint64_t pdpt = 0x801000, pd = 0x802000, pt = 0x803000;
  m.put(second_root + ((window >> 39) & 511) * 8, pdpt | PTE_P | PTE_W | PTE_U);
  m.put(pdpt + ((window >> 30) & 511) * 8, pd | PTE_P | PTE_W | PTE_U);
  m.put(pd + ((window >> 21) & 511) * 8, pt | PTE_P | PTE_W | PTE_U);
  m.put(pt + ((window >> 12) & 511) * 8, (data_at + page_size) | PTE_P | PTE_W);
  program(two_pcids);
  m.state.cr4 |= CR4_PCIDE;
  m.state.gpr[RBX] = window;
  m.state.gpr[R8] = page_tables_at | 1;
  m.state.gpr[R9] = second_root | 2;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(m.state.rip, code_at + two_pcids.size());
  EXPECT_EQ(reg(RCX), 0xaaaau);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
  EXPECT_EQ(reg(RDX), 0xaaaau);
}

GUEST_CODE(large_page_pieces, 64, R"(
  mov rcx, [rbx]
  mov rax, [rbx + 0x5000]
  mov [rsi], rdx
  invlpg [rbx]
  mov rax, [rbx + 0x5000]
  hlt
)");

TEST_P(Tlb, InvlpgInALargePageForgetsAllOfIt) {
  m.put(m.entry_of(window, 2), 0x200000 | PTE_P | PTE_W | PTE_PS);
  m.put(0x205000, 0x1111);
  m.put(0x405000, 0x2222);
  program(large_page_pieces);
  m.state.gpr[RBX] = window;
  m.state.gpr[RSI] = m.entry_of(window, 2);
  m.state.gpr[RDX] = 0x400000 | PTE_P | PTE_W | PTE_PS;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x2222u);
}

GUEST_CODE(pcide_low_bits, 64, R"(
  mov rax, cr3
  or rax, 5
  mov cr3, rax
  mov rax, cr4
  bts rax, 17
  mov cr4, rax
  hlt
)");

TEST_P(Tlb, PcideCannotBeSetWithAPcidInCr3) {
  program(pcide_low_bits);
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
}

ENGINE_SUITE(Tlb);

}  // namespace
}  // namespace veneer::engine_tests
