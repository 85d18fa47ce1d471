// MachineConfig: everything a machine is made of, as plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "boot/linux.h"
#include "cpu/cpu_model.h"
#include "cpu/engine.h"
#include "disk/image.h"
#include "disk/io/disk.h"
#include "machine/char_sink.h"
#include "net/mac_address.h"
#include "net/user.h"

namespace veneer::vm {

/// `Pc` is what an unmodified OS expects; `Micro` has no 8259, 8254, RTC or 8042: serial, APICs, PCI and virtio only.
enum class MachineKind : std::uint8_t { Pc, Micro };

/// `Auto` takes the fastest engine that can really run a guest on this host.
enum class EngineKind : std::uint8_t { Auto, Bt, Kvm };

/// The controller that a disk hangs on.
enum class DiskInterface : std::uint8_t { Virtio, Nvme, Ide, Floppy, Ahci };

/// What stands between bus-mastering functions and memory.
enum class IommuKind : std::uint8_t { None, Amd };

struct DiskConfig {
  std::string path;  ///< a file, a block device, an NBD address, or a seed to make (seed_disk.h)
  disk::OpenOptions open;
  DiskInterface interface = DiskInterface::Virtio;
  bool cdrom = false;      ///< a CD-ROM drive with this disc in it; Ide and Ahci only
  bool snapshot = false;   ///< what the guest writes is gone afterwards; the file is only read
  unsigned queues = 0;     ///< 0: one for each virtual CPU, up to 16
  std::string serial;      ///< empty: made from its place
  std::uint64_t iops = 0;  ///< requests a second; 0: no limit
  std::uint64_t bytes_per_second = 0;
  disk::ErrorPolicy write_errors = disk::ErrorPolicy::StopIfNoSpace;
  disk::ErrorPolicy read_errors = disk::ErrorPolicy::Report;
  disk::IoEngine engine = disk::IoEngine::Auto;
};

enum class NetKind : std::uint8_t { User, Tap, Passt };
enum class CardModel : std::uint8_t { Virtio, E1000 };

struct NetConfig {
  NetKind kind = NetKind::User;
  CardModel model = CardModel::Virtio;
  net::UserOptions user;               ///< with User; forwards and ipv6 with Passt, too
  std::string passt_socket;            ///< with Passt: of one that runs; empty: one is started
  std::string interface;               ///< with Tap
  std::optional<net::MacAddress> mac;  ///< none: made from the machine's name
  unsigned queues = 0;                 ///< pairs of a virtio card; 0: one for each virtual CPU, up to 4
  std::string boot_rom;                ///< path of what firmware finds on the card, "none", or empty: the usual one
};

/// A disk of a saved machine: what it was made of, and how its image stood.
struct SavedDisk {
  DiskConfig config;             ///< with an absolute path, where it is one
  std::uint64_t size_bytes = 0;  ///< that the guest sees
  bool stamped = false;          ///< it is a plain file, and what follows holds
  std::int64_t changed_ns = 0;   ///< when the file was last written, since 1970
};

/// What the first processor executes at power-on, when no kernel is booted directly.
struct Firmware {
  enum class Kind : std::uint8_t { None, SeaBios, Ovmf };
  Kind kind = Kind::None;
  std::string path;               ///< the image
  std::string variables_image;    ///< what its second flash chip holds at first, settings; empty: there is none
  std::string variables;          ///< the file that keeps them; empty: they are lost at the end
  bool variables_chosen = false;  ///< the user said where, or that they are lost
  bool present() const { return kind != Kind::None; }
};

/// What firmware tries first.
enum class BootOrder : std::uint8_t { Default, Disk, Cdrom, Network, Floppy };

struct MachineConfig {
  std::string name;
  MachineKind machine = MachineKind::Pc;
  EngineKind engine = EngineKind::Auto;
  cpu::EngineOptions engine_options;
  cpu::CpuChoice cpu;

  unsigned cpus = 1;                       ///< 1 to max_cpus
  std::uint64_t memory_bytes = 512 * MiB;  ///< guest RAM, a multiple of the page size
  bool prealloc = false;                   ///< populate guest RAM before the guest starts
  bool balloon = true;                     ///< a device through which the guest gives memory back

  Firmware firmware;
  BootOrder boot_order = BootOrder::Default;
  bool boot_menu = false;  ///< the firmware offers its devices for choice

  std::string kernel;                     ///< path of a kernel that is booted directly; needed without firmware
  std::string initrd;                     ///< path of an initial RAM disk; empty: none
  std::string cmdline;                    ///< kernel command line
  std::vector<boot::BootModule> modules;  ///< files beside a PVH or multiboot kernel

  std::vector<DiskConfig> disks;  ///< in the order in which the guest finds those of one kind; at most max_disks

  std::vector<NetConfig> nets;  ///< in the order in which the guest finds the cards; at most max_nets

  std::string restore;  ///< path of a saved machine to go on from; the rest has to fit it
  /// The disks are not at the saved places, but copies or moved: their sizes are checked, and not whether they changed.
  bool disks_replaced = false;

  IommuKind iommu = IommuKind::None;

  bool debug_exit = false;  ///< port 0xf4 ends the machine with status (value << 1) | 1
  bool no_reboot = false;   ///< a reset ends the machine (status 0), a triple fault too (status 3)

  bool console = false;  ///< a virtio console (hvc0 in Linux)

  /// Where the serial port's output goes. Must outlive the machine; null: nowhere.
  machine::CharSink* serial = nullptr;
  /// The virtio console's, likewise.
  machine::CharSink* console_output = nullptr;
};

/// xAPIC ids are 8 bits and 0xff is broadcast; MADT entries and MP kernels start to differ above that.
inline constexpr unsigned max_cpus = 255;
inline constexpr unsigned max_ide_drives = 4;
inline constexpr unsigned max_ahci_drives = 6;
inline constexpr unsigned max_floppies = 2;
inline constexpr unsigned max_disks = 16;  // layout::DISK_SLOT_COUNT
inline constexpr unsigned max_nets = 4;    // layout::NET_SLOT_COUNT

}  // namespace veneer::vm
