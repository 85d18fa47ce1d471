// Configuration space as bytes with write masks; BAR decoding and interrupts follow what is written there.
#include "devices/pci/pci_function.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::devices {

using namespace pci;

namespace {

constexpr std::uint16_t MSIX_ENABLE = 1u << 15;
constexpr std::uint16_t MSIX_FUNCTION_MASK = 1u << 14;
constexpr std::uint16_t MSI_ENABLE = 1u << 0;
constexpr std::uint16_t MSI_64_BIT = 1u << 7;
/// Beyond any physical address a processor can produce.
constexpr std::uint64_t physical_limit = std::uint64_t{1} << 52;

constexpr std::size_t rom_bytes_min = 2048;  // bits 31 to 11 of the register are an address
constexpr std::size_t rom_bytes_max = 16 << 20;

constexpr bool overlaps(unsigned offset, unsigned size, unsigned first, unsigned bytes) {
  return offset < first + bytes && first < offset + size;
}

}  // namespace

PciFunction::PciFunction(std::string name, const PciIdentity& identity) : name_(std::move(name)) {
  set_config(VENDOR_ID, 2, identity.vendor);
  set_config(DEVICE_ID, 2, identity.device);
  set_config(REVISION_ID, 1, identity.revision);
  set_config(CLASS_CODE, 1, identity.class_code & 0xff);
  set_config(CLASS_CODE + 1, 2, identity.class_code >> 8);
  set_config(SUBSYSTEM_VENDOR_ID, 2, identity.subsystem_vendor);
  set_config(SUBSYSTEM_ID, 2, identity.subsystem);
  set_config(INTERRUPT_PIN, 1, identity.interrupt_pin);
  make_writable(COMMAND, 2, COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR);
  if (identity.interrupt_pin) {
    make_writable(COMMAND, 2, COMMAND_INTX_DISABLE);
    make_writable(INTERRUPT_LINE, 1, 0xff);
  }
  make_writable(CACHE_LINE_SIZE, 1, 0xff);
  make_writable(LATENCY_TIMER, 1, 0xff);
}

