// Paging: sizes, permissions, accessed and dirty bits, and operands across pages.
#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

constexpr std::uint64_t window = 0x600000000000;

class Paging : public EngineTest {
 protected:
  /// Runs `code` with RBX = address; what exception it ends in.
  std::optional<Taken> fault_at(Code code, std::uint64_t address) {
    program(code);
    return fault(address);
  }
  std::optional<Taken> user_fault_at(Code code, std::uint64_t address) {
    user_program(code);
    return fault(address);
  }
  std::optional<Taken> fault(std::uint64_t address) {
    m.state.gpr[RBX] = address;
    m.state.cr4 |= cr4;
    m.state.rflags |= rflags;
    auto taken = m.run_to_exception();
    if (taken && taken->vector == VECTOR_PF) {
      EXPECT_EQ(m.state.cr2, address);
    }
    return taken;
  }
  std::uint64_t cr4 = 0, rflags = 0;
};

// A load or store that succeeds ends in #UD.
GUEST_CODE(load, 64, "mov eax, [rbx]\nud2");
GUEST_CODE(store, 64, "mov dword ptr [rbx], 5\nud2");
GUEST_CODE(jump, 64, "jmp rbx");
GUEST_CODE(stac_load, 64, "stac\nmov eax, [rbx]\nclac\nud2");

constexpr std::uint32_t P = 1, W = 2, U = 4, RSVD = 8, I = 16;

#define EXPECT_PAGE_FAULT(taken_expression, error_) \
  {                                                 \
    const auto taken = taken_expression;            \
    ASSERT_TRUE(taken);                             \
    EXPECT_EQ(taken->vector, unsigned{VECTOR_PF});  \
    EXPECT_EQ(taken->error, std::optional{error_}); \
  }
#define EXPECT_NO_FAULT(taken_expression)          \
  {                                                \
    const auto taken = taken_expression;           \
    ASSERT_TRUE(taken);                            \
    EXPECT_EQ(taken->vector, unsigned{VECTOR_UD}); \
  }

TEST_P(Paging, LoadFromNotPresent) { EXPECT_PAGE_FAULT(fault_at(load, unmapped_at), 0u); }
TEST_P(Paging, StoreToNotPresent) { EXPECT_PAGE_FAULT(fault_at(store, unmapped_at), W); }
TEST_P(Paging, JumpToNotPresent) { EXPECT_PAGE_FAULT(fault_at(jump, unmapped_at), I); }
TEST_P(Paging, UserLoadFromNotPresent) { EXPECT_PAGE_FAULT(user_fault_at(load, unmapped_at), U); }
TEST_P(Paging, UserLoadFromSupervisorPage) { EXPECT_PAGE_FAULT(user_fault_at(load, data_at), P | U); }
TEST_P(Paging, UserStoreToReadOnlyPage) { EXPECT_PAGE_FAULT(user_fault_at(store, user_code_at + 0x100), P | W | U); }
TEST_P(Paging, UserJumpToSupervisorPage) { EXPECT_PAGE_FAULT(user_fault_at(jump, data_at), P | U | I); }
TEST_P(Paging, UserJumpToNoExecutePage) { EXPECT_PAGE_FAULT(user_fault_at(jump, user_data_at), P | U | I); }
TEST_P(Paging, UserStoreToItsOwnPage) { EXPECT_NO_FAULT(user_fault_at(store, user_data_at + 16)); }

TEST_P(Paging, SupervisorStoreToReadOnlyPageUnderWp) {
  m.map(window, data_at, 0);
  EXPECT_PAGE_FAULT(fault_at(store, window), P | W);
}

TEST_P(Paging, SupervisorStoreToReadOnlyPageWithoutWp) {
  m.map(window, data_at, 0);
  program(store);
  m.state.cr0 &= ~CR0_WP;
  EXPECT_NO_FAULT(fault(window));
  EXPECT_EQ(m.get(data_at, 4), 5u);
}

