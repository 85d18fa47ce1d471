// Two 8259A interrupt controllers in cascade, as in every PC since the AT.
//
// State: IRR, ISR, IMR, the ICW and OCW settings, line levels, ELCR; both chips.
// Missing: buffered mode and the 8080/85 CALL sequence (ICW4 bit 0 clear is taken as 8086 mode).
// Differs from the spec: the cascade is always on the master's input 2, whatever ICW3 says;
//   all inputs are masked after power-up, where the chip's state is undefined.
// Spec: Intel 8259A data sheet 231468-003; ELCR: 82371AB (PIIX4) data sheet 4.2.3.
#pragma once

#include <array>
#include <cstdint>

#include "devices/irq/ext_int_source.h"
#include "machine/byte_device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// One 8259A. Ports: 0 is ICW1/OCW2/OCW3, 1 is the rest and IMR.
class Pic8259 final : public machine::ByteDevice {
 public:
  enum class Role : std::uint8_t { Master, Slave };
  Pic8259(Role role, machine::IrqLine& intr_out) : role_(role), intr_out_(intr_out) {}

  void set_input(unsigned input, bool level);
  bool intr() const { return intr_; }
  /// INTA: the input that is acknowledged (7 when spurious), moved from IRR to ISR.
  unsigned acknowledge();
  std::uint8_t vector_base() const { return vector_base_; }
  std::uint8_t edge_level() const { return elcr_; }
  void set_edge_level(std::uint8_t level_inputs);

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 protected:
  std::uint8_t read_byte(unsigned offset) override;
  void write_byte(unsigned offset, std::uint8_t value) override;

 private:
  enum class Expect : std::uint8_t { Nothing, Icw2, Icw3, Icw4 };

  void write_icw1(std::uint8_t value);
  void write_ocw2(std::uint8_t value);
  void write_ocw3(std::uint8_t value);
  void write_odd_port(std::uint8_t value);
  void end_of_interrupt(unsigned input);
  std::uint8_t requests() const;
  std::uint8_t blocking() const;
  int highest(std::uint8_t inputs) const;
  int deliverable() const;
  unsigned rank(unsigned input) const { return (input - lowest_ - 1u) & 7u; }
  std::uint8_t poll();
  void update();

  const Role role_;
  machine::IrqLine& intr_out_;

  std::uint8_t lines_ = 0;       ///< input levels
  std::uint8_t edge_latch_ = 0;  ///< rising edges not yet acknowledged; the edge half of IRR
  std::uint8_t isr_ = 0;
  std::uint8_t imr_ = 0xff;
  std::uint8_t elcr_ = 0;         ///< inputs that are level-triggered
  std::uint8_t vector_base_ = 0;  ///< ICW2 bits 7-3
  std::uint8_t icw3_ = 0;
  std::uint8_t lowest_ = 7;  ///< the input with the lowest priority
  Expect expect_ = Expect::Nothing;
  bool icw4_needed_ = false;
  bool single_ = false;      ///< ICW1 SNGL: no ICW3
  bool level_mode_ = false;  ///< ICW1 LTIM: all inputs level-triggered
  bool auto_eoi_ = false;
  bool rotate_on_auto_eoi_ = false;
  bool special_fully_nested_ = false;
  bool special_mask_ = false;
  bool read_isr_ = false;
  bool poll_ = false;
  bool intr_ = false;
};

/// Both chips with their cascade.
class Pic8259Pair final : public ExtIntSource {
 public:
  explicit Pic8259Pair(machine::IrqLine& intr_out);

  machine::Device& master() { return master_; }  ///< ports 0x20-0x21
  machine::Device& slave() { return slave_; }    ///< ports 0xa0-0xa1
  machine::Device& elcr() { return elcr_; }      ///< ports 0x4d0-0x4d1

  /// Interrupt request 0 to 15 (2 is the cascade: driving it has no effect).
  machine::IrqLine& input(unsigned irq) { return inputs_[irq]; }

  bool pending() const override { return master_.intr(); }
  std::uint8_t acknowledge() override;

 private:
  struct Input final : machine::IrqLine {
    Pic8259* chip = nullptr;
    unsigned number = 0;
    void set(bool level) override {
      if (chip) chip->set_input(number, level);
    }
  };
  /// Edge/level control: one bit per input; timer, keyboard, cascade, RTC and FPU stay edge-triggered.
  struct Elcr final : machine::ByteDevice {
    explicit Elcr(Pic8259Pair& owner) : pair(owner) {}
    std::uint8_t read_byte(unsigned offset) override;
    void write_byte(unsigned offset, std::uint8_t value) override;
    void save(machine::SnapshotWriter& out) const override;
    void restore(machine::SnapshotReader& in) override;
    void reset() override;
    Pic8259Pair& pair;
  };

  Input cascade_;
  Pic8259 master_;
  Pic8259 slave_;
  Elcr elcr_;
  std::array<Input, 16> inputs_;
};

}  // namespace veneer::devices
