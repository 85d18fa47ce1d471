// Bench: a whole mainboard with every device there is, without processors, and the guest's view of it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/manual_timers.h"
#include "choices.h"
#include "cpu/cpuid.h"
#include "devices/display/vga.h"
#include "machine/char_sink.h"
#include "machine/guest_memory.h"
#include "machine/power.h"
#include "vm/config.h"
#include "vm/mainboard.h"
#include "vm/tsc.h"

namespace veneer::devices_fuzz {

/// Ends the process with this sentence: a promise was broken.
[[noreturn]] void broken(const std::string& what);

/// The files behind the drives, made once for each process and only read.
class DriveFiles {
 public:
  DriveFiles();
  ~DriveFiles();
  DriveFiles(const DriveFiles&) = delete;
  DriveFiles& operator=(const DriveFiles&) = delete;
  std::string path(const char* name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

/// A range of registers that a BAR was given.
struct Region {
  unsigned slot = 0, function = 0, bar = 0;
  std::uint32_t id = 0;  ///< device, vendor
  bool ports = false;
  std::uint64_t base = 0, size_bytes = 0;
};

class Bench {
 public:
  /// Where drivers put their tables, and their data.
  static constexpr std::uint64_t tables = 0x10'0000, tables_bytes = 0x8'0000;
  static constexpr std::uint64_t data = 0x20'0000, data_bytes = 0x10'0000;
  static constexpr std::uint64_t ram_end = 0x80'0000, high_ram = 0x1'0000'0000, high_ram_bytes = 0x10'0000;

  Bench(const DriveFiles& files, bool firmware, bool iommu);
  ~Bench();

  // What a guest can do. Every call is one access.
  std::uint32_t in(std::uint64_t port, unsigned size_bytes);
  void out(std::uint64_t port, unsigned size_bytes, std::uint64_t value);
  std::uint64_t load(std::uint64_t address, unsigned size_bytes);
  void store(std::uint64_t address, unsigned size_bytes, std::uint64_t value);
  std::uint32_t read_config(unsigned slot, unsigned function, unsigned offset, unsigned size_bytes = 4);
  void write_config(unsigned slot, unsigned function, unsigned offset, unsigned size_bytes, std::uint64_t value);
  /// RAM, without any device. Addresses that are not RAM are left alone.
  template <typename T>
  void poke(std::uint64_t address, const T& value) {
    (void)memory.write_value(GuestPhys{address}, value);
  }

  /// An address for a device to use: mostly of data, else of tables and at the edges of everything.
  std::uint64_t address(Choices& choices);
  /// A page for a table.
  std::uint64_t place(Choices& choices) { return tables + choices.below(tables_bytes / 0x1000) * 0x1000; }
  /// A page for data.
  std::uint64_t page(Choices& choices) { return data + choices.below(data_bytes / 0x1000) * 0x1000; }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    (void)memory.read_value(GuestPhys{address}, value);
    return value;
  }

  /// Finds all BARs and gives them addresses, as firmware would.
  void assign_bars();
  /// The register ranges as they were assigned last.
  const std::vector<Region>& regions() const { return regions_; }
  /// The first region of a function with this id and kind, or null.
  const Region* region(std::uint32_t id, unsigned bar, unsigned nth = 0) const;

  /// Lets what the disks do come to its end.
  void settle();
  void reset();
  std::vector<std::byte> save();
  /// False when the board did not like it.
  bool restore(std::span<const std::byte> state);

  /// Behind the virtio console.
  struct Terminal final : machine::CharSink {
    void write(std::span<const std::uint8_t> text) override { bytes += text.size(); }
    std::uint64_t bytes = 0;
  } terminal;
  machine::BoardLock lock;
  ManualTimers timers;
  machine::GuestMemory memory;
  std::unique_ptr<vm::Mainboard> board;
  /// A display of its own, as the board's pictures are not for guests to ask for.
  devices::Vga screen;
  bool has_firmware;
  bool has_iommu;
  /// The devices are not in the state that the drivers left them in.
  bool was_reset = false;
  /// What the cards sent and took.
  std::uint64_t frames_sent = 0, frames_received = 0;

 private:
  struct Power final : machine::PowerControl {
    void power_off() override {}
    void reset() override {}
    void guest_exit(int) override {}
  };

  void add_memory(bool firmware);

  Power power_;
  vm::GuestTsc tsc_;
  EventLoop events_{lock};
  vm::MachineConfig config_;
  std::unique_ptr<cpu::CpuidPolicy> cpuid_;
  std::vector<Region> regions_;
};

}  // namespace veneer::devices_fuzz
