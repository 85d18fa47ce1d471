// The I/O APIC: 24 interrupt inputs that become messages to local APICs.
//
// State: index register, ID, 24 redirection entries, input levels.
// Missing: SMI and INIT pins have no special wiring; they are sent as the entry says.
// Differs from the spec: version 0x20, with the EOI register of later chipsets (ICH data sheets, "EOI register").
// Spec: Intel 82093AA data sheet 290566-001.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"
#include "devices/irq/apic_bus.h"
#include "devices/irq/storm_brake.h"
#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Registers at 0xfec00000, size 0x1000.
class IoApic final : public machine::Device {
 public:
  static constexpr unsigned pin_count = 24;

  /// `requester` is what its messages say of their origin.
  IoApic(ApicBus& bus, TimerService& timers, std::uint16_t requester = 0);
  ~IoApic() override;
  IoApic(const IoApic&) = delete;
  IoApic& operator=(const IoApic&) = delete;

  machine::IrqLine& input(unsigned pin) { return inputs_[pin]; }
  /// Nobody hears of this pin.
  bool is_masked(unsigned pin) const;
  /// A local APIC ended this level-triggered vector: entries that wait for it may fire again. Behind a remapper these
  /// are the entries whose messages became this vector.
  void end_of_interrupt(std::uint8_t vector);

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  struct Input final : machine::IrqLine {
    IoApic* io_apic = nullptr;
    unsigned pin = 0;
    void set(bool level) override { io_apic->set_pin(pin, level); }
  };

  void set_pin(unsigned pin, bool level);
  void service_level(unsigned pin);
  void service_levels();
  bool send(unsigned pin);
  void end(unsigned pin);
  std::uint32_t read_register() const;
  void write_register(std::uint32_t value);
  void write_redirection(unsigned pin, bool high_half, std::uint32_t value);

  ApicBus& bus_;
  const std::uint16_t requester_;
  StormBrake brake_;
  std::array<Input, pin_count> inputs_;
  std::array<std::uint64_t, pin_count> redirection_{};
  /// Under which vector a local APIC got a pin's last level-triggered message: not the entry's, if a remapper changed
  /// it.
  std::array<std::uint8_t, pin_count> delivered_{};
  std::uint32_t lines_ = 0;
  std::uint8_t index_ = 0;
  std::uint8_t id_ = 0;
};

}  // namespace veneer::devices
