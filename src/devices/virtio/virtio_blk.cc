// Requests of the virtio block device: checked here, carried out by the disk behind.
#include "devices/virtio/virtio_blk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::devices {
namespace {

// Feature bits (Virtio 1.2 5.2.3)
constexpr unsigned BLK_F_SEG_MAX = 2;
constexpr unsigned BLK_F_RO = 5;
constexpr unsigned BLK_F_BLK_SIZE = 6;
constexpr unsigned BLK_F_FLUSH = 9;
constexpr unsigned BLK_F_TOPOLOGY = 10;
constexpr unsigned BLK_F_CONFIG_WCE = 11;
constexpr unsigned BLK_F_MQ = 12;
constexpr unsigned BLK_F_DISCARD = 13;
constexpr unsigned BLK_F_WRITE_ZEROES = 14;

// Request types and answers (5.2.6)
enum Type : std::uint32_t {
  BLK_T_IN = 0,
  BLK_T_OUT = 1,
  BLK_T_FLUSH = 4,
  BLK_T_GET_ID = 8,
  BLK_T_DISCARD = 11,
  BLK_T_WRITE_ZEROES = 13,
};
constexpr std::uint8_t BLK_S_OK = 0;
constexpr std::uint8_t BLK_S_IOERR = 1;
constexpr std::uint8_t BLK_S_UNSUPP = 2;

constexpr std::uint64_t sector_bytes = 512;
constexpr std::size_t id_bytes = 20;
constexpr std::uint32_t SEGMENT_UNMAP = 1;

struct Header {
  std::uint32_t type, reserved;
  std::uint64_t sector;
};
static_assert(sizeof(Header) == 16);

/// Of discard and write zeroes.
struct RangeSegment {
  std::uint64_t sector;
  std::uint32_t sectors;
  std::uint32_t flags;
};
static_assert(sizeof(RangeSegment) == 16);

/// The configuration structure (5.2.4).
struct Config {
  std::uint64_t capacity;
  std::uint32_t size_max;
  std::uint32_t seg_max;
  std::uint16_t cylinders;
  std::uint8_t heads, sectors;
  std::uint32_t blk_size;
  std::uint8_t physical_block_exp, alignment_offset;
  std::uint16_t min_io_size;
  std::uint32_t opt_io_size;
  std::uint8_t writeback, unused0;
  std::uint16_t num_queues;
  std::uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
  std::uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
  std::uint8_t write_zeroes_may_unmap;
  std::uint8_t unused1[3];
};
static_assert(offsetof(Config, writeback) == 32 && offsetof(Config, write_zeroes_may_unmap) == 56);

/// Adds the part [offset, offset + bytes) of `segments` to `data`; false when it is not all RAM.
bool add_slice(const machine::DmaSpace& memory, const std::vector<VirtSegment>& segments, std::uint64_t offset,
               std::uint64_t bytes, machine::DmaAccess access, machine::DmaBuffers& data) {
  for (const VirtSegment& segment : segments) {
    if (bytes == 0) break;
    if (offset >= segment.bytes) {
      offset -= segment.bytes;
      continue;
    }
    const std::uint64_t piece = std::min<std::uint64_t>(segment.bytes - offset, bytes);
    if (!data.add(memory, segment.address + offset, piece, access)) return false;
    bytes -= piece;
    offset = 0;
  }
  return bytes == 0;
}

/// Where the last byte of the segments is; there is one.
GuestPhys last_byte(const std::vector<VirtSegment>& segments) {
  const auto last = std::find_if(segments.rbegin(), segments.rend(), [](const VirtSegment& s) { return s.bytes > 0; });
  return last->address + (last->bytes - 1);
}

std::uint8_t answer(disk::IoStatus status) { return status == disk::IoStatus::Ok ? BLK_S_OK : BLK_S_IOERR; }

}  // namespace

VirtioBlk::VirtioBlk(const machine::DmaSpace& memory, disk::Backend& disk, unsigned queues)
    : memory_(memory), disk_(disk), queues_(queues), active_count_(queues) {
  VENEER_ASSERT(queues >= 1 && queues <= queues_max);
  disk_.set_resize_listener([this] { transport().config_changed(); });
  VirtioBlk::reset();
}

std::uint64_t VirtioBlk::features() const {
  std::uint64_t offered = bit(BLK_F_SEG_MAX) | bit(BLK_F_BLK_SIZE) | bit(BLK_F_FLUSH) | bit(BLK_F_TOPOLOGY) |
                          bit(BLK_F_CONFIG_WCE) | bit(BLK_F_MQ);
  if (disk_.read_only())
    offered |= bit(BLK_F_RO);
  else
    offered |= bit(BLK_F_DISCARD) | bit(BLK_F_WRITE_ZEROES);
  return offered;
}

