// The I/O APIC.
#include "devices/irq/ioapic.h"

#include <mutex>

#include "base/bits.h"
#include "base/log.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t IOREGSEL = 0x00;
constexpr std::uint64_t IOWIN = 0x10;
constexpr std::uint64_t EOIR = 0x40;

constexpr std::uint8_t IOAPICID = 0;
constexpr std::uint8_t IOAPICVER = 1;
constexpr std::uint8_t IOAPICARB = 2;
constexpr std::uint8_t IOREDTBL = 0x10;

// Redirection table entry (82093AA 3.2.4).
using Vector = Bits<7, 0>;
using Mode = Bits<10, 8>;
using Destination = Bits<63, 56>;
constexpr std::uint64_t logical_destination = bit(11);
constexpr std::uint64_t remote_irr = bit(14);
constexpr std::uint64_t level_triggered = bit(15);
constexpr std::uint64_t masked = bit(16);
constexpr std::uint64_t writable =
    Destination::mask | bit(16) | bit(15) | bit(13) | bit(11) | Mode::mask | Vector::mask;

}  // namespace

IoApic::IoApic(ApicBus& bus, TimerService& timers, std::uint16_t requester)
    : bus_(bus), requester_(requester), brake_(pin_count, timers, [this] { service_levels(); }) {
  for (unsigned pin = 0; pin < pin_count; ++pin) {
    inputs_[pin].io_apic = this;
    inputs_[pin].pin = pin;
  }
  std::lock_guard guard(bus_.lock());
  bus_.attach(*this);
  reset();
}

IoApic::~IoApic() {
  std::lock_guard guard(bus_.lock());
  bus_.detach(*this);
}

void IoApic::reset() {
  redirection_.fill(masked);
  delivered_.fill(0);
  index_ = 0;
  id_ = 0;
  brake_.reset();
}

bool IoApic::is_masked(unsigned pin) const { return (redirection_[pin] & masked) != 0; }

void IoApic::set_pin(unsigned pin, bool level) {
  const auto line = static_cast<std::uint32_t>(bit(pin));
  const bool rose = level && !(lines_ & line);
  lines_ = level ? lines_ | line : lines_ & ~line;
  const std::uint64_t entry = redirection_[pin];
  if (entry & level_triggered) {
    if (rose) service_level(pin);
  } else if (rose && !(entry & masked)) {  // an edge on a masked pin is not held (82093AA 3.2.4, "Interrupt Mask")
    send(pin);
  }
}

void IoApic::service_level(unsigned pin) {
  std::uint64_t& entry = redirection_[pin];
  if (!(entry & level_triggered) || (entry & (masked | remote_irr)) || !(lines_ & bit(pin))) return;
  if (send(pin))
    entry |= remote_irr;
  else
    brake_.try_later();  // nobody takes it now, as hardware's bus would go on asking
}

bool IoApic::send(unsigned pin) {
  const std::uint64_t entry = redirection_[pin];
  ApicMessage message;
  message.destination = static_cast<std::uint32_t>(Destination::get(entry));
  message.destination_mode = (entry & logical_destination) ? DestinationMode::Logical : DestinationMode::Physical;
  message.delivery_mode = static_cast<DeliveryMode>(Mode::get(entry));
  message.trigger_mode = (entry & level_triggered) ? TriggerMode::Level : TriggerMode::Edge;
  message.vector = static_cast<std::uint8_t>(Vector::get(entry));
  VENEER_TRACE(Irq, "ioapic: pin {} sends vector {:#x} to {:#x}", pin, message.vector, message.destination);
  const auto delivered = bus_.remapped(requester_, message);
  if (!delivered) return false;
  delivered_[pin] = delivered->vector;
  return bus_.message(*delivered);
}

/// The interrupt of this pin, which had remote IRR set, is over.
void IoApic::end(unsigned pin) {
  redirection_[pin] &= ~remote_irr;
  if (brake_.ended(pin, (lines_ & bit(pin)) != 0)) service_level(pin);
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  for (unsigned pin = 0; pin < pin_count; ++pin) {
    const std::uint64_t waits_for = bus_.remaps() ? delivered_[pin] : Vector::get(redirection_[pin]);
    if ((redirection_[pin] & remote_irr) && waits_for == vector) end(pin);
  }
}

void IoApic::service_levels() {
  for (unsigned pin = 0; pin < pin_count; ++pin) service_level(pin);
}

std::uint32_t IoApic::read_register() const {
  switch (index_) {
    case IOAPICID:
    case IOAPICARB:
      return std::uint32_t{id_} << 24;
    case IOAPICVER:
      return 0x20 | ((pin_count - 1) << 16);
    default:
      break;
  }
  if (index_ < IOREDTBL || index_ >= IOREDTBL + 2 * pin_count) return 0xffffffff;
  const std::uint64_t entry = redirection_[(index_ - IOREDTBL) / 2u];
  return static_cast<std::uint32_t>((index_ & 1) ? entry >> 32 : entry);
}

void IoApic::write_register(std::uint32_t value) {
  if (index_ == IOAPICID) id_ = (value >> 24) & 0xf;
  if (index_ >= IOREDTBL && index_ < IOREDTBL + 2 * pin_count)
    write_redirection((index_ - IOREDTBL) / 2u, (index_ & 1) != 0, value);
}

void IoApic::write_redirection(unsigned pin, bool high_half, std::uint32_t value) {
  std::uint64_t& entry = redirection_[pin];
  const std::uint64_t mask = writable & (high_half ? ~byte_mask(4) : byte_mask(4));
  const std::uint64_t wide = high_half ? std::uint64_t{value} << 32 : value;
  entry = (entry & ~mask) | (wide & mask);
  // An edge-triggered entry waits for no EOI; kernels flip an entry to edge and back to get rid of a stuck one.
  if (!(entry & level_triggered)) entry &= ~remote_irr;
  service_level(pin);
}

std::uint64_t IoApic::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  if ((offset & ~std::uint64_t{3}) == IOREGSEL) value = index_;
  if ((offset & ~std::uint64_t{3}) == IOWIN) value = read_register();
  return (value >> (8 * (offset & 3))) & byte_mask(size_bytes);
}

void IoApic::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset == IOREGSEL) index_ = static_cast<std::uint8_t>(value);
  if (offset == IOWIN && size_bytes >= 4) write_register(static_cast<std::uint32_t>(value));
  if (offset == EOIR)  // by the entry's own vector, whatever it became on its way
    for (unsigned pin = 0; pin < pin_count; ++pin)
      if ((redirection_[pin] & remote_irr) && Vector::get(redirection_[pin]) == (value & 0xff)) end(pin);
}

void IoApic::save(machine::SnapshotWriter& out) const {
  out.section("ioapic");
  out.put(redirection_);
  out.put(delivered_);
  out.put(lines_);
  out.put(index_);
  out.put(id_);
}

void IoApic::restore(machine::SnapshotReader& in) {
  in.section("ioapic");
  in.get(redirection_);
  in.get(delivered_);
  in.get(lines_);
  in.get(index_);
  in.get(id_);
  brake_.restored();
}

}  // namespace veneer::devices
