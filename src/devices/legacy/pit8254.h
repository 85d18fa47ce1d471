// The 8254 interval timer and the port 61h bits that belong to it.
//
// State: three counters (mode, counts, latches, phase), port 61h.
// Missing: ticks that the host was too late for are not made up.
// Differs from the spec: OUT of counter 0 is a short low pulse before each interrupt edge; it interrupts at most
//   at 10 kHz.
// Spec: Intel 8254 data sheet 231164-005; port 61h: 82371AB (PIIX4) data sheet 4.2.4 (NMI status and control).
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// One of the three counters: what it shows at any time is computed from when it started.
class PitCounter {
 public:
  static constexpr std::uint64_t input_hz = 1'193'182;
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  void write_control(std::uint8_t control, std::uint64_t now_ns);
  void write_count(std::uint8_t value, std::uint64_t now_ns);
  std::uint8_t read_count(std::uint64_t now_ns);
  void latch_count(std::uint64_t now_ns);
  void latch_status(std::uint64_t now_ns);
  void set_gate(bool gate, std::uint64_t now_ns);
  bool gate() const { return gate_; }

  bool out(std::uint64_t now_ns) const;
  /// When OUT next rises after now_ns, or `never`.
  std::uint64_t next_rise_ns(std::uint64_t now_ns) const;
  /// OUT rises again and again (modes 2 and 3).
  bool periodic() const { return mode_ == 2 || mode_ == 3; }

  void save(machine::SnapshotWriter& out, std::uint64_t now_ns) const;
  void restore(machine::SnapshotReader& in, std::uint64_t now_ns);

 private:
  /// Read/write format of the control word (bits 5-4).
  enum class Access : std::uint8_t { Latch = 0, Low = 1, High = 2, LowThenHigh = 3 };

  void load(std::uint16_t count, std::uint64_t now_ns);
  void start(std::uint64_t now_ns);
  void change_over();
  /// The same counter behind a change of its count that has come by now_ns.
  PitCounter changed() const;
  bool change_is_due(std::uint64_t now_ns) const { return changes_ns_ <= now_ns; }
  bool counting() const;
  bool one_shot_by_gate() const { return mode_ == 1 || mode_ == 5; }
  std::uint64_t elapsed_ticks(std::uint64_t now_ns) const;
  std::uint64_t initial_count() const;
  std::uint16_t counting_element(std::uint64_t now_ns) const;

  std::uint8_t mode_ = 0;
  Access access_ = Access::LowThenHigh;
  bool bcd_ = false;
  bool gate_ = true;
  bool loaded_ = false;     ///< a count was written since the control word
  bool triggered_ = false;  ///< modes 1 and 5: the gate rose since
  bool read_high_next_ = false;
  bool write_high_next_ = false;
  bool count_latched_ = false;
  bool status_latched_ = false;
  std::uint8_t status_latch_ = 0;
  std::uint16_t count_latch_ = 0;
  std::uint16_t count_register_ = 0;  ///< as written last
  std::uint16_t running_count_ = 0;   ///< what the counting element was loaded with
  std::uint8_t write_low_ = 0;
  std::uint64_t started_ns_ = 0;     ///< when the counting element was loaded
  /// Modes 2 and 3: when a count that was written meanwhile is loaded.
  std::uint64_t changes_ns_ = never;
  std::uint64_t stopped_ticks_ = 0;  ///< ticks counted when the gate closed (modes 0, 2, 3, 4)
};

/// Four ports at 40h, and port 61h through port61().
class Pit8254 final : public machine::ByteDevice {
 public:
  static constexpr std::uint64_t minimum_period_ns = 100'000;

  Pit8254(machine::IrqLine& irq0, TimerService& timers);

  /// Port 61h: gate of counter 2, speaker, its output, refresh toggle.
  machine::Device& port61() { return port61_; }

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  struct Port61 final : machine::ByteDevice {
    explicit Port61(Pit8254& owner) : pit(owner) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter& out) const override;
    void restore(machine::SnapshotReader& in) override;
    void reset() override;
    Pit8254& pit;
    std::uint8_t control = 0;
  };

  void tick();
  void counter0_changed();
  void schedule(std::uint64_t after_ns);

  machine::IrqLine& irq0_;
  const Clock& clock_;
  std::unique_ptr<Timer> timer_;
  std::array<PitCounter, 3> counters_;
  Port61 port61_;
};

}  // namespace veneer::devices