std::uint8_t VirtioBlk::read_config(unsigned offset) {
  const bool writable = !disk_.read_only();
  Config config{};
  config.capacity = disk_.size_bytes() / sector_bytes;
  config.seg_max = segments_max;
  config.blk_size = sector_bytes;
  while ((sector_bytes << config.physical_block_exp) < disk_.physical_block_bytes()) ++config.physical_block_exp;
  config.min_io_size = static_cast<std::uint16_t>(1u << config.physical_block_exp);
  config.writeback = writeback_;
  config.num_queues = static_cast<std::uint16_t>(queues_);
  if (writable) {
    config.max_discard_sectors = config.max_write_zeroes_sectors = discard_sectors_max;
    config.max_discard_seg = config.max_write_zeroes_seg = 1;
    config.discard_sector_alignment = disk_.physical_block_bytes() / static_cast<std::uint32_t>(sector_bytes);
    config.write_zeroes_may_unmap = 1;
  }
  std::array<std::uint8_t, sizeof config> bytes{};
  std::memcpy(bytes.data(), &config, sizeof config);
  return offset < bytes.size() ? bytes[offset] : std::uint8_t{0};
}

void VirtioBlk::write_config(unsigned offset, std::uint8_t value) {
  if (offset == offsetof(Config, writeback) && value <= 1) writeback_ = value;
}

void VirtioBlk::start(std::uint64_t features) {
  agreed_features_ = features;
  // Without CONFIG_WCE the field follows whether the driver knows flushes (5.2.6.2).
  if (!(features & bit(BLK_F_CONFIG_WCE))) writeback_ = (features & bit(BLK_F_FLUSH)) != 0;
}

/// What completes must be on stable storage: the driver asked for write-through, or knows no flush.
bool VirtioBlk::writes_are_stable() const { return writeback_ == 0 || !(agreed_features_ & bit(BLK_F_FLUSH)); }

void VirtioBlk::notify(unsigned index, VirtQueue& queue) {
  while (const auto chain = queue.pop()) begin(index, queue, *chain);
  disk_.start();
}

void VirtioBlk::begin(unsigned index, VirtQueue& queue, const VirtChain& chain) {
  // No driver that keeps to the rules has more requests out than the ring has descriptors; and a guest must not make us
  // hold any number of them.
  if (active_count_[index] >= queue.setup().size) return queue.refuse("more requests than descriptors");
  if (chain.writable_bytes == 0) return queue.refuse("a block request without a status byte");
  Header header{};
  if (chain.readable_bytes < sizeof header) return queue.refuse("a block request without a header");

  const auto active = active_.insert(active_.end(), Active{index, chain.head, last_byte(chain.writable), false, {}});
  ++active_count_[index];
  if (copy_from_chain(memory_, chain, 0, std::as_writable_bytes(std::span(&header, 1))) < sizeof header)
    return finish(active, BLK_S_IOERR, 0);
  switch (header.type) {
    case BLK_T_IN:
    case BLK_T_OUT:
      return begin_transfer(active, chain, header.type == BLK_T_IN, header.sector);
    case BLK_T_FLUSH:
      return hand_over(active, {.kind = disk::IoKind::Flush});
    case BLK_T_GET_ID:
      return begin_get_id(active, chain);
    case BLK_T_DISCARD:
      return begin_range(active, chain, disk::IoKind::Discard);
    case BLK_T_WRITE_ZEROES:
      return begin_range(active, chain, disk::IoKind::WriteZeroes);
    default:
      return finish(active, BLK_S_UNSUPP, 0);
  }
}

void VirtioBlk::begin_transfer(ActiveIt active, const VirtChain& chain, bool read, std::uint64_t sector) {
  const std::uint64_t bytes = read ? chain.writable_bytes - 1 : chain.readable_bytes - sizeof(Header);
  const std::uint64_t capacity = disk_.size_bytes() / sector_bytes;
  if (bytes % sector_bytes != 0 || sector > capacity || bytes / sector_bytes > capacity - sector ||
      (!read && disk_.read_only()))
    return finish(active, BLK_S_IOERR, 0);
  if (!(read ? add_slice(memory_, chain.writable, 0, bytes, machine::DmaAccess::Write, active->data)
             : add_slice(memory_, chain.readable, sizeof(Header), bytes, machine::DmaAccess::Read, active->data)))
    return finish(active, BLK_S_IOERR, 0);
  if (bytes == 0) return finish(active, BLK_S_OK, 0);
  active->to_guest = read;
  hand_over(active, {.kind = read ? disk::IoKind::Read : disk::IoKind::Write,
                     .offset = sector * sector_bytes,
                     .bytes = bytes,
                     .buffers = active->data.pieces(),
                     .force_unit_access = !read && writes_are_stable()});
}

