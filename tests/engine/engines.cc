// The engines that must pass this suite.
#include "engines.h"

namespace veneer::engine_tests {

namespace {

Result<std::unique_ptr<cpu::Engine>> make_bt(machine::GuestMemory& memory, cpu::Board& board,
                                             const cpu::CpuidPolicy& cpuid) {
  return cpu::make_bt_engine(memory, board, cpuid, {});
}

Result<std::unique_ptr<cpu::Engine>> make_bt_single(machine::GuestMemory& memory, cpu::Board& board,
                                                    const cpu::CpuidPolicy& cpuid) {
  return cpu::make_bt_engine(memory, board, cpuid, {.max_block_instructions = 1});
}

}  // namespace

const std::vector<EngineKind>& engine_kinds() {
  static const std::vector<EngineKind> kinds = {{"bt", make_bt}, {"bt_one_instruction", make_bt_single}};
  return kinds;
}

}  // namespace veneer::engine_tests
