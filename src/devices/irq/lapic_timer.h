// The local APIC's timer: one-shot, periodic and TSC-deadline.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "machine/snapshot.h"

namespace veneer::devices {

/// How a local APIC knows time.
struct LapicConfig {
  std::uint64_t tsc_hz = 1'000'000'000;  ///< rate of the guest's TSC
  /// The vCPU's TSC now (host TSC plus its offset). Called with the board lock held, from the vCPU's thread and
  /// from the event loop. Empty: TSC-deadline counts nanoseconds of the clock.
  std::function<std::uint64_t()> guest_tsc;
  std::uint64_t bus_hz = 1'000'000'000;  ///< what the timer counts before its divider
  unsigned physical_bits = 40;           ///< writable width of IA32_APIC_BASE
  bool present = true;                   ///< false: the processor has none; its pins are INTR and NMI
  bool x2apic = true;                    ///< offered in CPUID
};

/// Knows nothing of vectors: `expired` is called each time the count ends. Board lock held in every call.
class LapicTimer {
 public:
  /// LVT timer bits 18-17 (SDM 3A figure 11-8).
  enum class Mode : std::uint8_t { OneShot = 0, Periodic = 1, TscDeadline = 2 };
  /// A guest can't have the host woken more often than this (10 kHz).
  static constexpr std::uint64_t minimum_period_ns = 100'000;

  LapicTimer(TimerService& timers, const LapicConfig& config, std::function<void()> expired);

  /// A change between TSC-deadline and the others disarms (SDM 3A 11.5.4.1).
  void set_mode(Mode mode);
  Mode mode() const { return mode_; }
  void set_initial_count(std::uint32_t count);
  std::uint32_t initial_count() const { return initial_count_; }
  std::uint32_t current_count() const;
  /// Divide configuration register (SDM 3A figure 11-10): bits 3, 1, 0.
  void set_divide(std::uint32_t value);
  std::uint32_t divide() const { return divide_; }
  /// IA32_TSC_DEADLINE; 0 disarms. Ignored outside TSC-deadline mode.
  void set_tsc_deadline(std::uint64_t tsc);
  std::uint64_t tsc_deadline() const { return mode_ == Mode::TscDeadline ? tsc_deadline_ : 0; }
  /// The guest's TSC jumped (a write to IA32_TSC or its offset): works out an armed deadline anew.
  void tsc_changed();

  void reset();
  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  void fire();
  void start(std::uint64_t elapsed_ns);
  void arm_tsc_deadline();
  std::uint64_t guest_tsc() const;
  std::uint64_t count_ns(std::uint64_t count) const;
  std::uint64_t period_ns() const;

  const Clock& clock_;
  const LapicConfig config_;
  std::function<void()> expired_;
  std::unique_ptr<Timer> timer_;

  Mode mode_ = Mode::OneShot;
  std::uint32_t initial_count_ = 0;
  std::uint32_t divide_ = 0;
  std::uint64_t started_ns_ = 0;  ///< when the running count was loaded
  bool running_ = false;          ///< counting down (one-shot or periodic)
  std::uint64_t tsc_deadline_ = 0;
};

}  // namespace veneer::devices
