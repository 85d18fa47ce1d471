// fw_cfg: the port through which firmware asks the machine what it is made of.
//
// State: selected item, offset in it, DMA address. Items are configuration: they are the same after a restore.
// Missing: writing to items. Differs from the spec: a DMA transfer is done when the register write returns.
// Spec: QEMU's docs/specs/fw_cfg.txt ("QEMU Firmware Configuration (fw_cfg) Device").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "machine/device.h"
#include "machine/guest_memory.h"

namespace veneer::devices {

/// Twelve ports: selector (2 bytes, little endian) at 0, data (1 byte) at 1, DMA address (8 bytes, big endian) at 4.
class FwCfg final : public machine::Device {
 public:
  using Bytes = std::vector<std::byte>;
  /// Numbered items; files get the numbers from FIRST_FILE on.
  enum Item : std::uint16_t {
    SIGNATURE = 0x00,
    INTERFACE_VERSION = 0x01,
    RAM_SIZE = 0x03,
    CPU_COUNT = 0x05,
    KERNEL_SIZE = 0x08,
    INITRD_SIZE = 0x0b,
    BOOT_MENU = 0x0e,
    MAX_CPUS = 0x0f,
    KERNEL_DATA = 0x11,
    INITRD_DATA = 0x12,
    CMDLINE_SIZE = 0x14,
    CMDLINE_DATA = 0x15,
    SETUP_SIZE = 0x17,
    SETUP_DATA = 0x18,
    FILE_DIRECTORY = 0x19,
    FIRST_FILE = 0x20,
  };

  explicit FwCfg(machine::GuestMemory& memory);

  /// While the machine is put together.
  void add(Item item, Bytes data) { items_[item] = std::move(data); }
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void add_value(Item item, const T& value) { add(item, bytes_of(value)); }
  /// A file; an existing one of this name is replaced. Names have at most 55 characters.
  void add_file(const std::string& name, Bytes data);
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void add_file_value(const std::string& name, const T& value) { add_file(name, bytes_of(value)); }
  /// Called when the guest selects a file; may replace the contents of files by others of the same size.
  void set_refresh(std::function<void(const std::string& name)> refresh) { refresh_ = std::move(refresh); }

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  template <typename T>
  static Bytes bytes_of(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return {bytes.begin(), bytes.end()};
  }
  void select(std::uint16_t item);
  std::uint8_t next_byte();
  void make_directory();
  void run_dma();
  bool copy_to_guest(GuestPhys address, std::uint32_t size_bytes);

  machine::GuestMemory& memory_;
  std::map<std::uint16_t, Bytes> items_;
  std::vector<std::string> files_;  // in the order of their numbers
  std::function<void(const std::string&)> refresh_;
  std::uint16_t selected_ = 0;
  std::uint32_t position_ = 0;
  std::uint64_t dma_address_ = 0;
};

}  // namespace veneer::devices
