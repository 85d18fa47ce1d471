// SVM: nested paging and TLB tags (APM 2 15.16, 15.25); random VMCBs.
#include <random>

#include "svm_machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class SvmPaging : public SvmTest {
 protected:
  static constexpr std::uint64_t FINAL = std::uint64_t{1} << 32, TABLE = std::uint64_t{1} << 33;
  static constexpr std::uint64_t leaf_of(std::uint64_t address) {
    return nested_tables_at + 2 * page_size + (address / (2 * MiB) + 1) * page_size + address / page_size % 512 * 8;
  }
};

GUEST_CODE(nested_store, 64, "mov rbx, 0x200000\nmov [rbx + 8], eax\nhlt");

TEST_P(SvmPaging, AGuestRunsOnNestedTables) {
  guest(nested_store);
  nested_paging();
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(machine().get(data_at + 8, 4), 0x1234u);
}

TEST_P(SvmPaging, APageIsSomewhereElse) {
  guest(nested_store);
  nested_paging(data_at, 0x800000 | PTE_P | PTE_W | PTE_U);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(machine().get(0x800008, 4), 0x1234u);
  EXPECT_EQ(machine().get(data_at + 8, 4), 0u);
}

TEST_P(SvmPaging, AccessedAndDirtyAreSet) {
  guest(nested_store);
  nested_paging();
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(machine().get(leaf_of(data_at)) & (PTE_A | PTE_D), PTE_A | PTE_D);
  EXPECT_EQ(machine().get(leaf_of(guest_code_at)) & (PTE_A | PTE_D), PTE_A);
  EXPECT_EQ(machine().get(leaf_of(page_tables_at)) & PTE_D, PTE_D);  // a walk counts as a write
}

TEST_P(SvmPaging, AMissingPageExits) {
  guest(nested_store);
  nested_paging(data_at, 0);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), FINAL | PTE_U | PTE_W);
  EXPECT_EQ(info2(), data_at + 8);
  EXPECT_EQ(guest_rip(), guest_code_at + 7);
  EXPECT_EQ(field(0xc8), 0u);
}

TEST_P(SvmPaging, AReadOnlyPageExits) {
  guest(nested_store);
  nested_paging(data_at, data_at | PTE_P | PTE_U);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), FINAL | PTE_U | PTE_W | PTE_P);
}

TEST_P(SvmPaging, ASupervisorPageExits) {
  guest(nested_store);
  nested_paging(data_at, data_at | PTE_P | PTE_W);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), FINAL | PTE_U | PTE_W | PTE_P);
}

TEST_P(SvmPaging, ReservedBitsExit) {
  guest(nested_store);
  nested_paging(data_at, data_at | PTE_P | PTE_W | PTE_U | std::uint64_t{1} << 51);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), FINAL | PTE_U | PTE_W | PTE_P | 8);
}

TEST_P(SvmPaging, CodeOnANoExecutePageExits) {
  guest(nested_store);
  nested_paging(guest_code_at, guest_code_at | PTE_P | PTE_W | PTE_U | PTE_NX);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), FINAL | PTE_U | PTE_P | 0x10);
  EXPECT_EQ(info2(), guest_code_at);
  EXPECT_EQ(guest_rip(), guest_code_at);
}

TEST_P(SvmPaging, AMissingPageTableExits) {
  guest(nested_store);
  nested_paging(page_tables_at, 0);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(info1(), TABLE | PTE_U | PTE_W);
  EXPECT_EQ(info2(), page_tables_at);
}

GUEST_CODE(nested_int, 64, "int 0x77\nhlt");

TEST_P(SvmPaging, AnExitWhileAnEventIsDeliveredNamesIt) {
  guest(nested_int);
  nested_paging((guest_stack_top - 1) & ~page_offset_mask, 0);
  EXPECT_EQ(run(), ExitCode::NPF);
  EXPECT_EQ(field(0x88), 0x77 | EventField::SOFTWARE << 8 | EventField::VALID);
  EXPECT_EQ(guest_rip(), guest_code_at);
}

GUEST_CODE(nested_unpaged, 32, "mov ebx, 0x200000\nmov [ebx + 8], eax\nhlt");

TEST_P(SvmPaging, AGuestWithoutPagingOfItsOwn) {
  guest(nested_unpaged);
  nested_paging(data_at, 0x800000 | PTE_P | PTE_W | PTE_U);
  Machine& m = machine();
  m.put(vmcb_at + 0x558, CR0_PE | CR0_ET);
  m.put(vmcb_at + 0x548, 0);
  m.put(vmcb_at + 0x4d0, EFER_SVME);
  m.put(vmcb_at + 0x412, 0xc9b, 2);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(m.get(0x800008, 4), 0x1234u);
}

TEST_P(SvmPaging, IllegalPatsAreRefused) {
  guest(nested_store);
  nested_paging();
  machine().put(vmcb_at + 0x668, 2);
  EXPECT_EQ(run(), ExitCode::INVALID);
}

