// Generic host control and interrupts of an AHCI adapter.
#include "devices/ahci/ahci_controller.h"

#include <utility>

#include "base/bits.h"

namespace veneer::devices {

using namespace ahci;

namespace {

constexpr PciIdentity identity = {0x8086, 0x2922, 2, 0x010601, 0x8086, 0x2922, 1};  // class: SATA, AHCI
constexpr std::uint64_t registers_bytes = 0x1000;
static_assert(PORTS_BASE + AhciController::port_count * PORT_BYTES <= registers_bytes);
constexpr std::uint32_t CAP_VALUE = CAP_S64A | CAP_SNCQ | CAP_SCLO | CAP_SAM | CAP_ISS_3G |
                                    (AtaDrive::queue_depth - 1) << 8 | (AhciController::port_count - 1);

}  // namespace

AhciController::AhciController(std::string name, const machine::DmaSpace& memory)
    : PciFunction(std::move(name), identity) {
  for (unsigned i = 0; i < port_count; ++i) ports_.emplace_back(memory, static_cast<AhciHost&>(*this));
  add_bar(5, BarKind::Memory32, registers_bytes, registers_);
  add_msi();
}

void AhciController::attach(unsigned port, AtaDriveKind kind, disk::Backend& backend) {
  ports_[port].attach(kind, backend);
  ports_[port].reset();
}

std::uint64_t AhciController::read_registers(std::uint64_t offset, unsigned size_bytes) {
  if (offset % size_bytes != 0) return 0;
  const auto first = static_cast<std::uint32_t>(offset & ~std::uint64_t{3});
  if (size_bytes == 8) return read_dword(first) | std::uint64_t{read_dword(first + 4)} << 32;
  return (read_dword(first) >> (8 * (offset % 4))) & byte_mask(size_bytes);
}

void AhciController::write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (size_bytes < 4 || offset % size_bytes != 0) return;
  const auto first = static_cast<std::uint32_t>(offset);
  write_dword(first, static_cast<std::uint32_t>(value));
  if (size_bytes == 8) write_dword(first + 4, static_cast<std::uint32_t>(value >> 32));
}

std::uint32_t AhciController::read_dword(std::uint32_t offset) const {
  switch (offset) {
    case CAP:
      return CAP_VALUE;
    case GHC:
      return GHC_AE | (interrupts_enabled_ ? GHC_IE : 0);
    case IS:
      return is_;
    case PI: {
      std::uint32_t present = 0;
      for (unsigned i = 0; i < port_count; ++i) present |= ports_[i].present() ? 1u << i : 0;
      return present;
    }
    case VS:
      return VS_1_3;
    default:
      break;
  }
  const std::uint32_t port = (offset - PORTS_BASE) / PORT_BYTES;
  if (offset < PORTS_BASE || port >= port_count) return 0;
  return ports_[port].read((offset - PORTS_BASE) % PORT_BYTES);
}

void AhciController::write_dword(std::uint32_t offset, std::uint32_t value) {
  switch (offset) {
    case GHC:
      if (value & GHC_HR) return reset_host();
      interrupts_enabled_ = (value & GHC_IE) != 0;
      if (interrupts_enabled_ && is_ != 0) signal_msi();
      return port_changed();
    case IS:
      is_ &= ~value;  // a port that still wants to interrupt sets it again
      return port_changed();
    default:
      break;
  }
  const std::uint32_t port = (offset - PORTS_BASE) / PORT_BYTES;
  if (offset < PORTS_BASE || port >= port_count) return;
  ports_[port].write((offset - PORTS_BASE) % PORT_BYTES, value);
}

void AhciController::port_changed() {
  const std::uint32_t before = is_;
  for (unsigned i = 0; i < ports_.size(); ++i)
    if (ports_[i].interrupts()) is_ |= 1u << i;
  set_intx(interrupts_enabled_ && is_ != 0);
  if (interrupts_enabled_ && (is_ & ~before) != 0) signal_msi();
}

void AhciController::run_ports() {
  for (AhciPort& port : ports_) port.run();
}

/// GHC.HR (10.4.3).
void AhciController::reset_host() {
  for (AhciPort& port : ports_) port.reset();
  is_ = 0;
  interrupts_enabled_ = false;
  set_intx(false);
}

void AhciController::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  const bool before = bus_master();
  PciFunction::write_config(offset, size_bytes, value);
  if (!before && bus_master()) run_ports();
}

void AhciController::save(machine::SnapshotWriter& out) const {
  machine::SnapshotWriter ports;  // first, as commands that end on the way change what is outside
  for (const AhciPort& port : ports_) port.save(ports);
  PciFunction::save(out);
  out.put(is_);
  out.put(static_cast<std::uint8_t>(interrupts_enabled_));
  out.bytes(ports.data());
}

void AhciController::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  in.get(is_);
  interrupts_enabled_ = in.get<std::uint8_t>() != 0;
  for (AhciPort& port : ports_) port.restore(in);
  if (!in.ok()) return reset_host();
  run_ports();
}

void AhciController::reset() {
  PciFunction::reset();
  reset_host();
}

}  // namespace veneer::devices