TEST_P(Paging, ReservedBit) {
  m.map(window, data_at, PTE_W | std::uint64_t{1} << 51);
  EXPECT_PAGE_FAULT(fault_at(load, window), P | RSVD);
}

TEST_P(Paging, NoExecuteIsReservedWithoutNxe) {
  m.map(window, data_at, PTE_W | PTE_NX);
  program(load);
  m.state.efer &= ~EFER_NXE;
  // The user pages of the test machine use NX, but nothing touches them here.
  EXPECT_PAGE_FAULT(fault(window), P | RSVD);
}

TEST_P(Paging, SmepStopsSupervisorFetchesOfUserPages) {
  cr4 = CR4_SMEP;
  EXPECT_PAGE_FAULT(fault_at(jump, user_code_at), P | I);
}

TEST_P(Paging, WithoutSmepTheSupervisorRunsUserPages) {
  m.put(user_code_physical, 0x0b0f, 2);
  EXPECT_NO_FAULT(fault_at(jump, user_code_at));
}

TEST_P(Paging, SmapStopsSupervisorLoadsOfUserPages) {
  cr4 = CR4_SMAP;
  EXPECT_PAGE_FAULT(fault_at(load, user_data_at), P);
}

TEST_P(Paging, AcLiftsSmap) {
  cr4 = CR4_SMAP;
  rflags = RFLAGS_AC;
  EXPECT_NO_FAULT(fault_at(load, user_data_at));
}

TEST_P(Paging, StacLiftsSmap) {
  cr4 = CR4_SMAP;
  EXPECT_NO_FAULT(fault_at(stac_load, user_data_at));
}

GUEST_CODE(stac_clac_load, 64, "stac\nmov eax, [rbx]\nclac\nmov ecx, [rbx]\nud2");

TEST_P(Paging, ClacPutsSmapBack) {
  cr4 = CR4_SMAP;
  EXPECT_PAGE_FAULT(fault_at(stac_clac_load, user_data_at), P);
}

TEST_P(Paging, LargePageOf2MiB) {
  m.map(window, data_at, PTE_W);
  m.put(m.entry_of(window, 2), 0x200000 | PTE_P | PTE_W | PTE_PS);
  EXPECT_NO_FAULT(fault_at(store, window + 0x1234));
  EXPECT_EQ(m.get(0x201234, 4), 5u);
}

TEST_P(Paging, LargePageOf1GiB) {
  m.map(window, data_at, PTE_W);
  m.put(m.entry_of(window, 3), 0 | PTE_P | PTE_W | PTE_PS);
  EXPECT_NO_FAULT(fault_at(store, window + 0x212345));
  EXPECT_EQ(m.get(0x212345, 4), 5u);
}

TEST_P(Paging, ALoadSetsAccessedOnEveryLevel) {
  m.map(window, data_at, PTE_W);
  EXPECT_NO_FAULT(fault_at(load, window));
  for (unsigned level = 1; level <= 4; level++)
    EXPECT_EQ(m.get(m.entry_of(window, level)) & PTE_A, PTE_A) << "level " << level;
}

TEST_P(Paging, ALoadLeavesDirtyAlone) {
  m.map(window, data_at, PTE_W);
  EXPECT_NO_FAULT(fault_at(load, window));
  EXPECT_EQ(m.get(m.entry_of(window)) & PTE_D, 0u);
}

TEST_P(Paging, AStoreSetsDirty) {
  m.map(window, data_at, PTE_W);
  EXPECT_NO_FAULT(fault_at(store, window));
  EXPECT_EQ(m.get(m.entry_of(window)) & PTE_D, PTE_D);
}

GUEST_CODE(load_then_store, 64, "mov eax, [rbx]\nmov [rbx], eax\nud2");

TEST_P(Paging, AStoreAfterALoadStillSetsDirty) {
  m.map(window, data_at, PTE_W);
  EXPECT_NO_FAULT(fault_at(load_then_store, window));
  EXPECT_EQ(m.get(m.entry_of(window)) & PTE_D, PTE_D);
}

