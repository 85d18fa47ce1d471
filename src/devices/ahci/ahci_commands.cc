// Commands of a port: from the list in memory to the drive, and their ends.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/units.h"
#include "devices/ahci/ahci_port.h"
#include "disk/iov.h"

namespace veneer::devices {

using namespace ahci;
using namespace ata;

namespace {

constexpr std::uint8_t DEVICE_RESET = 0x08, EXECUTE_DIAGNOSTIC = 0x90;
/// A transfer with more pieces than one request takes is split where a sector ends.
constexpr std::size_t split_pieces = 768;
constexpr std::size_t parts_max = 16;  // of 65,536 sectors in pages: 11

TaskFile registers_of(const std::array<std::uint8_t, 20>& fis) {
  return {.features = {fis[3], fis[11]},
          .count = {fis[12], fis[13]},
          .low = {fis[4], fis[8]},
          .mid = {fis[5], fis[9]},
          .high = {fis[6], fis[10]},
          .device = fis[7]};
}

}  // namespace

/// The next one behind the last (5.3.10.1).
std::optional<unsigned> AhciPort::next_slot() const {
  if (!(cmd_ & CMD_ST) || halted_ || !present() || !host_.may_use_memory() || ci_ == 0) return std::nullopt;
  if ((sctl_ & SCTL_DET) != DET_NONE || (status_ & (BSY | DRQ))) return std::nullopt;
  const unsigned first = (slot_ + 1u) % AtaDrive::queue_depth;
  return (first + static_cast<unsigned>(std::countr_zero(std::rotr(ci_, static_cast<int>(first))))) %
         AtaDrive::queue_depth;
}

void AhciPort::run() {
  if (std::exchange(running_, true)) return;
  while (const auto first = next_slot()) {
    for (auto slot = first; slot; slot = next_slot()) issue(*slot);
    drive_.backend().start();
  }
  running_ = false;
}

void AhciPort::issue(unsigned slot) {
  slot_ = static_cast<std::uint8_t>(slot);
  CommandHeader header{};
  std::array<std::uint8_t, 20> fis{};
  if (!memory_.read_value(GuestPhys{clb_ + slot * sizeof header}, header)) return bus_error(IS_HBFS);
  header.table &= ~std::uint64_t{127};
  if (!memory_.read(GuestPhys{header.table}, std::as_writable_bytes(std::span(fis)))) return bus_error(IS_HBFS);
  if (fis[0] == FIS_H2D && !(fis[1] & FIS_COMMAND)) return take_device_control(slot, header, fis[15]);

  Active& active = active_.emplace_back();
  active.slot = slot;
  active.generation = generation_;
  active.header = header;
  active.registers = registers_of(fis);
  status_ = DRDY | BSY;
  error_ = 0;
  const ActiveIt it = std::prev(active_.end());
  if (fis[0] != FIS_H2D) return fail(it, ABRT);
  perform(it, fis[2]);
}

/// A software reset comes as two FISes: SRST set, and cleared (10.4.1).
void AhciPort::take_device_control(unsigned slot, const CommandHeader& header, std::uint8_t control) {
  ci_ &= ~(1u << slot);
  const bool before = std::exchange(software_reset_, (control & SRST) != 0);
  if (!before && software_reset_) {
    if (!active_.empty()) {
      ++generation_;
      drive_.backend().cancel();
      sact_ = 0;
    }
    status_ = (header.flags & HEADER_C) ? DRDY : BSY;
  } else if (before && !software_reset_) {
    drive_.soft_reset();
    show_signature();
  }
}

void AhciPort::perform(ActiveIt active, std::uint8_t command) {
  if (command == EXECUTE_DIAGNOSTIC || (command == DEVICE_RESET && drive_.kind() == AtaDriveKind::Cdrom)) {
    ci_ &= ~(1u << active->slot);
    active_.erase(active);
    show_signature();
    is_ |= IS_DHRS;
    return host_.port_changed();
  }
  AtaAction action = drive_.execute(command, active->registers);
  active->queued = action.queued;
  active->tag = active->registers.count[0] >> 3;
  const bool others_queued = std::any_of(active_.begin(), active, [](const Active& other) { return other.queued; });
  const bool tag_taken = std::any_of(active_.begin(), active, [&](const Active& other) {
    return other.queued && other.tag == active->tag && other.generation == generation_;
  });
  // Both are errors of the driver that end all commands in the queue (ATA8-ACS 4.15.1).
  if (action.queued ? tag_taken : others_queued) return fail(active, ABRT);
  if (action.kind == AtaAction::Kind::Packet) {
    active->packet = true;
    std::array<std::uint8_t, AtaDrive::packet_bytes> packet{};
    if (!memory_.read(GuestPhys{active->header.table + TABLE_PACKET}, std::as_writable_bytes(std::span(packet)))) {
      active_.erase(active);
      return bus_error(IS_HBFS);
    }
    action = drive_.packet(packet);
    action.dma = (active->registers.features[0] & 1) != 0;
  }
  switch (action.kind) {
    case AtaAction::Kind::Done:
      return succeed(active);
    case AtaAction::Kind::Reply:
      active->pio_to_host = !action.dma;
      return reply(active, action.reply);
    case AtaAction::Kind::Read:
    case AtaAction::Kind::Write:
      active->to_memory = action.kind == AtaAction::Kind::Read;
      active->pio_to_host = active->to_memory && !action.dma;
      return transfer(active, action);
    case AtaAction::Kind::Flush:
      return hand_over(active, {.kind = disk::IoKind::Flush});
    case AtaAction::Kind::Trim:
      return trim(active, action.bytes);
    case AtaAction::Kind::Failed:
    case AtaAction::Kind::Packet:
      return fail(active, action.error);
  }
}

// ---- Data ---------------------------------------------------------------------------------------------------------

/// Host memory behind the table of physical regions, up to `bytes`.
AhciPort::Gathered AhciPort::gather(Active& active, std::uint64_t bytes, machine::DmaAccess access) {
  for (std::uint32_t i = 0; i < active.header.prdtl && bytes != 0; ++i) {
    PhysicalRegion region{};
    if (!memory_.read_value(GuestPhys{active.header.table + TABLE_PRDT + i * sizeof region}, region))
      return Gathered::NoMemory;
    const std::uint64_t size = std::min<std::uint64_t>((region.count & PRD_BYTES) + 1, bytes);
    const bool full = !active.data.empty() && active.data.back().pieces().size() >= split_pieces &&
                      active.data.back().bytes() % AtaDrive::sector_bytes == 0;
    if (active.data.empty() || full) active.data.emplace_back();
    if (active.data.size() > parts_max || !active.data.back().add(memory_, GuestPhys{region.address}, size, access))
      return Gathered::NoMemory;
    active.moved_bytes += static_cast<std::uint32_t>(size);
    bytes -= size;
  }
  return bytes == 0 ? Gathered::All : Gathered::TooLittle;
}

/// False, and the command has ended, when there is not enough memory for it (6.1.2, 6.1.3).
bool AhciPort::gathered(ActiveIt active, Gathered how) {
  if (how == Gathered::All) return true;
  active->data.clear();
  active->moved_bytes = 0;
  if (how == Gathered::TooLittle) {
    is_ |= IS_OFS;
    fail(active, drive_.transfer_failure().error);
  } else {
    active_.erase(active);
    bus_error(IS_HBDS);
  }
  return false;
}

/// Data that is not on the disk: as much as the guest has room for.
void AhciPort::reply(ActiveIt active, std::span<const std::uint8_t> data) {
  const Gathered how = gather(*active, data.size(), machine::DmaAccess::Write);
  if (how == Gathered::NoMemory) return static_cast<void>(gathered(active, how));
  auto bytes = std::as_bytes(data);
  for (const machine::DmaBuffers& part : active->data) {
    disk::iov_copy_in(part.pieces(), bytes.data());
    bytes = bytes.subspan(static_cast<std::size_t>(part.bytes()));
    part.announce(memory_);
  }
  succeed(active);
}

void AhciPort::transfer(ActiveIt active, const AtaAction& action) {
  const auto access = active->to_memory ? machine::DmaAccess::Write : machine::DmaAccess::Read;
  if (!gathered(active, gather(*active, action.bytes, access))) return;
  if (active->queued) {  // the drive has taken it, and is free for others (SATA 3.1 13.6.4)
    ci_ &= ~(1u << active->slot);
    status_ = DRDY | DSC;
    post_d2h(active->registers, false);
  }
  std::uint64_t offset = action.offset;
  active->parts = static_cast<unsigned>(active->data.size()) + 1;  // held until all are handed over: some end at once
  for (const machine::DmaBuffers& part : active->data) {
    hand_over(active, {.kind = active->to_memory ? disk::IoKind::Read : disk::IoKind::Write,
                       .offset = offset,
                       .bytes = part.bytes(),
                       .buffers = part.pieces(),
                       .force_unit_access = action.force_media});
    offset += part.bytes();
  }
  part_done(active, disk::IoStatus::Ok);
}

/// All ranges are looked at before the first one is given back.
void AhciPort::trim(ActiveIt active, std::uint64_t bytes) {
  std::array<std::uint64_t, AtaDrive::trim_blocks_max * AtaDrive::sector_bytes / 8> entries{};
  if (!gathered(active, gather(*active, bytes, machine::DmaAccess::Read))) return;
  auto* at = reinterpret_cast<std::byte*>(entries.data());
  for (const machine::DmaBuffers& part : active->data) {
    disk::iov_copy_out(part.pieces(), at);
    at += part.bytes();
  }
  active->data.clear();
  const std::span given(entries.data(), static_cast<std::size_t>(bytes / 8));
  std::uint64_t offset = 0, range_bytes = 0;
  for (const std::uint64_t entry : given)
    if (!drive_.trim_range(entry, offset, range_bytes)) return fail(active, IDNF);
  active->parts = 1;  // held until all are handed over
  for (const std::uint64_t entry : given) {
    static_cast<void>(drive_.trim_range(entry, offset, range_bytes));
    if (range_bytes == 0) continue;
    ++active->parts;
    hand_over(active, {.kind = disk::IoKind::Discard, .offset = offset, .bytes = range_bytes});
  }
  part_done(active, disk::IoStatus::Ok);
}

void AhciPort::hand_over(ActiveIt active, disk::IoRequest request) {
  request.done = [this, active](disk::IoStatus status) { part_done(active, status); };
  drive_.backend().submit(std::move(request));
}

// ---- Ends ---------------------------------------------------------------------------------------------------------

void AhciPort::part_done(ActiveIt active, disk::IoStatus status) {
  if (status != disk::IoStatus::Ok && active->status == disk::IoStatus::Ok) active->status = status;
  if (--active->parts > 0) return;
  if (active->to_memory)
    for (const machine::DmaBuffers& part : active->data) part.announce(memory_);
  const bool forgotten = active->generation != generation_ || active->status == disk::IoStatus::Cancelled;
  if (forgotten || halted_) {  // an error ends all commands of the queue
    active_.erase(active);
    return;
  }
  if (active->status == disk::IoStatus::Ok)
    succeed(active);
  else
    fail(active, drive_.failure(active->status).error);
  run();
}

void AhciPort::succeed(ActiveIt active) {
  const std::uint32_t bit = 1u << active->slot;
  status_ = static_cast<std::uint8_t>((active->queued ? status_ & BSY : 0) | DRDY | DSC);
  error_ = 0;
  if (active->queued) {
    sact_ &= ~(1u << active->tag);
    post_set_device_bits(1u << active->tag);
  } else {
    // How much was moved, in the command's header (4.2.2).
    if (!memory_.write_value(GuestPhys{clb_ + active->slot * sizeof(CommandHeader) + PRDBC_OFFSET},
                             active->moved_bytes))
      bus_error(IS_HBFS);
    if (active->packet) active->registers.count[0] = COMMAND_PHASE | IO_TO_HOST;
    if (active->pio_to_host) post_pio_setup(*active);
    if (!active->pio_to_host || active->packet) post_d2h(active->registers, true);
    ci_ &= ~bit;
  }
  active_.erase(active);
  host_.port_changed();
}

/// A task file error: nothing more is issued until the driver has cleared ST (6.2.2.1).
void AhciPort::fail(ActiveIt active, std::uint8_t error) {
  status_ = DRDY | DSC | ERR;
  error_ = error;
  halted_ = true;
  if (active->queued) {
    ci_ &= ~(1u << active->slot);
    drive_.note_queued_error(active->tag, error, active->registers);
    post_set_device_bits(0);
  } else {
    if (active->packet) active->registers.count[0] = COMMAND_PHASE | IO_TO_HOST;
    post_d2h(active->registers, true);
  }
  is_ |= IS_TFES;
  active_.erase(active);
  host_.port_changed();
}

}  // namespace veneer::devices
