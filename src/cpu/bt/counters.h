// What the engine counts, for --stats and the monitor. Counting happens on slow paths only.
#pragma once

#include <cstdint>

namespace veneer::cpu::bt {

/// Of one vCPU. Written by its thread; others may read slightly old values.
struct VcpuCounters {
  static constexpr unsigned exit_kinds = 5;    ///< ExitKind
  static constexpr unsigned mnemonics = 2048;  ///< more than Zydis knows

  std::uint64_t slow_accesses = 0, tlb_fills = 0, bounces = 0, callouts = 0, lookups = 0, links = 0, polls = 0,
                events = 0, code_writes = 0, context_switches = 0, native_faults = 0, pauses = 0;
  std::uint64_t exits[exit_kinds] = {};  ///< why translated code came back to the run loop
  std::uint64_t jump_misses = 0;         ///< of the exits: an address that the jump cache did not have
  std::uint64_t callouts_by_mnemonic[mnemonics] = {};

  /// TSC cycles; only with EngineOptions::measure_time.
  struct {
    std::uint64_t running = 0;      ///< in run() and step()
    std::uint64_t inside = 0;       ///< in translated code and what it calls
    std::uint64_t memory = 0;       ///< of this: slow accesses
    std::uint64_t callouts = 0;     ///< of this: instructions in C++
    std::uint64_t translation = 0;  ///< of `running`, not of `inside`
  } cycles;
  std::uint64_t first_run_ns = 0;  ///< CLOCK_MONOTONIC when run() was called first
};

/// Adds the TSC cycles of its life to a sum. Costs one predictable branch when time is not measured.
class CycleScope {
 public:
  CycleScope(bool measure, std::uint64_t& sum)
      : sum_(measure ? &sum : nullptr), start_(measure ? __builtin_ia32_rdtsc() : 0) {}
  ~CycleScope() {
    if (sum_) *sum_ += __builtin_ia32_rdtsc() - start_;
  }
  CycleScope(const CycleScope&) = delete;
  CycleScope& operator=(const CycleScope&) = delete;

 private:
  std::uint64_t* sum_;
  std::uint64_t start_;
};

}  // namespace veneer::cpu::bt
