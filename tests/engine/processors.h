// Several vCPUs of one engine, each on a thread of its own, from a start to HLT.
#pragma once

#include <memory>
#include <vector>

#include "machine.h"

namespace veneer::engine_tests {

/// Engines for tests of many vCPUs: as usual, and with every step between vCPUs delayed at random.
const std::vector<EngineKind>& patient_engine_kinds();

class Processors : public EngineTest {
 protected:
  static constexpr unsigned most = 4;

  /// One vCPU: where it starts, in 64-bit supervisor code. RDI is its number.
  struct Start {
    std::uint64_t rip;
  };
  /// Runs them until each has executed HLT; the first is m.vcpu(). Fails the test when that takes too long.
  void run(const std::vector<Start>& starts);
  /// A register of a vCPU after run().
  std::uint64_t result(unsigned vcpu, cpu::Gpr which) const { return states_[vcpu].gpr[which]; }

 private:
  std::vector<std::unique_ptr<cpu::Vcpu>> others_;
  std::vector<cpu::ArchState> states_;
};

}  // namespace veneer::engine_tests
