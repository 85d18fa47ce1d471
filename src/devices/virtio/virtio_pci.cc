// Registers, capabilities and interrupts of a virtio function.
#include "devices/virtio/virtio_pci.h"

#include <array>
#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::devices {
namespace {

// BAR 0
constexpr std::uint32_t COMMON_BASE = 0x0000, COMMON_BYTES = 56;
constexpr std::uint32_t ISR_BASE = 0x1000, ISR_BYTES = 1;
constexpr std::uint32_t DEVICE_BASE = 0x2000, DEVICE_BYTES = 0x1000;
constexpr std::uint32_t NOTIFY_BASE = 0x3000;
constexpr std::uint32_t notify_multiplier = 4;
constexpr std::uint64_t registers_bytes = 0x4000;

// Capability types (Virtio 1.2 4.1.4)
constexpr std::uint8_t CAP_COMMON_CFG = 1;
constexpr std::uint8_t CAP_NOTIFY_CFG = 2;
constexpr std::uint8_t CAP_ISR_CFG = 3;
constexpr std::uint8_t CAP_DEVICE_CFG = 4;
constexpr std::uint8_t CAP_PCI_CFG = 5;

// Within VIRTIO_PCI_CAP_PCI_CFG (4.1.4.9), from the capability's start
constexpr unsigned WINDOW_BAR = 4, WINDOW_OFFSET = 8, WINDOW_LENGTH = 12, WINDOW_DATA = 16;

/// Common configuration (4.1.4.3).
enum Common : unsigned {
  DEVICE_FEATURE_SELECT = 0,
  DEVICE_FEATURE = 4,
  DRIVER_FEATURE_SELECT = 8,
  DRIVER_FEATURE = 12,
  CONFIG_MSIX_VECTOR = 16,
  NUM_QUEUES = 18,
  DEVICE_STATUS = 20,
  CONFIG_GENERATION = 21,
  QUEUE_SELECT = 22,
  QUEUE_SIZE = 24,
  QUEUE_MSIX_VECTOR = 26,
  QUEUE_ENABLE = 28,
  QUEUE_NOTIFY_OFF = 30,
  QUEUE_DESC = 32,
  QUEUE_DRIVER = 40,
  QUEUE_DEVICE = 48,
};
struct Field {
  unsigned offset, bytes;
};
constexpr std::array<Field, 16> common_fields = {{{DEVICE_FEATURE_SELECT, 4},
                                                  {DEVICE_FEATURE, 4},
                                                  {DRIVER_FEATURE_SELECT, 4},
                                                  {DRIVER_FEATURE, 4},
                                                  {CONFIG_MSIX_VECTOR, 2},
                                                  {NUM_QUEUES, 2},
                                                  {DEVICE_STATUS, 1},
                                                  {CONFIG_GENERATION, 1},
                                                  {QUEUE_SELECT, 2},
                                                  {QUEUE_SIZE, 2},
                                                  {QUEUE_MSIX_VECTOR, 2},
                                                  {QUEUE_ENABLE, 2},
                                                  {QUEUE_NOTIFY_OFF, 2},
                                                  {QUEUE_DESC, 8},
                                                  {QUEUE_DRIVER, 8},
                                                  {QUEUE_DEVICE, 8}}};

// Device status (2.1)
constexpr std::uint8_t STATUS_DRIVER_OK = 4;
constexpr std::uint8_t STATUS_FEATURES_OK = 8;
constexpr std::uint8_t STATUS_NEEDS_RESET = 64;

constexpr std::uint8_t ISR_QUEUE = 1;
constexpr std::uint8_t ISR_CONFIG = 2;
constexpr std::uint16_t NO_VECTOR = 0xffff;

constexpr std::uint16_t VIRTIO_VENDOR = 0x1af4;
constexpr std::uint16_t MODERN_DEVICE_BASE = 0x1040;  // 4.1.2: plus the device type

PciIdentity identity(const VirtioDevice& device) {
  return {VIRTIO_VENDOR, static_cast<std::uint16_t>(MODERN_DEVICE_BASE + device.type()), 1, device.pci_class(),
          VIRTIO_VENDOR, static_cast<std::uint16_t>(MODERN_DEVICE_BASE + device.type()), 1};
}

/// Replaces the low or high half, or all, of a 64-bit field.
void put_half(std::uint64_t& field, unsigned at, unsigned size_bytes, std::uint64_t value) {
  const std::uint64_t mask = byte_mask(size_bytes) << (8 * at);
  field = (field & ~mask) | ((value << (8 * at)) & mask);
}

}  // namespace

