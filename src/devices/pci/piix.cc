// PIRQ routing and the place of the power management registers.
#include "devices/pci/piix.h"

#include <utility>

namespace veneer::devices {
namespace {

constexpr std::uint8_t PIRQ_OFF = 0x80;  // PIRQRCx: interrupt routing disabled
constexpr std::uint8_t PMIOSE = 0x01;    // PMREGMISC: the I/O space answers

}  // namespace

Piix3IsaBridge::Piix3IsaBridge(const IsaLines& lines)
    : PciFunction("piix3-isa", {0x8086, 0x7000, 0x00, 0x060100, 0, 0, 0}), lines_(lines) {
  set_multifunction();
  set_config(pci::COMMAND, 2, 0x0007);
  set_config(0x4c, 1, 0x4d);
  set_config(XBCS, 2, 0x0003);
  make_writable(0x4c, 4, 0xffff'ff7f);
  for (unsigned i = 0; i < PIRQ_COUNT; ++i) {
    set_config(PIRQRCA + i, 1, PIRQ_OFF);
    make_writable(PIRQRCA + i, 1, 0x8f);
  }
  set_config(TOM, 1, 0x02);
  make_writable(TOM, 1, 0xfe);
  make_writable(DLC, 1, 0x0f);
}

void Piix3IsaBridge::update() {
  std::uint16_t wanted = 0;
  for (unsigned i = 0; i < PIRQ_COUNT; ++i) {
    const std::uint32_t route = config(PIRQRCA + i, 1);
    if (asserted_[i] && !(route & PIRQ_OFF)) wanted = static_cast<std::uint16_t>(wanted | 1u << (route & 0xf));
  }
  for (unsigned irq = 0; irq < lines_.size(); ++irq)
    if (((wanted ^ driven_) >> irq & 1) && lines_[irq]) lines_[irq]->set((wanted >> irq) & 1);
  driven_ = wanted;
}

void Piix3IsaBridge::set_pirq(unsigned index, bool asserted) {
  asserted_[index % PIRQ_COUNT] = asserted;
  update();
}

void Piix3IsaBridge::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  PciFunction::write_config(offset, size_bytes, value);
  if (offset + size_bytes > PIRQRCA && offset < PIRQRCA + PIRQ_COUNT) update();
}

void Piix3IsaBridge::save(machine::SnapshotWriter& out) const {
  PciFunction::save(out);
  out.put(asserted_);
}

void Piix3IsaBridge::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  for (bool& level : asserted_) level = in.get<std::uint8_t>() != 0;
  driven_ = 0;
  update();
}

void Piix3IsaBridge::reset() {
  PciFunction::reset();
  asserted_ = {};
  update();
}

Piix4PowerManagement::Piix4PowerManagement(std::function<void(std::optional<std::uint16_t>)> move)
    : PciFunction("piix4-pm", {0x8086, 0x7113, 0x03, 0x068000, 0, 0, 1}), move_(std::move(move)) {
  set_config(PMBA, 4, 1);
  make_writable(PMBA, 4, 0xffc0);
  set_config(DEVACTB, 4, 0x0200'0000);  // APMC_EN
  make_writable(DEVACTB, 4, 0xfdff'ffff);
  make_writable(PMREGMISC, 1, 0x0f);
  set_config(SMBBA, 4, 1);
  make_writable(SMBBA, 4, 0xfff0);
  make_writable(SMBHSTCFG, 1, 0x0f);
}

std::optional<std::uint16_t> Piix4PowerManagement::base() const {
  const auto base = static_cast<std::uint16_t>(config(PMBA, 2) & 0xffc0);
  if (!(config(PMREGMISC, 1) & PMIOSE) || base == 0) return std::nullopt;
  return base;
}

void Piix4PowerManagement::enable(std::uint16_t base) {
  write_config(PMBA, 4, base);
  write_config(PMREGMISC, 1, PMIOSE);
}

void Piix4PowerManagement::update() {
  if (base() == told_) return;
  told_ = base();
  if (move_) move_(told_);
}

void Piix4PowerManagement::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  PciFunction::write_config(offset, size_bytes, value);
  update();
}

void Piix4PowerManagement::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  update();
}

void Piix4PowerManagement::reset() {
  PciFunction::reset();
  update();
}

}  // namespace veneer::devices
