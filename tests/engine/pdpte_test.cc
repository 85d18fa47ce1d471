// PAE paging: the four page-directory-pointer entries are loaded with CR3, checked then, and kept (SDM 3A 4.4.1).
#include "protected_mode.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t pdpt_at = 0x800000, directory_at = 0x801000, other_directory_at = 0x802000;
constexpr std::uint64_t window = 0x40000000;  ///< the second entry's

class Pdptes : public ProtectedModeTest {
 protected:
  /// 32-bit supervisor code under PAE paging: 16 MiB mapped where they lie; at `window` 2 MiB from data_at on.
  void pae(Code code) {
    protected_mode(code);
    for (std::uint64_t i = 0; i < 8; i++) m.put(directory_at + 8 * i, i << 21 | PTE_P | PTE_W | PTE_PS);
    m.put(other_directory_at, data_at | PTE_P | PTE_W | PTE_PS);
    m.put(pdpt_at, directory_at | PTE_P);
    m.put(pdpt_at + 8, other_directory_at | PTE_P);
    m.put(data_at, 0x1234, 4);
    m.state.cr3 = pdpt_at;
    m.state.cr4 |= CR4_PAE;
    m.state.cr0 |= CR0_PG;
    m.state.gpr[RBX] = window;
    m.state.gpr[RSI] = pdpt_at;
  }
};

// Takes the entry away in memory, flushes the page, reads through it.
GUEST_CODE(without_reload, 32, R"(
  mov dword ptr [esi + 8], 0
  invlpg [ebx]
  mov eax, [ebx]
  hlt
)");

TEST_P(Pdptes, AreKeptUntilCr3IsLoaded) {
  pae(without_reload);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RAX), 0x1234u);
}

GUEST_CODE(with_cr3, 32, R"(
  mov dword ptr [esi + 8], 0
  mov eax, cr3
  mov cr3, eax
  mov eax, [ebx]
  hlt
)");
GUEST_CODE(with_cr4, 32, R"(
  mov dword ptr [esi + 8], 0
  mov eax, cr4
  xor eax, 0x80
  mov cr4, eax
  mov eax, [ebx]
  hlt
)");
GUEST_CODE(with_cr0, 32, R"(
  mov dword ptr [esi + 8], 0
  mov eax, cr0
  xor eax, 0x40000000
  mov cr0, eax
  mov eax, [ebx]
  hlt
)");

TEST_P(Pdptes, AreLoadedWithCr3) {
  pae(with_cr3);
  EXPECT_EQ(run_to_exception().vector, VECTOR_PF);
  EXPECT_EQ(m.state.cr2, window);
}
TEST_P(Pdptes, AreLoadedWhenCr4ChangesPge) {
  pae(with_cr4);
  EXPECT_EQ(run_to_exception().vector, VECTOR_PF);
}
TEST_P(Pdptes, AreLoadedWhenCr0ChangesCd) {
  pae(with_cr0);
  EXPECT_EQ(run_to_exception().vector, VECTOR_PF);
}

GUEST_CODE(reserved_then_cr3, 32, R"(
  or dword ptr [esi + 8], 2
  mov eax, cr3
  mov cr3, eax
  hlt
)");
GUEST_CODE(reserved_then_cr4, 32, R"(
  or dword ptr [esi + 8], 2
  mov eax, cr4
  xor eax, 0x80
  mov cr4, eax
  hlt
)");
GUEST_CODE(reserved_not_present, 32, R"(
  mov dword ptr [esi + 8], 2
  mov eax, cr3
  mov cr3, eax
  hlt
)");

TEST_P(Pdptes, ReservedBitsFaultAtMovToCr3) {
  pae(reserved_then_cr3);
  const Taken32 taken = run_to_exception();
  EXPECT_EQ(taken.vector, VECTOR_GP);
  EXPECT_EQ(taken.error, 0u);
}
TEST_P(Pdptes, ReservedBitsFaultAtMovToCr4AndNothingChanges) {
  pae(reserved_then_cr4);
  const std::uint64_t before = m.state.cr4;
  EXPECT_EQ(run_to_exception().vector, VECTOR_GP);
  EXPECT_EQ(m.state.cr4, before);
}
TEST_P(Pdptes, ReservedBitsOfAnEntryThatIsNotPresent) {
  pae(reserved_not_present);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_GE(m.state.rip, code_at) << "not in a handler";
}

}  // namespace

ENGINE_SUITE(Pdptes);

}  // namespace veneer::engine_tests