/// 5.2.6.1: reserved flags are refused, and a discard may not say "unmap".
void VirtioBlk::begin_range(ActiveIt active, const VirtChain& chain, disk::IoKind kind) {
  RangeSegment segment{};
  if (disk_.read_only()) return finish(active, BLK_S_IOERR, 0);
  if (chain.readable_bytes != sizeof(Header) + sizeof segment) return finish(active, BLK_S_UNSUPP, 0);
  if (copy_from_chain(memory_, chain, sizeof(Header), std::as_writable_bytes(std::span(&segment, 1))) < sizeof segment)
    return finish(active, BLK_S_IOERR, 0);
  const std::uint32_t known_flags = kind == disk::IoKind::WriteZeroes ? SEGMENT_UNMAP : 0;
  if (segment.flags & ~known_flags) return finish(active, BLK_S_UNSUPP, 0);
  const std::uint64_t capacity = disk_.size_bytes() / sector_bytes;
  if (segment.sectors > discard_sectors_max || segment.sector > capacity || segment.sectors > capacity - segment.sector)
    return finish(active, BLK_S_IOERR, 0);
  if (segment.sectors == 0) return finish(active, BLK_S_OK, 0);
  hand_over(active, {.kind = kind,
                     .offset = segment.sector * sector_bytes,
                     .bytes = segment.sectors * sector_bytes,
                     .may_unmap = (segment.flags & SEGMENT_UNMAP) != 0,
                     .force_unit_access = kind == disk::IoKind::WriteZeroes && writes_are_stable()});
}

void VirtioBlk::begin_get_id(ActiveIt active, const VirtChain& chain) {
  std::array<std::byte, id_bytes> id{};
  const std::string& serial = disk_.serial();
  std::memcpy(id.data(), serial.data(), std::min(serial.size(), id.size()));
  const std::uint64_t room = std::min<std::uint64_t>(chain.writable_bytes - 1, id.size());
  const std::size_t written = copy_to_chain(memory_, chain, 0, std::span(id).first(static_cast<std::size_t>(room)));
  finish(active, written == room ? BLK_S_OK : BLK_S_IOERR, static_cast<std::uint32_t>(written));
}

void VirtioBlk::hand_over(ActiveIt active, disk::IoRequest request) {
  request.done = [this, active](disk::IoStatus status) {
    if (active->to_guest) active->data.announce(memory_);  // failed reads may have moved a part
    if (status == disk::IoStatus::Cancelled) {
      --active_count_[active->queue];
      active_.erase(active);
      return;
    }
    const unsigned queue = active->queue;
    const bool got_data = active->to_guest && status == disk::IoStatus::Ok;
    finish(active, answer(status), got_data ? static_cast<std::uint32_t>(active->data.bytes()) : 0);
    transport().queue_used(queue);
  };
  disk_.submit(std::move(request));
}

/// Gives the chain back. The transport interrupts: after notify(), or in the completion above.
void VirtioBlk::finish(ActiveIt active, std::uint8_t status, std::uint32_t written) {
  VirtQueue& queue = transport().queue(active->queue);
  if (memory_.write_value(active->status, status))
    queue.push(active->head, written + 1);
  else
    queue.refuse("a status byte outside RAM");
  --active_count_[active->queue];
  active_.erase(active);
}

void VirtioBlk::reset() {
  disk_.cancel();
  agreed_features_ = 0;
  writeback_ = disk_.write_cache() ? 1 : 0;
}

void VirtioBlk::save(machine::SnapshotWriter& out) const {
  out.section("virtio-blk");
  out.put(writeback_);
  out.put(agreed_features_);
  out.put(static_cast<std::uint32_t>(active_.size()));
  for (const Active& active : active_) {  // what a host error has stopped
    out.put(static_cast<std::uint32_t>(active.queue));
    out.put(active.head);
  }
}

void VirtioBlk::restore(machine::SnapshotReader& in) {
  in.section("virtio-blk");
  disk_.cancel();
  writeback_ = in.get<std::uint8_t>() & 1;
  in.get(agreed_features_);
  const auto count = in.get<std::uint32_t>();
  if (count > queues_ * queue_size) return in.fail();
  std::vector<std::pair<std::uint32_t, std::uint16_t>> heads(count);
  for (auto& [queue, head] : heads) {
    in.get(queue);
    in.get(head);
    if (queue >= queues_) in.fail();
  }
  if (!in.ok()) return;
  for (const auto& [index, head] : heads) {
    VirtQueue& queue = transport().queue(index);
    if (const auto chain = queue.reread(head)) begin(index, queue, *chain);
  }
  disk_.start();
}

}  // namespace veneer::devices