TEST_P(Paging, AFaultingStoreLeavesDirtyAlone) {
  m.map(window, data_at, 0);
  EXPECT_PAGE_FAULT(fault_at(store, window), P | W);
  EXPECT_EQ(m.get(m.entry_of(window)) & PTE_D, 0u);
}

GUEST_CODE(straddle, 64, R"(
  mov rax, 0x1122334455667788
  mov [rbx], rax
  mov rcx, [rbx]
  lock add qword ptr [rbx], 1
  ud2
)");

TEST_P(Paging, OperandsAcrossTwoPagesThatAreNotNeighbours) {
  m.map(window, data_at + 0x5000, PTE_W);
  m.map(window + page_size, data_at + 0x2000, PTE_W);
  EXPECT_NO_FAULT(fault_at(straddle, window + page_size - 3));
  EXPECT_EQ(reg(RCX), 0x1122334455667788u);
  EXPECT_EQ(m.get(data_at + 0x5ffd, 3), 0x667789u);
  EXPECT_EQ(m.get(data_at + 0x2000, 5), 0x1122334455u);
}

GUEST_CODE(store_rax, 64, "mov [rbx], rax\nud2");

TEST_P(Paging, AStoreAcrossIntoUnmappedWritesNothing) {
  m.map(window, data_at, PTE_W);
  program(store_rax);
  m.state.gpr[RBX] = window + page_size - 3;
  m.state.gpr[RAX] = ~std::uint64_t{0};
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(m.state.cr2, window + page_size);
  EXPECT_EQ(m.get(data_at + page_size - 3, 3), 0u);
}

GUEST_CODE(rep_movsb, 64, "rep movsb\nud2");

TEST_P(Paging, RepMovsFaultsMidwayWithItsRegistersThere) {
  m.map(window, data_at, PTE_W);
  program(rep_movsb);
  m.state.gpr[RSI] = code_at;
  m.state.gpr[RDI] = window + page_size - 100;
  m.state.gpr[RCX] = 1000;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->error, W);
  EXPECT_EQ(taken->rip, code_at);
  EXPECT_EQ(m.state.cr2, window + page_size);
  EXPECT_EQ(reg(RCX), 900u);
  EXPECT_EQ(reg(RDI), window + page_size);
  EXPECT_EQ(reg(RSI), code_at + 100);
}

TEST_P(Paging, CodeThatRunsOffItsPage) {
  m.map(window, data_at, PTE_W);
  m.put(data_at + page_size - 2, 0x9090, 2);
  program(jump);
  m.state.gpr[RBX] = window + page_size - 2;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->error, I);
  EXPECT_EQ(taken->rip, window + page_size);
  EXPECT_EQ(m.state.cr2, window + page_size);
}

TEST_P(Paging, AnInstructionHalfOnAnUnmappedPage) {
  m.map(window, data_at, PTE_W);
  m.put(data_at + page_size - 2, 0x05c7, 2);  // mov dword [rip + ...
  program(jump);
  m.state.gpr[RBX] = window + page_size - 2;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_PF);
  EXPECT_EQ(taken->error, I);
  EXPECT_EQ(taken->rip, window + page_size - 2);
  EXPECT_EQ(m.state.cr2, window + page_size);
}

TEST_P(Paging, JumpToNonCanonical) {
  const auto taken = fault_at(jump, 0x800000000000);
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, VECTOR_GP);
  EXPECT_EQ(taken->error, 0u);
}

TEST_P(Paging, TranslateFollowsTheTables) {
  m.map(window, data_at + 0x3000, PTE_W);
  program(load);
  m.state.gpr[RBX] = data_at;
  m.run();
  EXPECT_EQ(m.vcpu().translate(GuestVirt{window + 0x123}), GuestPhys{data_at + 0x3123});
  EXPECT_EQ(m.vcpu().translate(GuestVirt{unmapped_at}), std::nullopt);
}

ENGINE_SUITE(Paging);

}  // namespace
}  // namespace veneer::engine_tests
