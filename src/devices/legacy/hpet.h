// The high precision event timer: a counter of 100 MHz with three comparators.
//
// State: configuration, counter, comparators with their periods, interrupt status.
// Missing: nothing of what the specification requires.
// Differs from the spec: a comparator interrupts at most at 10 kHz; matches that the host was too late for become one.
// Spec: IA-PC HPET Specification 1.0a.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/clock.h"
#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Legacy replacement (2.4.1): while it is chosen the HPET drives this ISA interrupt, and not the device that has it
/// otherwise.
class ReplaceableIrq {
 public:
  explicit ReplaceableIrq(machine::IrqLine& to) : to_(to) {}
  machine::IrqLine& legacy() { return legacy_; }
  machine::IrqLine& replacement() { return replacement_; }
  void choose(bool replacement);
  /// An edge-triggered interrupt of the HPET's.
  void edge();
  /// The same, without moving the line: it has been restored already.
  void restore(bool replacement) { chosen_ = replacement; }

 private:
  struct Input final : machine::IrqLine {
    Input(ReplaceableIrq& owner_in, bool replacement_in) : owner(owner_in), replacement(replacement_in) {}
    void set(bool value) override {
      level = value;
      if (owner.chosen_ == replacement) owner.to_.set(value);
    }
    ReplaceableIrq& owner;
    bool replacement;
    bool level = false;
  };
  machine::IrqLine& to_;
  Input legacy_{*this, false}, replacement_{*this, true};
  bool chosen_ = false;
};

/// Registers at a fixed address, 1 KiB. Restored before the devices whose interrupts it replaces.
class Hpet final : public machine::Device {
 public:
  static constexpr unsigned timer_count = 3;
  static constexpr std::uint64_t tick_ns = 10;
  static constexpr std::uint64_t minimum_gap_ns = 100'000;
  /// The low half of the capabilities register: revision 1, three timers, 64 bits, legacy replacement, Intel.
  static constexpr std::uint32_t block_id = 0x8086'a201;

  struct Wiring {
    ReplaceableIrq& irq0;
    ReplaceableIrq& irq8;
    std::array<machine::IrqLine*, 32> pins{};  ///< inputs of the I/O APIC that timers may be routed to; the others null
    std::function<void(std::uint64_t address, std::uint32_t data)> message;  ///< FSB delivery
  };
  Hpet(const Wiring& wiring, TimerService& timers);

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  struct Comparator {
    std::uint64_t config = 0;
    std::uint64_t value = 0;
    std::uint64_t period = 0;
    std::uint64_t fsb_route = 0;
    std::uint64_t mask() const;
    /// Ticks from `counter` to the next match, never 0; all ones: not in this life.
    std::uint64_t distance(std::uint64_t counter) const;
  };

  bool enabled() const { return (config_ & 1) != 0; }
  bool replaces_legacy() const { return (config_ & 2) != 0; }
  std::uint64_t counter() const;
  std::uint64_t read_register(std::uint64_t offset);
  void write_register(std::uint64_t offset, std::uint64_t value, std::uint64_t written);
  void write_config(std::uint64_t value);
  void write_timer_config(unsigned n, std::uint64_t value);
  void write_comparator(Comparator& timer, std::uint64_t value, std::uint64_t written);
  void catch_up();
  void schedule();
  void match(unsigned n);
  void set_status(unsigned n, bool active);
  ReplaceableIrq* replaced(unsigned n) const;
  machine::IrqLine* line(unsigned n) const;

  Wiring wiring_;
  const Clock& clock_;
  std::unique_ptr<Timer> timer_;
  std::uint64_t pin_mask_ = 0;
  std::uint64_t config_ = 0, status_ = 0;
  std::uint64_t base_ = 0;      ///< the counter when it was started, or where it stands
  std::uint64_t start_ns_ = 0;  ///< when it was started
  std::uint64_t seen_ = 0;      ///< matches up to this count have been acted upon
  std::uint64_t last_match_ns_ = 0;
  std::array<Comparator, timer_count> timers_;
};

}  // namespace veneer::devices
