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

// A global page stays at CR3 loads; what shares its place in a table, or in a cache of code, must not stay with it.
constexpr std::uint64_t same_slot = std::uint64_t{1} << 28;  // pages this far apart share a slot of 65,536
constexpr std::uint64_t neighbour = window + same_slot;

GUEST_CODE(neighbours, 64, R"(
  mov r8, [rbx]
  mov r9, [rbx + 0x10000000]
  mov [rsi], rdx
  mov [rdi], r12
  mov rax, cr3
  mov cr3, rax
  mov rax, [rbx]
  mov rcx, [rbx + 0x10000000]
  hlt
)");

class GlobalNeighbour : public EngineTest {
 protected:
  /// Reads a page and the one that shares its slot, changes both entries, loads CR3, and reads both again.
  void run_neighbours(std::uint64_t first, std::uint64_t second) {
    m.put(data_at, 0xaaaa);
    m.put(data_at + page_size, 0xbbbb);
    m.map(window, data_at, PTE_W | first);
    m.map(neighbour, data_at, PTE_W | second);
    program(neighbours);
    m.state.cr4 |= CR4_PGE;
    m.state.gpr[RBX] = window;
    m.state.gpr[RSI] = m.entry_of(window);
    m.state.gpr[RDI] = m.entry_of(neighbour);
    m.state.gpr[RDX] = (data_at + page_size) | PTE_P | PTE_W | first;
    m.state.gpr[R12] = (data_at + page_size) | PTE_P | PTE_W | second;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
    EXPECT_EQ(reg(R8), 0xaaaau);
    EXPECT_EQ(reg(R9), 0xaaaau);
  }
};

TEST_P(GlobalNeighbour, APageThatTookAGlobalOnesSlotIsForgotten) {
  run_neighbours(PTE_G, 0);
  EXPECT_EQ(reg(RCX), 0xbbbbu);
}

TEST_P(GlobalNeighbour, APageWhoseSlotAGlobalOneTookIsForgotten) {
  run_neighbours(0, PTE_G);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

TEST_P(GlobalNeighbour, WithoutPgeNothingIsGlobal) {
  m.put(data_at, 0xaaaa);
  m.put(data_at + page_size, 0xbbbb);
  m.map(window, data_at, PTE_W | PTE_G);
  program(change_cr3);
  m.state.cr4 &= ~std::uint64_t{CR4_PGE};
  m.state.gpr[RBX] = window;
  m.state.gpr[RSI] = m.entry_of(window);
  m.state.gpr[RDX] = (data_at + page_size) | PTE_P | PTE_W | PTE_G;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0xbbbbu);
}

GUEST_CODE(call_changed_code, 64, R"(
  call rbx
  mov ecx, eax
  call rbx
  mov [rsi], rdx
  mov rax, cr3
  mov cr3, rax
  call rbx
  hlt
)");

/// Calls a function in the window, gives the page of its last bytes other contents, loads CR3, calls it again.
class ChangedCode : public EngineTest {
 protected:
  void run_function_at(std::uint64_t address, std::uint64_t changed_page) {
    // mov eax, 1 or 2; ret: the immediate of MOV is its second byte.
    for (unsigned version = 1; version <= 2; version++) {
      const std::uint64_t base = data_at + (version - 1) * 2 * page_size + (address & page_offset_mask);
      m.put(base, 0xc300000000b8 | version << 8, 6);
    }
    m.put(data_at + 2 * page_size + 0xfff, 0xb8, 1);  // the first byte, where it lies in the first page
    program(call_changed_code);
    m.state.cr4 |= CR4_PGE;
    m.state.gpr[RBX] = address;
    m.state.gpr[RSI] = m.entry_of(changed_page);
    m.state.gpr[RDX] = (data_at + 2 * page_size + (changed_page - window)) | PTE_P;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
    EXPECT_EQ(reg(RCX), 1u);
    EXPECT_EQ(reg(RAX), 2u);
  }
};

TEST_P(ChangedCode, IsFoundAfterACr3Load) {
  m.map(window, data_at, 0);
  run_function_at(window, window);
}

TEST_P(ChangedCode, BehindAGlobalPageIsFoundAfterACr3Load) {
  m.map(window, data_at, PTE_G);
  m.map(window + page_size, data_at + page_size, 0);
  run_function_at(window + 0xfff, window + page_size);
}

ENGINE_SUITE(Tlb);
ENGINE_SUITE(GlobalNeighbour);
ENGINE_SUITE(ChangedCode);

}  // namespace
}  // namespace veneer::engine_tests
