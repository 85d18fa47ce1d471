// BtEngine: what the vCPUs of one machine share: code cache, translator, policy.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include "cpu/bt/code_cache.h"
#include "cpu/bt/perf_map.h"
#include "cpu/bt/stop_gate.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "cpu/x86/insn_table.h"

namespace veneer::cpu::bt {

class BtVcpu;

class BtEngine final : public Engine {
 public:
  BtEngine(machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid, const EngineOptions& options);
  Result<void> create();

  const char* name() const override { return "bt"; }
  std::vector<CounterGroup> counters() const override;
  Result<std::unique_ptr<Vcpu>> make_vcpu(unsigned index) override;

  machine::GuestMemory& memory() { return memory_; }
  Board& board() { return board_; }
  const CpuidPolicy& cpuid() const { return cpuid_; }
  CodeCache& cache() { return cache_; }
  PerfMap& perf_map() { return perf_map_; }
  StopGate& stop_gate() { return stop_gate_; }
  /// More than one vCPU: what only others could see needs care.
  bool many() const { return vcpu_count_ > 1; }
  BtVcpu* vcpu(unsigned index) { return vcpus_[index]; }
  std::uint64_t other_vcpus(unsigned self) const {
    std::uint64_t mask = 0;
    for (unsigned i = 0; i < max_vcpus; i++)
      if (i != self && vcpus_[i]) mask |= std::uint64_t{1} << i;
    return mask;
  }
  void add_vcpu(unsigned index, BtVcpu* vcpu);
  void remove_vcpu(unsigned index);
  template <typename F>
  void for_each_vcpu(std::uint64_t mask, F f) {
    for (unsigned i = 0; i < max_vcpus; i++)
      if (vcpus_[i] && ((mask >> i) & 1)) f(*vcpus_[i]);
  }
  const EngineOptions& options() const { return options_; }
  const x86::FeatureGate& gate() const { return gate_; }
  /// AMD processors keep FS and GS base when a null selector is loaded; the guest sees what its CPUID vendor does.
  bool null_keeps_base() const { return null_keeps_base_; }
  bool amd() const { return amd_; }
  bool page_1gb() const { return page_1gb_; }
  bool pse36() const { return pse36_; }
  /// The x87 keeps the selectors of its pointers (processors without CPUID.7.0:EBX[13]).
  bool x87_selectors() const { return x87_selectors_; }
  /// Pointers have to be looked for even when the x87 is in its initial configuration otherwise: some instructions
  /// change nothing else, and the guest may load some.
  bool x87_pointers_alone() const { return x87_pointers_alone_.load(std::memory_order_relaxed); }
  void expect_x87_pointers_alone() { x87_pointers_alone_.store(true, std::memory_order_relaxed); }
  /// What the x87 keeps of a 64-bit pointer: as many bits as it has, sign-extended.
  std::uint64_t kept_of_x87_pointer(std::uint64_t value) const {
    const unsigned unused = 64 - x87_pointer_bits_;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
  }
  /// MXCSR bits that may be set.
  std::uint32_t mxcsr_mask() const { return mxcsr_mask_; }
  /// CLOCK_MONOTONIC when the machine was made: the paravirtual clock's zero.
  std::uint64_t start_ns() const { return start_ns_; }
  /// A moment, as the guest's TSC and as its system time.
  struct ClockBase {
    std::uint64_t guest_tsc, system_time_ns;
  };
  /// The moment that all clock pages count from: measured once, by whoever asks first.
  template <typename F>
  ClockBase clock_base(F measure) {
    std::call_once(clock_once_, [&] { clock_base_ = measure(); });
    return clock_base_;
  }
  /// Bytes of an XSAVE area with these components (SDM 1 13.4), in standard or compacted format.
  unsigned xsave_bytes(std::uint64_t mask, bool compact) const {
    unsigned end = 576;
    for (unsigned i = 2; i < 8; i++) {
      if (!((mask >> i) & 1)) continue;
      const Component& c = components_[i];
      if (!compact)
        end = end > c.offset + c.size ? end : c.offset + c.size;
      else
        end = (c.aligned ? (end + 63) & ~63u : end) + c.size;
    }
    return end;
  }
  /// Where component i is: in the standard format, or in the compacted one with the components of `layout`.
  unsigned component_offset(unsigned i, std::uint64_t layout = 0) const {
    if (!layout) return components_[i].offset;
    const unsigned end = xsave_bytes(layout & ((std::uint64_t{1} << i) - 1), true);
    return components_[i].aligned ? (end + 63) & ~63u : end;
  }
  unsigned component_size(unsigned i) const { return components_[i].size; }
  /// XSAVE components that are kept for the guest: all of the host's, whatever of them the guest's CPUID shows.
  std::uint64_t vector_mask() const { return cpuid_.host_xcr0(); }

 private:
  machine::GuestMemory& memory_;
  Board& board_;
  const CpuidPolicy& cpuid_;
  EngineOptions options_;
  x86::FeatureGate gate_;
  CodeCache cache_;
  PerfMap perf_map_;
  StopGate stop_gate_;
  BtVcpu* vcpus_[max_vcpus] = {};
  unsigned vcpu_count_ = 0;
  bool null_keeps_base_ = false;
  bool amd_ = false, page_1gb_ = false, pse36_ = false;  // of the guest's CPUID
  struct Component {
    unsigned offset = 0, size = 0;
    bool aligned = false;
  };
  Component components_[8];
  void try_x87_pointers();

  bool x87_selectors_ = false;
  std::atomic<bool> x87_pointers_alone_{false};
  unsigned x87_pointer_bits_ = 64;
  std::uint32_t mxcsr_mask_ = 0xffff;
  std::uint64_t start_ns_ = 0;
  std::once_flag clock_once_;
  ClockBase clock_base_{};
};

}  // namespace veneer::cpu::bt