VirtioPci::VirtioPci(std::string name, VirtioDevice& device, const machine::DmaSpace& memory)
    : PciFunction(std::move(name), identity(device)), device_(device), translated_(memory.translated()) {
  for (unsigned i = 0; i < device.queue_count(); ++i) queues_.emplace_back(memory, device.queue_size_max(i));
  queue_vectors_.assign(queues_.size(), NO_VECTOR);
  add_bar(0, BarKind::Memory32, registers_bytes, registers_);
  add_msix(static_cast<unsigned>(queues_.size()) + 1, 1);  // one per queue and one for configuration changes
  add_capabilities();
  device.plug_into(*this);
}

void VirtioPci::add_capabilities() {
  // Behind id and next pointer: length, type, BAR, id, two bytes of padding, offset, length (4.1.4).
  const auto capability = [](std::uint8_t type, std::uint32_t offset, std::uint32_t length, unsigned extra) {
    std::vector<std::uint8_t> body(14 + extra);
    body[0] = static_cast<std::uint8_t>(body.size() + 2);
    body[1] = type;
    for (unsigned i = 0; i < 4; ++i) {
      body[6 + i] = static_cast<std::uint8_t>(offset >> (8 * i));
      body[10 + i] = static_cast<std::uint8_t>(length >> (8 * i));
    }
    return body;
  };
  add_capability(pci::CAP_VENDOR, capability(CAP_COMMON_CFG, COMMON_BASE, COMMON_BYTES, 0));
  add_capability(pci::CAP_VENDOR, capability(CAP_ISR_CFG, ISR_BASE, ISR_BYTES, 0));
  add_capability(pci::CAP_VENDOR, capability(CAP_DEVICE_CFG, DEVICE_BASE, DEVICE_BYTES, 0));
  auto notify_body =
      capability(CAP_NOTIFY_CFG, NOTIFY_BASE, notify_multiplier * static_cast<std::uint32_t>(queues_.size()), 4);
  notify_body[14] = notify_multiplier;
  add_capability(pci::CAP_VENDOR, notify_body);

  std::vector<std::uint8_t> writable(18, 0xff);  // BAR, offset, length and data are the driver's
  for (const unsigned fixed : {0u, 1u, 3u, 4u, 5u}) writable[fixed] = 0;
  window_capability_ = add_capability(pci::CAP_VENDOR, capability(CAP_PCI_CFG, 0, 0, 4), writable);
}

// ---- The window in configuration space ------------------------------------------------------------------------------

std::uint32_t VirtioPci::read_config(unsigned offset, unsigned size_bytes) {
  if (offset >= window_capability_ + WINDOW_DATA && offset < window_capability_ + WINDOW_DATA + 4) {
    const std::uint32_t length = config(window_capability_ + WINDOW_LENGTH, 4);
    const std::uint32_t target = config(window_capability_ + WINDOW_OFFSET, 4);
    if (config(window_capability_ + WINDOW_BAR, 1) == 0 && length == size_bytes && target < registers_bytes &&
        target % length == 0)
      return static_cast<std::uint32_t>(registers_.read(target, length));
    return 0;
  }
  return PciFunction::read_config(offset, size_bytes);
}

void VirtioPci::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  PciFunction::write_config(offset, size_bytes, value);
  if (offset != window_capability_ + WINDOW_DATA) return;
  const std::uint32_t length = config(window_capability_ + WINDOW_LENGTH, 4);
  const std::uint32_t target = config(window_capability_ + WINDOW_OFFSET, 4);
  if (config(window_capability_ + WINDOW_BAR, 1) == 0 && length == size_bytes && target < registers_bytes &&
      target % length == 0)
    registers_.write(target, length, value);
}

// ---- BAR 0 ----------------------------------------------------------------------------------------------------------

std::uint64_t VirtioPci::read_registers(std::uint64_t offset, unsigned size_bytes) {
  if (offset < COMMON_BASE + COMMON_BYTES) {
    for (const Field& field : common_fields)
      if (offset >= field.offset && offset + size_bytes <= field.offset + field.bytes)
        return (read_common(field.offset) >> (8 * (offset - field.offset))) & byte_mask(size_bytes);
    return 0;
  }
  if (offset == ISR_BASE) return take_isr();
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i)
    if (offset + i >= DEVICE_BASE && offset + i < DEVICE_BASE + DEVICE_BYTES)
      value |= std::uint64_t{device_.read_config(static_cast<unsigned>(offset + i - DEVICE_BASE))} << (8 * i);
  return value;
}

