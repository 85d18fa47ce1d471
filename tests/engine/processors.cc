// Running several vCPUs at once.
#include "processors.h"

#include <atomic>
#include <chrono>
#include <thread>

namespace veneer::engine_tests {

using namespace cpu;

const std::vector<EngineKind>& patient_engine_kinds() {
  static const std::vector<EngineKind> kinds = {
      engine_kinds().front(),
      {"bt_delayed",
       [](machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid) {
         return make_bt_engine(memory, board, cpuid, {.protocol_delay_us = 200});
       }},
      // So little room that it is thrown away again and again.
      {"bt_small_cache",
       [](machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid) {
         return make_bt_engine(memory, board, cpuid, {.code_cache_bytes = 512 * KiB});
       }},
  };
  return kinds;
}

void Processors::run(const std::vector<Start>& starts) {
  while (others_.size() + 1 < starts.size()) {
    auto made = m.engine().make_vcpu(static_cast<unsigned>(others_.size() + 1));
    ASSERT_TRUE(made.ok()) << made.error().message();
    others_.push_back(std::move(made).value());
  }
  const auto vcpu = [&](unsigned i) -> Vcpu& { return i == 0 ? m.vcpu() : *others_[i - 1]; };
  states_.assign(starts.size(), m.state);
  std::vector<std::thread> threads;
  std::vector<Exit> exits(starts.size());
  std::atomic<unsigned> running{static_cast<unsigned>(starts.size())};
  for (unsigned i = 0; i < starts.size(); i++) {
    states_[i].rip = starts[i].rip;
    states_[i].gpr[RDI] = i;
    states_[i].gpr[RSP] = kernel_stack_top - 0x800 - 0x400 * i;
    vcpu(i).set_state(states_[i]);
  }
  for (unsigned i = 0; i < starts.size(); i++)
    threads.emplace_back([&, i] {
      exits[i] = vcpu(i).run();
      running--;
    });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(40);
  while (running && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const bool late = running != 0;
  while (running) {
    for (unsigned i = 0; i < starts.size(); i++) vcpu(i).request_exit();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (std::thread& thread : threads) thread.join();
  for (unsigned i = 0; i < starts.size(); i++) {
    vcpu(i).get_state(states_[i]);
    EXPECT_EQ(exits[i].reason, ExitReason::Halted)
        << "vCPU " << i << " at " << std::hex << states_[i].rip << ' ' << exits[i].message;
  }
  EXPECT_FALSE(late) << "the vCPUs did not come to an end";
}

}  // namespace veneer::engine_tests