TEST_P(SvmPaging, WithoutNptItsBitMeansNothing) {
  ASSERT_TRUE(make_machine("host,+svm,-npt"));
  guest(nested_store);
  nested_paging(data_at, 0);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(machine().get(data_at + 8, 4), 0x1234u);
}

GUEST_CODE(nested_read, 64, "mov rbx, 0x200000\nmov eax, [rbx]\nhlt");

TEST_P(SvmPaging, AsidsKeepTranslationsApart) {
  guest(nested_read);
  nested_paging(data_at, 0x800000 | PTE_P | PTE_W | PTE_U);
  Machine& m = machine();
  m.put(0x800000, 1);
  m.put(0x900000, 2);
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rax(), 1u);
  m.put(leaf_of(data_at), 0x900000 | PTE_P | PTE_W | PTE_U);
  m.put(vmcb_at + 0x58, 2, 4);
  m.put(vmcb_at + 0x578, guest_code_at);
  m.state.rip = code_at;
  m.state.halted = false;
  EXPECT_EQ(run(), ExitCode::HLT);
  EXPECT_EQ(guest_rax(), 2u);
}

// Twice into the same guest; in between its page moves, and the TLB is told.
GUEST_CODE(vmrun_twice, 64, R"(
  mov eax, 0x500000
  vmrun
  mov dword ptr [0x500578], 0x600000
  mov ecx, 0x800000
  mov rbx, [0x780000]
  mov dword ptr [rbx], 0x900007
  mov byte ptr [0x50005c], 3
  vmrun
  hlt
)");

TEST_P(SvmPaging, TlbControlFlushes) {
  guest(nested_read);
  nested_paging(data_at, 0x800000 | PTE_P | PTE_W | PTE_U);
  Machine& m = machine();
  m.load(code_at, vmrun_twice);
  m.put(0x780000, leaf_of(data_at));
  m.put(0x800000, 1);
  m.put(0x900000, 2);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(static_cast<ExitCode>(field(0x70)), ExitCode::HLT);
  EXPECT_EQ(guest_rax(), 2u);
}

/// Whatever stands in a VMCB, the machine goes on: the host comes back, or the guest runs until it is told to stop.
class SvmFuzz : public SvmTest {};

TEST_P(SvmFuzz, NoVmcbBreaksTheMachine) {
  std::mt19937_64 random(GetParam().name[2] == 0 ? 1 : 2);
  Machine& m = machine();
  constexpr unsigned rounds = 300;
  for (unsigned round = 0; round < rounds; round++) {
    m.long_mode();
    m.state.efer |= EFER_SVME;
    guest({});
    nested_paging();
    if (round % 2) m.put(vmcb_at + 0x90, 0);
    for (std::uint64_t at = 0; at < 0x100; at += 8) m.put(guest_code_at + at, random());
    // Some fields at random, or some bits of them: most of these pass the checks.
    for (unsigned n = 0; n < 1 + random() % 12; n++) {
      const std::uint64_t at = random() % 2 ? random() % 0xe0 : 0x400 + random() % 0x278;
      if (random() % 2)
        m.put(vmcb_at + at, random() & 0xff, 1);
      else
        m.put(vmcb_at + at, m.get(vmcb_at + at, 1) ^ 1u << random() % 8, 1);
    }
    for (std::uint64_t at = 0; at < 0x14; at += 4)
      m.put(vmcb_at + at, m.get(vmcb_at + at, 4) | random() % 2 << random() % 32, 4);
    intercept(ExitCode::VMRUN);
    for (std::uint64_t at = 0x40; at < 0x50; at++) m.put(vmcb_at + at, at == 0x42 || at == 0x4a ? 0x51 : 0, 1);
    m.vcpu().set_state(m.state);
    std::thread stop([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      m.vcpu().request_exit();
    });
    const Exit exit = m.vcpu().run();
    stop.join();
    EXPECT_NE(exit.reason, ExitReason::Failed) << exit.message;
    ArchState state;
    m.vcpu().get_state(state);  // and set again, as a pause does
    m.vcpu().set_state(state);
    if (exit.reason != ExitReason::Interrupted) m.vcpu().run();  // the request is still there
  }
  m.long_mode();
  m.state.efer |= EFER_SVME;
  m.put(vmcb_at + 0x00, 0), m.put(vmcb_at + 0x08, 0), m.put(vmcb_at + 0x60, 0), m.put(vmcb_at + 0xa8, 0);
  m.put(vmcb_at + 0x90, 0), m.put(vmcb_at + 0x640, 0);
  guest(nested_store);
  EXPECT_EQ(run(), ExitCode::HLT);
}

ENGINE_SUITE(SvmPaging);
ENGINE_SUITE(SvmFuzz);

}  // namespace
}  // namespace veneer::engine_tests
