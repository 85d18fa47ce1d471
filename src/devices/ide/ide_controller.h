// The IDE function of the PIIX3: two channels in compatibility mode, and their bus masters.
//
// State: configuration space; the channels save themselves.
// Missing: timings (stored). Differs from the spec: the channels answer whatever IDETIM's decode enable bits say.
// Spec: 82371SB (PIIX3) data sheet 290550, 2.3 and 2.7.
#pragma once

#include <memory>

#include "devices/ide/ide_channel.h"
#include "devices/pci/pci_function.h"

namespace veneer::devices {

class IdeController final : public PciFunction {
 public:
  IdeController(machine::IrqLine& irq14, machine::IrqLine& irq15, const machine::DmaSpace& memory);

  /// Their ports are fixed: whoever plugs the function in plugs them in, too.
  IdeChannel& channel(unsigned index) { return *channels_[index]; }

 private:
  /// BAR 4: eight ports for each channel.
  struct BusMasterPorts final : machine::ByteDevice {
    explicit BusMasterPorts(IdeController& owner) : controller(owner) {}
    std::uint8_t read_byte(unsigned offset) override {
      return controller.channels_[(offset >> 3) & 1]->bus_master().read(offset & 7);
    }
    void write_byte(unsigned offset, std::uint8_t value) override {
      controller.channels_[(offset >> 3) & 1]->bus_master().write(offset & 7, value);
    }
    void save(machine::SnapshotWriter&) const override {}
    void restore(machine::SnapshotReader&) override {}
    void reset() override {}
    IdeController& controller;
  };
  enum Register : unsigned { IDETIM = 0x40 };
  std::unique_ptr<IdeChannel> channels_[2];
  BusMasterPorts ports_{*this};
};

}  // namespace veneer::devices