/// Bytes that are only read.
class PciFunction::Rom final : public machine::Device {
 public:
  explicit Rom(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override {
    if (offset > bytes_.size() || size_bytes > bytes_.size() - offset) return byte_mask(size_bytes);
    std::uint64_t value = 0;
    std::memcpy(&value, bytes_.data() + offset, size_bytes);
    return value;
  }
  void write(std::uint64_t, unsigned, std::uint64_t) override {}
  void save(machine::SnapshotWriter&) const override {}
  void restore(machine::SnapshotReader&) override {}
  void reset() override {}

 private:
  std::vector<std::byte> bytes_;
};

PciFunction::~PciFunction() = default;

void PciFunction::add_bar(unsigned index, BarKind kind, std::uint64_t size_bytes, machine::Device& device,
                          bool prefetchable) {
  VENEER_ASSERT(index < bar_count && bars_[index].kind == BarKind::None && std::has_single_bit(size_bytes));
  VENEER_ASSERT(size_bytes >= 16);
  bars_[index] = {kind, prefetchable, size_bytes, &device, std::nullopt};
  const unsigned offset = BAR0 + 4 * index;
  const std::uint64_t address_bits = ~(size_bytes - 1);
  if (kind == BarKind::Io) {
    set_config(offset, 4, BAR_IO);
    // All 32 bits: SeaBIOS takes upper bits that are fixed for a part of the size. Above FFFFh it is not decoded.
    make_writable(offset, 4, static_cast<std::uint32_t>(address_bits & 0xffff'fffc));
    make_writable(COMMAND, 2, COMMAND_IO);
    return;
  }
  set_config(offset, 4, (kind == BarKind::Memory64 ? BAR_MEMORY_64 : 0) | (prefetchable ? BAR_PREFETCHABLE : 0));
  make_writable(offset, 4, static_cast<std::uint32_t>(address_bits & 0xffff'fff0));
  if (kind == BarKind::Memory64) {
    VENEER_ASSERT(index + 1 < bar_count);
    make_writable(offset + 4, 4, static_cast<std::uint32_t>(address_bits >> 32));
  }
  make_writable(COMMAND, 2, COMMAND_MEMORY);
}

void PciFunction::add_rom(std::vector<std::byte> image) {
  VENEER_ASSERT(!rom_ && !image.empty() && image.size() <= rom_bytes_max);
  const std::uint64_t size_bytes = std::bit_ceil(std::max(image.size(), rom_bytes_min));
  image.resize(size_bytes, std::byte{0xff});
  rom_ = std::make_unique<Rom>(std::move(image));
  bars_[rom_index] = {BarKind::Rom, false, size_bytes, rom_.get(), std::nullopt};
  make_writable(EXPANSION_ROM, 4, static_cast<std::uint32_t>(~(size_bytes - 1)) | ROM_ENABLE);
  make_writable(COMMAND, 2, COMMAND_MEMORY);
}

unsigned PciFunction::add_capability(std::uint8_t id, std::span<const std::uint8_t> body,
                                     std::span<const std::uint8_t> writable) {
  const unsigned offset = capabilities_end_;
  const auto size = static_cast<unsigned>(2 + body.size());
  capabilities_end_ = static_cast<unsigned>(align_up(offset + size, 4));
  VENEER_ASSERT(capabilities_end_ <= config_bytes);

  set_config(offset, 1, id);
  for (unsigned i = 0; i < body.size(); ++i) set_config(offset + 2 + i, 1, body[i]);
  for (unsigned i = 0; i < writable.size(); ++i) make_writable(offset + 2 + i, 1, writable[i]);
  set_config(last_capability_ ? last_capability_ + 1 : CAPABILITIES, 1, offset);  // linked in the order of adding
  set_config(STATUS, 2, config(STATUS, 2) | STATUS_CAPABILITIES);
  last_capability_ = offset;
  return offset;
}

void PciFunction::add_msix(unsigned vectors, unsigned bar) {
  msix_ = std::make_unique<MsixTable>(vectors, [this](std::uint64_t address, std::uint32_t data) {
    if (slot_ && bus_master()) slot_->send_msi(address, data);
  });
  add_bar(bar, BarKind::Memory32, MsixTable::bar_bytes, *msix_);
  // Message control, table offset | BIR, PBA offset | BIR (PCI 3.0 6.8.2.3 to 6.8.2.5)
  std::array<std::uint8_t, 10> body{};
  std::array<std::uint8_t, 2> writable{0, (MSIX_ENABLE | MSIX_FUNCTION_MASK) >> 8};
  body[0] = static_cast<std::uint8_t>(vectors - 1);
  body[2] = static_cast<std::uint8_t>(bar);
  body[6] = static_cast<std::uint8_t>(bar);
  body[7] = static_cast<std::uint8_t>(MsixTable::pba_offset >> 8);
  msix_capability_ = add_capability(CAP_MSIX, body, writable);
}

void PciFunction::add_msi() {
  // Message control, address, upper address, data (PCI 3.0 6.8.1)
  const std::array<std::uint8_t, 12> body{MSI_64_BIT};
  const std::array<std::uint8_t, 12> writable{MSI_ENABLE, 0,    0xfc, 0xff, 0xff, 0xff,
                                              0xff,       0xff, 0xff, 0xff, 0xff, 0xff};
  msi_capability_ = add_capability(CAP_MSI, body, writable);
}

void PciFunction::make_writable(unsigned offset, unsigned size_bytes, std::uint32_t mask) {
  for (unsigned i = 0; i < size_bytes; ++i) writable_[offset + i] |= static_cast<std::uint8_t>(mask >> (8 * i));
}

void PciFunction::set_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  for (unsigned i = 0; i < size_bytes; ++i) {
    config_[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
    power_on_[offset + i] = config_[offset + i];
  }
}

std::uint32_t PciFunction::config(unsigned offset, unsigned size_bytes) const {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) value |= std::uint32_t{config_[offset + i]} << (8 * i);
  return value;
}

std::uint32_t PciFunction::read_config(unsigned offset, unsigned size_bytes) {
  if (offset + size_bytes > config_bytes) return static_cast<std::uint32_t>(byte_mask(size_bytes));
  return config(offset, size_bytes);
}

void PciFunction::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  if (offset + size_bytes > config_bytes) return;
  for (unsigned i = 0; i < size_bytes; ++i) {
    std::uint8_t& byte = config_[offset + i];
    const std::uint8_t mask = writable_[offset + i];
    byte = static_cast<std::uint8_t>((byte & ~mask) | (static_cast<std::uint8_t>(value >> (8 * i)) & mask));
  }
  if (overlaps(offset, size_bytes, COMMAND, 2) || overlaps(offset, size_bytes, BAR0, 4 * bar_count) ||
      overlaps(offset, size_bytes, EXPANSION_ROM, 4)) {
    update_mappings();
    update_intx();
  }
  if (msix_ && overlaps(offset, size_bytes, msix_capability_ + 2, 2)) update_msix_control();
  if (msi_capability_ && overlaps(offset, size_bytes, msi_capability_ + 2, 2)) update_intx();
}

std::uint64_t PciFunction::bar_address(unsigned index) const {
  const Bar& bar = bars_[index];
  std::uint64_t address = config(register_of(index), 4);
  if (bar.kind == BarKind::Memory64) address |= std::uint64_t{config(register_of(index) + 4, 4)} << 32;
  return address & ~(bar.size_bytes - 1);
}

std::optional<std::uint64_t> PciFunction::wanted_address(unsigned index) const {
  const Bar& bar = bars_[index];
  if (bar.kind == BarKind::None) return std::nullopt;
  const std::uint16_t decode = bar.kind == BarKind::Io ? COMMAND_IO : COMMAND_MEMORY;
  if (!(config(COMMAND, 2) & decode)) return std::nullopt;
  if (bar.kind == BarKind::Rom && !(config(EXPANSION_ROM, 4) & ROM_ENABLE)) return std::nullopt;
  const std::uint64_t address = bar_address(index);
  const std::uint64_t limit = bar.kind == BarKind::Io ? 0x1'0000 : physical_limit;
  if (address == 0 || address >= limit) return std::nullopt;  // 0: not assigned yet
  return address;
}

void PciFunction::update_mappings() {
  if (!slot_) return;
  for (unsigned i = 0; i < bars_.size(); ++i) {
    Bar& bar = bars_[i];
    if (bar.mapped && bar.mapped != wanted_address(i)) {
      bus_of(bar).unmap(*bar.mapped);
      bar.mapped.reset();
    }
  }
  for (unsigned i = 0; i < bars_.size(); ++i) {
    Bar& bar = bars_[i];
    const auto wanted = wanted_address(i);
    if (!wanted || bar.mapped) continue;
    const auto done = bus_of(bar).map(*wanted, bar.size_bytes, *bar.device,
                                      bar.kind == BarKind::Rom ? name_ + " ROM" : fmt::format("{} BAR {}", name_, i));
    if (done)
      bar.mapped = wanted;
    else
      log_guest(map_failures_, "{} BAR {} is not decoded: {}", name_, i, done.error().message());
  }
}

void PciFunction::unmap_all() {
  for (Bar& bar : bars_) {
    if (bar.mapped) bus_of(bar).unmap(*bar.mapped);
    bar.mapped.reset();
  }
}

void PciFunction::update_msix_control() {
  const std::uint32_t control = config(msix_capability_ + 2, 2);
  msix_->set_control((control & MSIX_ENABLE) != 0, (control & MSIX_FUNCTION_MASK) != 0);
  update_intx();
}

void PciFunction::set_intx(bool level) {
  intx_ = level;
  update_intx();
}

void PciFunction::update_intx() {
  if (!config(INTERRUPT_PIN, 1)) return;
  // Interrupt Status shows the function's request even while Interrupt Disable keeps it from the pin (6.2.3).
  const bool level = intx_ && !msix_enabled() && !msi_enabled();
  auto status = static_cast<std::uint8_t>(config_[STATUS] & ~STATUS_INTERRUPT);
  if (level) status |= STATUS_INTERRUPT;
  config_[STATUS] = status;
  if (slot_) slot_->set_intx(level && !(config(COMMAND, 2) & COMMAND_INTX_DISABLE));
}

bool PciFunction::msi_enabled() const {
  return msi_capability_ != 0 && (config(msi_capability_ + 2, 2) & MSI_ENABLE) != 0;
}

void PciFunction::signal_msi() {
  if (!msi_enabled() || !slot_ || !bus_master()) return;
  const std::uint64_t upper = config(msi_capability_ + 8, 4);
  slot_->send_msi(config(msi_capability_ + 4, 4) | upper << 32, config(msi_capability_ + 12, 2));
}

void PciFunction::signal_msix(unsigned vector) {
  if (msix_) msix_->signal(vector);
}

void PciFunction::save(machine::SnapshotWriter& out) const {
  out.section(name_);
  out.put(config_);
  out.put(static_cast<std::uint8_t>(intx_));
  if (msix_) msix_->save(out);
}

void PciFunction::restore(machine::SnapshotReader& in) {
  in.section(name_);
  const auto saved = in.get<decltype(config_)>();
  intx_ = in.get<std::uint8_t>() != 0;
  if (msix_) msix_->restore(in);
  if (!in.ok()) return;
  for (unsigned i = 0; i < config_bytes; ++i)
    config_[i] = static_cast<std::uint8_t>((power_on_[i] & ~writable_[i]) | (saved[i] & writable_[i]));
  update_mappings();
  update_intx();
}

void PciFunction::reset() {
  if (slot_) unmap_all();
  config_ = power_on_;
  if (msix_) msix_->reset();
  intx_ = false;
  update_intx();
}

}  // namespace veneer::devices
