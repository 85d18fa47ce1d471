// The PIIX3's IDE function.
#include "devices/ide/ide_controller.h"

namespace veneer::devices {

IdeController::IdeController(machine::IrqLine& irq14, machine::IrqLine& irq15, const machine::DmaSpace& memory)
    : PciFunction("piix3-ide", {0x8086, 0x7010, 0x00, 0x010180, 0, 0, 0}) {
  channels_[0] = std::make_unique<IdeChannel>(irq14, memory);
  channels_[1] = std::make_unique<IdeChannel>(irq15, memory);
  add_bar(4, BarKind::Io, 16, ports_);
  make_writable(pci::COMMAND, 2, pci::COMMAND_IO);
  set_config(IDETIM, 4, 0x8000'8000);
  make_writable(IDETIM, 4, 0xffff'ffff);
}

}  // namespace veneer::devices
