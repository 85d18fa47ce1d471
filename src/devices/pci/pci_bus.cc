// Configuration accesses, shared interrupt lines, resource assignment.
#include "devices/pci/pci_bus.h"

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::devices {
namespace {

constexpr std::uint64_t CONFIG_ADDRESS = 0;  // port 0xcf8
constexpr std::uint64_t RESET_CONTROL = 1;   // port 0xcf9
constexpr std::uint64_t CONFIG_DATA = 4;     // ports 0xcfc to 0xcff

// CONFIG_ADDRESS (PCI 3.0 figure 3-2)
constexpr std::uint32_t ENABLE = 1u << 31;
using BUS = Bits<23, 16>;
using DEVICE = Bits<15, 11>;
using FUNCTION = Bits<10, 8>;
using REGISTER = Bits<7, 2>;
constexpr std::uint32_t WRITABLE = 0x80ff'fffc;

/// Hands out naturally aligned addresses of a window, from the bottom.
class Allocator {
 public:
  Allocator(std::uint64_t base, std::uint64_t bytes) : next_(base), end_(base + bytes) {}
  /// 0 when the window is full.
  std::uint64_t take(std::uint64_t bytes) {
    const std::uint64_t address = align_up(next_, bytes);
    if (address < next_ || address > end_ || bytes > end_ - address) return 0;
    next_ = address + bytes;
    return address;
  }

 private:
  std::uint64_t next_, end_;
};

}  // namespace

class PciBus::Slot final : public PciSlot {
 public:
  Slot(PciBus& bus, unsigned slot, unsigned number, PciFunction& function)
      : bus_(bus), slot_(slot), number_(number), function_(function) {}
  PciFunction& function() { return function_; }

  machine::Bus& memory_bus() override { return bus_.around_.memory_bus; }
  machine::Bus& port_bus() override { return bus_.around_.port_bus; }
  void set_intx(bool level) override { bus_.set_interrupt(slot_, number_, level); }
  void send_msi(std::uint64_t address, std::uint32_t data) override {
    bus_.around_.apic_bus.msi(address, data, pci::requester_id(slot_, number_));
  }

 private:
  PciBus& bus_;
  unsigned slot_, number_;
  PciFunction& function_;
};

PciBus::PciBus(const PciSurroundings& around) : around_(around) {}
PciBus::~PciBus() = default;

void PciBus::plug(unsigned slot, unsigned number, PciFunction& function) {
  VENEER_ASSERT(slot < slot_count && number < function_count && !slots_[slot][number]);
  slots_[slot][number] = std::make_unique<Slot>(*this, slot, number, function);
  function.plug_into(*slots_[slot][number]);
}

template <typename F>
void PciBus::for_each_function(F f) const {
  for (const auto& slot : slots_)
    for (const auto& function : slot)
      if (function) f(function->function());
}

void PciBus::set_interrupt(unsigned slot, unsigned number, bool level) {
  const unsigned line = slot % 4;  // all functions use INTA
  asserted_[line].set(slot * function_count + number, level);
  around_.interrupt_lines[line]->set(asserted_[line].any());
  if (lines_changed_) lines_changed_(line, asserted_[line].any());
}

PciFunction* PciBus::selected() const {
  if (!(config_address_ & ENABLE) || BUS::get(config_address_) != 0) return nullptr;
  const auto& slot = slots_[DEVICE::get(config_address_)][FUNCTION::get(config_address_)];
  return slot ? &slot->function() : nullptr;
}

std::uint64_t PciBus::read(std::uint64_t offset, unsigned size_bytes) {
  if (offset == CONFIG_ADDRESS && size_bytes == 4) return config_address_;
  if (offset == RESET_CONTROL && size_bytes == 1 && reset_register_) return reset_register_->read(0, 1);
  if (offset >= CONFIG_DATA && offset + size_bytes <= CONFIG_DATA + 4)
    if (PciFunction* function = selected())
      return function->read_config(static_cast<unsigned>((config_address_ & REGISTER::mask) + offset - CONFIG_DATA),
                                   size_bytes);
  return byte_mask(size_bytes);
}

void PciBus::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset == CONFIG_ADDRESS && size_bytes == 4) {
    config_address_ = static_cast<std::uint32_t>(value) & WRITABLE;
  } else if (offset == RESET_CONTROL && size_bytes == 1 && reset_register_) {
    reset_register_->write(0, 1, value);
  } else if (offset >= CONFIG_DATA && offset + size_bytes <= CONFIG_DATA + 4) {
    if (PciFunction* function = selected())
      function->write_config(static_cast<unsigned>((config_address_ & REGISTER::mask) + offset - CONFIG_DATA),
                             size_bytes, static_cast<std::uint32_t>(value));
  }
}

void PciBus::assign_resources(const PciWindows& windows) {
  Allocator memory32(windows.memory32_base, windows.memory32_bytes);
  Allocator memory64(windows.memory64_base, windows.memory64_bytes);
  Allocator io(windows.io_base, windows.io_bytes);
  for_each_function([&](PciFunction& function) {
    std::uint32_t decode = function.read_config(pci::COMMAND, 2);
    for (unsigned i = 0; i < pci::bar_count; ++i) {
      const BarKind kind = function.bar_kind(i);
      if (kind == BarKind::None) continue;
      const bool high = kind == BarKind::Memory64 && function.bar_prefetchable(i);
      Allocator& window = kind == BarKind::Io ? io : high ? memory64 : memory32;
      const std::uint64_t address = window.take(function.bar_bytes(i));
      if (address == 0) continue;  // stays at 0, which is not decoded
      function.write_config(pci::BAR0 + 4 * i, 4, static_cast<std::uint32_t>(address));
      if (kind == BarKind::Memory64)
        function.write_config(pci::BAR0 + 4 * i + 4, 4, static_cast<std::uint32_t>(address >> 32));
      decode |= kind == BarKind::Io ? pci::COMMAND_IO : pci::COMMAND_MEMORY;
    }
    function.write_config(pci::COMMAND, 2, decode);
  });
}

void PciBus::save(machine::SnapshotWriter& out) const {
  out.section("pci-bus");
  out.put(config_address_);
  for_each_function([&](PciFunction& function) { function.save(out); });
}

void PciBus::restore(machine::SnapshotReader& in) {
  in.section("pci-bus");
  config_address_ = in.get<std::uint32_t>() & WRITABLE;
  for_each_function([&](PciFunction& function) { function.restore(in); });
}

void PciBus::reset() {
  config_address_ = 0;
  for_each_function([&](PciFunction& function) { function.reset(); });
}

}  // namespace veneer::devices