void VirtioPci::write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset < COMMON_BASE + COMMON_BYTES) return write_common(static_cast<unsigned>(offset), size_bytes, value);
  if (offset >= NOTIFY_BASE) return notify((offset - NOTIFY_BASE) / notify_multiplier);
  for (unsigned i = 0; i < size_bytes; ++i)
    if (offset + i >= DEVICE_BASE && offset + i < DEVICE_BASE + DEVICE_BYTES)
      device_.write_config(static_cast<unsigned>(offset + i - DEVICE_BASE),
                           static_cast<std::uint8_t>(value >> (8 * i)));
}

std::uint64_t VirtioPci::offered_features() const {
  const std::uint64_t features =
      device_.features() | bit(VIRTIO_F_INDIRECT_DESC) | bit(VIRTIO_F_EVENT_IDX) | bit(VIRTIO_F_VERSION_1);
  return translated_ ? features | bit(VIRTIO_F_ACCESS_PLATFORM) : features;
}

std::uint64_t VirtioPci::read_common(unsigned offset) const {
  switch (offset) {
    case DEVICE_FEATURE_SELECT:
      return device_feature_select_;
    case DEVICE_FEATURE:
      return device_feature_select_ < 2 ? (offered_features() >> (32 * device_feature_select_)) & 0xffff'ffff : 0;
    case DRIVER_FEATURE_SELECT:
      return driver_feature_select_;
    case DRIVER_FEATURE:
      return driver_feature_select_ < 2 ? (driver_features_ >> (32 * driver_feature_select_)) & 0xffff'ffff : 0;
    case CONFIG_MSIX_VECTOR:
      return config_vector_;
    case NUM_QUEUES:
      return queues_.size();
    case DEVICE_STATUS:
      return status_;
    case CONFIG_GENERATION:
      return config_generation_;
    case QUEUE_SELECT:
      return queue_select_;
    default:
      break;
  }
  if (queue_select_ >= queues_.size()) return 0;  // 4.1.4.3.1: size 0 says that there is no such queue
  const VirtQueue::Setup& setup = queues_[queue_select_].setup();
  switch (offset) {
    case QUEUE_SIZE:
      return setup.size;
    case QUEUE_MSIX_VECTOR:
      return queue_vectors_[queue_select_];
    case QUEUE_ENABLE:
      return setup.enabled;
    case QUEUE_NOTIFY_OFF:
      return queue_select_;
    case QUEUE_DESC:
      return setup.descriptors.value;
    case QUEUE_DRIVER:
      return setup.driver_area.value;
    case QUEUE_DEVICE:
      return setup.device_area.value;
    default:
      return 0;
  }
}

