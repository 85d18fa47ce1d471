// IrqSplit: one interrupt source wired to two inputs, as ISA interrupts are to the 8259 and the I/O APIC.
#pragma once

#include "machine/irq_line.h"

namespace veneer::devices {

class IrqSplit final : public machine::IrqLine {
 public:
  IrqSplit(machine::IrqLine& first, machine::IrqLine& second) : first_(first), second_(second) {}
  void set(bool level) override {
    first_.set(level);
    second_.set(level);
  }

 private:
  machine::IrqLine& first_;
  machine::IrqLine& second_;
};

}  // namespace veneer::devices
