// One port of an AHCI host bus adapter, and the drive on it.
//
// State: registers, commands in hand, the drive.
// Missing: port multipliers (the field is ignored), power management of the link, staggered spin-up, PRD interrupts
// (PxIS.DPS never rises), FIS-based switching. Differs from the spec: a PIO transfer shows one PIO Setup FIS however
// many blocks it has; the link has its speed whatever PxSCTL.SPD allows.
// Spec: Serial ATA AHCI 1.3.1.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "devices/ahci/ahci_defs.h"
#include "devices/ata/ata_drive.h"
#include "machine/dma.h"
#include "machine/dma_space.h"

namespace veneer::devices {

/// What the adapter is to its ports.
class AhciHost {
 public:
  virtual ~AhciHost() = default;
  virtual bool may_use_memory() const = 0;
  /// Interrupts of a port came or went.
  virtual void port_changed() = 0;
};

/// All calls with the board lock held.
class AhciPort {
 public:
  AhciPort(const machine::DmaSpace& memory, AhciHost& host) : memory_(memory), host_(host) {}
  AhciPort(const AhciPort&) = delete;
  AhciPort& operator=(const AhciPort&) = delete;

  void attach(AtaDriveKind kind, disk::Backend& backend) { drive_.attach(kind, backend); }
  bool present() const { return drive_.present(); }

  std::uint32_t read(std::uint32_t offset) const;
  void write(std::uint32_t offset, std::uint32_t value);
  bool interrupts() const { return (pending() & ie_) != 0; }
  /// Takes the commands that wait.
  void run();
  /// Of the adapter, which resets drives, too.
  void reset();
  void save(machine::SnapshotWriter& out) const;
  void restore(machine::SnapshotReader& in);

 private:
  /// A command between its issue and its end.
  struct Active {
    unsigned slot = 0;
    std::uint32_t generation = 0;
    ahci::CommandHeader header{};
    TaskFile registers{};
    bool queued = false, packet = false;
    bool pio_to_host = false, to_memory = false;
    unsigned tag = 0;
    std::list<machine::DmaBuffers> data{};
    std::uint32_t moved_bytes = 0;
    unsigned parts = 1;  // requests that are not done
    disk::IoStatus status = disk::IoStatus::Ok;
  };
  using ActiveIt = std::list<Active>::iterator;

  // ahci_port.cc: registers
  std::uint32_t pending() const;
  void write_command(std::uint32_t value);
  void write_control(std::uint32_t value);
  void connect();
  void show_signature();
  void abandon();
  void post_d2h(const TaskFile& registers, bool interrupt);
  void post_pio_setup(const Active& active);
  void post_set_device_bits(std::uint32_t done);
  bool post(std::uint64_t offset, std::span<const std::uint8_t> fis);
  void bus_error(std::uint32_t cause);

  // ahci_commands.cc
  std::optional<unsigned> next_slot() const;
  void issue(unsigned slot);
  void take_device_control(unsigned slot, const ahci::CommandHeader& header, std::uint8_t control);
  void perform(ActiveIt active, std::uint8_t command);
  void reply(ActiveIt active, std::span<const std::uint8_t> data);
  void transfer(ActiveIt active, const AtaAction& action);
  void trim(ActiveIt active, std::uint64_t bytes);
  enum class Gathered { All, TooLittle, NoMemory };
  Gathered gather(Active& active, std::uint64_t bytes, machine::DmaAccess access);
  bool gathered(ActiveIt active, Gathered how);
  void hand_over(ActiveIt active, disk::IoRequest request);
  void part_done(ActiveIt active, disk::IoStatus status);
  void succeed(ActiveIt active);
  void fail(ActiveIt active, std::uint8_t error);

  machine::DmaSpace memory_;
  AhciHost& host_;
  AtaDrive drive_{AtaLink::Serial};

  std::uint64_t clb_ = 0, fb_ = 0;
  std::uint32_t is_ = 0, ie_ = 0, cmd_ = 0, sig_ = ahci::SIG_NONE, sctl_ = 0, serr_ = 0, sact_ = 0, ci_ = 0;
  std::uint8_t status_ = 0x7f, error_ = 0;
  std::uint8_t slot_ = 0;         // PxCMD.CCS
  bool halted_ = false;           // by an error, until ST goes
  bool software_reset_ = false;   // SRST is set
  bool signature_waits_ = false;  // for a place in memory
  bool running_ = false;          // inside run()
  std::uint32_t generation_ = 0;  // commands of older ones count for nothing
  std::list<Active> active_;
};

}  // namespace veneer::devices
