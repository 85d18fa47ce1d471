// What real-mode software gets from a BIOS that is not there (src/boot/absent_bios.cc).
#include "boot/absent_bios.h"

#include <gmock/gmock.h>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class AbsentBios : public EngineTest {
 protected:
  /// Real-mode code at 1000:0000, stack at 2000:1000.
  void run(Code code) {
    ASSERT_TRUE(boot::write_absent_bios(m.memory(), {{0, 0x9fc00, boot::E820Type::Ram}}));
    reset_state(m.state);
    m.load(0x10000, code);
    m.state.segments[CS] = {0x1000, 0x9b, 0xffff, 0x10000};
    m.state.segments[SS] = {0x2000, 0x93, 0xffff, 0x20000};
    m.state.gpr[RSP] = 0x1000;
    m.state.rip = 0;
    ASSERT_EQ(m.run().reason, ExitReason::Halted);
    EXPECT_EQ(m.state.rip, code.size());
    EXPECT_EQ(m.state.gpr[RSP], 0x1000u);
  }
  std::uint16_t ax() const { return static_cast<std::uint16_t>(reg(RAX)); }
};

GUEST_CODE(memory_map_service, 16, R"(
  clc
  mov ax, 0xe820
  int 0x15
  hlt
)");
GUEST_CODE(memory_size_service, 16, R"(
  int 0x12
  hlt
)");
GUEST_CODE(first_controllers_interrupt, 16, R"(
  mov ax, 0x1234
  int 0x08
  hlt
)");
GUEST_CODE(second_controllers_interrupt, 16, R"(
  mov ax, 0x1234
  int 0x70
  hlt
)");

TEST_P(AbsentBios, AServiceFails) {
  run(memory_map_service);
  EXPECT_EQ(ax() >> 8, 0x86);
  EXPECT_TRUE(m.state.rflags & 1) << "carry";
}

TEST_P(AbsentBios, ItKnowsHowMuchConventionalMemoryThereIs) {
  run(memory_size_service);
  EXPECT_EQ(ax(), 639);
}

TEST_P(AbsentBios, AnInterruptOfTheFirst8259IsAcknowledged) {
  run(first_controllers_interrupt);
  EXPECT_EQ(ax(), 0x1234);
  EXPECT_THAT(m.board.ports, testing::ElementsAre(BusAccess{true, 0x20, 1, 0x20}));
}

TEST_P(AbsentBios, AnInterruptOfTheSecond8259IsAcknowledgedAtBoth) {
  run(second_controllers_interrupt);
  EXPECT_EQ(ax(), 0x1234);
  EXPECT_THAT(m.board.ports, testing::ElementsAre(BusAccess{true, 0xa0, 1, 0x20}, BusAccess{true, 0x20, 1, 0x20}));
}

ENGINE_SUITE(AbsentBios);

}  // namespace
}  // namespace veneer::engine_tests