void VirtioPci::write_common(unsigned offset, unsigned size_bytes, std::uint64_t value) {
  if (offset >= QUEUE_SIZE) return write_queue(offset, size_bytes, value);
  switch (offset) {
    case DEVICE_FEATURE_SELECT:
      device_feature_select_ = static_cast<std::uint32_t>(value);
      break;
    case DRIVER_FEATURE_SELECT:
      driver_feature_select_ = static_cast<std::uint32_t>(value);
      break;
    case DRIVER_FEATURE:
      // Agreed features stand once FEATURES_OK is set (3.1.1).
      if (driver_feature_select_ < 2 && !(status_ & STATUS_FEATURES_OK))
        put_half(driver_features_, 4 * driver_feature_select_, 4, value & 0xffff'ffff);
      break;
    case CONFIG_MSIX_VECTOR:
      config_vector_ = valid_vector(value);
      break;
    case DEVICE_STATUS:
      write_status(static_cast<std::uint8_t>(value));
      break;
    case QUEUE_SELECT:
      queue_select_ = static_cast<std::uint16_t>(value);
      break;
    default:
      break;
  }
}

void VirtioPci::write_queue(unsigned offset, unsigned size_bytes, std::uint64_t value) {
  if (queue_select_ >= queues_.size()) return;
  VirtQueue& queue = queues_[queue_select_];
  VirtQueue::Setup& setup = queue.setup();
  if (offset == QUEUE_MSIX_VECTOR) {
    queue_vectors_[queue_select_] = valid_vector(value);
    return;
  }
  if (setup.enabled) return;  // 4.1.4.3.2: the driver does not change an enabled queue
  if (offset == QUEUE_SIZE) {
    if (value <= queue.size_max() && std::has_single_bit(value)) setup.size = static_cast<std::uint16_t>(value);
  } else if (offset == QUEUE_ENABLE) {
    setup.enabled = value == 1;
  } else if (offset >= QUEUE_DESC && offset % 4 == 0 && size_bytes >= 4 && (offset % 8) + size_bytes <= 8) {
    std::array<GuestPhys*, 3> areas = {&setup.descriptors, &setup.driver_area, &setup.device_area};
    put_half(areas[(offset - QUEUE_DESC) / 8]->value, offset % 8, size_bytes, value);
  }
}

/// Reading the field back as NO_VECTOR tells the driver that there is no such vector (4.1.5.1.2.1).
std::uint16_t VirtioPci::valid_vector(std::uint64_t value) const {
  return value <= queues_.size() ? static_cast<std::uint16_t>(value) : NO_VECTOR;
}

bool VirtioPci::features_acceptable() const {
  return (driver_features_ & ~offered_features()) == 0 && (driver_features_ & bit(VIRTIO_F_VERSION_1));
}

void VirtioPci::write_status(std::uint8_t value) {
  if (value == 0) return reset_device();
  std::uint8_t added = static_cast<std::uint8_t>(value & ~status_ & ~STATUS_NEEDS_RESET);
  if ((added & STATUS_FEATURES_OK) && !features_acceptable()) added &= static_cast<std::uint8_t>(~STATUS_FEATURES_OK);
  status_ |= added;  // a driver never takes bits away but by a reset (2.1.1)
  if (added & STATUS_DRIVER_OK) {
    for (VirtQueue& queue : queues_) queue.set_event_index((driver_features_ & bit(VIRTIO_F_EVENT_IDX)) != 0);
    device_.start(driver_features_);
  }
}

void VirtioPci::notify(std::uint64_t index) {
  if (index >= queues_.size() || !(status_ & STATUS_DRIVER_OK) || (status_ & STATUS_NEEDS_RESET)) return;
  VirtQueue& queue = queues_[static_cast<std::size_t>(index)];
  if (!queue.setup().enabled || !bus_master()) return;
  device_.notify(static_cast<unsigned>(index), queue);
  queue_used(static_cast<unsigned>(index));
}

void VirtioPci::queue_used(unsigned index) {
  VirtQueue& queue = queues_[index];
  if (queue.interrupt_wanted()) interrupt(queue_vectors_[index], ISR_QUEUE);
  check_broken(queue);
}

void VirtioPci::check_broken(const VirtQueue& queue) {
  if (!queue.broken() || (status_ & STATUS_NEEDS_RESET)) return;
  status_ |= STATUS_NEEDS_RESET;
  if (status_ & STATUS_DRIVER_OK) interrupt(config_vector_, ISR_CONFIG);  // 2.1.2
}

void VirtioPci::config_changed() {
  ++config_generation_;
  if (status_ & STATUS_DRIVER_OK) interrupt(config_vector_, ISR_CONFIG);
}

void VirtioPci::interrupt(std::uint16_t vector, std::uint8_t isr_bit) {
  if (msix_enabled()) {
    if (vector != NO_VECTOR) signal_msix(vector);
    return;
  }
  isr_ |= isr_bit;
  set_intx(true);
}

/// Reading the ISR takes it and lowers INTA (4.1.4.5).
std::uint8_t VirtioPci::take_isr() {
  set_intx(false);
  return std::exchange(isr_, std::uint8_t{0});
}

void VirtioPci::reset_device() {
  device_.reset();
  for (VirtQueue& queue : queues_) queue.reset();
  queue_vectors_.assign(queues_.size(), NO_VECTOR);
  driver_features_ = 0;
  device_feature_select_ = driver_feature_select_ = 0;
  config_vector_ = NO_VECTOR;
  queue_select_ = 0;
  status_ = 0;
  take_isr();
}

void VirtioPci::reset() {
  reset_device();
  config_generation_ = 0;
  PciFunction::reset();
}

void VirtioPci::save(machine::SnapshotWriter& out) const {
  device_.settle();
  PciFunction::save(out);
  out.put(driver_features_);
  out.put(device_feature_select_);
  out.put(driver_feature_select_);
  out.put(config_vector_);
  out.put(queue_select_);
  out.put(status_);
  out.put(config_generation_);
  out.put(isr_);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].save(out);
    out.put(queue_vectors_[i]);
  }
  device_.save(out);
}

void VirtioPci::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  in.get(driver_features_);
  in.get(device_feature_select_);
  in.get(driver_feature_select_);
  config_vector_ = valid_vector(in.get<std::uint16_t>());
  in.get(queue_select_);
  in.get(status_);
  in.get(config_generation_);
  in.get(isr_);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].restore(in);
    queue_vectors_[i] = valid_vector(in.get<std::uint16_t>());
  }
  device_.restore(in);
}

}  // namespace veneer::devices
