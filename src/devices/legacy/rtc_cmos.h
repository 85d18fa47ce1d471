// The MC146818 real-time clock and its CMOS memory.
//
// State: 128 bytes, register index, offset of the guest's time of day from the host's, when C was last read.
// Missing: square-wave output, daylight saving switch (DSE is stored only).
// Differs from the spec: the time base is always running (register A's divider bits are stored only).
// Spec: Motorola MC146818A data sheet (1984); century byte and PC memory map: IBM AT Technical Reference.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Two ports at 70h: index (bit 7 is the NMI mask and stored only) and data.
class RtcCmos final : public machine::ByteDevice {
 public:
  RtcCmos(machine::IrqLine& irq8, TimerService& timers);

  /// CMOS memory as firmware finds it (memory size, boot order, ...). Indices 0 to 0xd are refused.
  void set_cmos(std::uint8_t index, std::uint8_t value);

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  std::uint8_t read_register(std::uint8_t index);
  void write_register(std::uint8_t index, std::uint8_t value);
  std::uint8_t read_flags();
  void write_b(std::uint8_t value);

  std::int64_t guest_time_ns() const;
  void load_time_registers();
  void store_time_registers();
  bool frozen() const;
  bool update_in_progress() const;
  std::uint8_t encode(unsigned value) const;
  unsigned decode(std::uint8_t value) const;
  std::uint8_t encode_hour(unsigned hour) const;
  unsigned decode_hour(std::uint8_t value) const;
  bool alarm_matches(std::int64_t second) const;

  std::int64_t guest_second() const;
  std::uint8_t new_flags() const;
  void collect_flags();
  std::uint64_t periodic_ns() const;
  void update();

  machine::IrqLine& irq8_;
  const Clock& clock_;
  std::unique_ptr<Timer> timer_;

  std::array<std::uint8_t, 128> cmos_{};
  std::uint8_t index_ = 0;
  std::int64_t offset_ns_ = 0;    ///< guest time of day = host wall clock + offset
  std::uint8_t flags_ = 0;        ///< PF, AF, UF of register C
  std::int64_t seen_second_ = 0;  ///< update and alarm flags are collected up to this guest second
  std::uint64_t periodic_start_ns_ = 0;
  std::uint64_t seen_period_ = 0;  ///< periodic flags are collected up to this period
};

}  // namespace veneer::devices
