// fw_cfg's selector, data and DMA registers.
#include "devices/firmware/fw_cfg.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/bits.h"

namespace veneer::devices {
namespace {

enum Offset : std::uint64_t { SELECTOR = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8, END = 12 };

// INTERFACE_VERSION: which ways there are to read
constexpr std::uint32_t TRADITIONAL = 1u << 0, HAS_DMA = 1u << 1;
/// What the DMA address register reads as: "QEMU CFG", big endian.
constexpr std::uint64_t dma_signature = 0x51454d5520434647;
/// Bit 15: architecture's own items; bit 14: for writing, which nothing here uses.
constexpr std::uint16_t item_mask = 0xbfff;

// Control field of a DMA access structure
constexpr std::uint32_t DMA_ERROR = 1u << 0, DMA_READ = 1u << 1, DMA_SKIP = 1u << 2, DMA_SELECT = 1u << 3,
                        DMA_WRITE = 1u << 4;

/// All fields are big endian.
struct DmaAccess {
  std::uint32_t control, length;
  std::uint64_t address;
};
static_assert(sizeof(DmaAccess) == 16);

struct FileEntry {
  std::uint32_t size;  // big endian
  std::uint16_t select;
  std::uint16_t reserved;
  std::array<char, 56> name;  // with a NUL
};
static_assert(sizeof(FileEntry) == 64);

}  // namespace

FwCfg::FwCfg(machine::GuestMemory& memory) : memory_(memory) {
  add_value(SIGNATURE, std::array<char, 4>{'Q', 'E', 'M', 'U'});
  add_value(INTERFACE_VERSION, TRADITIONAL | HAS_DMA);
  make_directory();
}

void FwCfg::add_file(const std::string& name, Bytes data) {
  VENEER_ASSERT(name.size() < sizeof(FileEntry::name));
  auto place = std::find(files_.begin(), files_.end(), name);
  if (place == files_.end()) place = files_.insert(files_.end(), name);
  const auto number = static_cast<std::uint16_t>(FIRST_FILE + (place - files_.begin()));
  items_[number] = std::move(data);
  make_directory();
}

void FwCfg::make_directory() {
  Bytes directory = bytes_of(__builtin_bswap32(static_cast<std::uint32_t>(files_.size())));
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto number = static_cast<std::uint16_t>(FIRST_FILE + i);
    FileEntry entry{};
    entry.size = __builtin_bswap32(static_cast<std::uint32_t>(items_[number].size()));
    entry.select = __builtin_bswap16(number);
    std::memcpy(entry.name.data(), files_[i].data(), files_[i].size());
    const Bytes bytes = bytes_of(entry);
    directory.insert(directory.end(), bytes.begin(), bytes.end());
  }
  items_[FILE_DIRECTORY] = std::move(directory);
}

void FwCfg::select(std::uint16_t item) {
  selected_ = item & item_mask;
  position_ = 0;
  if (refresh_ && selected_ >= FIRST_FILE && selected_ - FIRST_FILE < static_cast<int>(files_.size()))
    refresh_(std::string(files_[static_cast<std::size_t>(selected_ - FIRST_FILE)]));
}

/// Behind the end of an item, and in items that do not exist, there are zeros.
std::uint8_t FwCfg::next_byte() {
  const auto item = items_.find(selected_);
  if (item == items_.end() || position_ >= item->second.size()) return 0;
  return static_cast<std::uint8_t>(item->second[position_++]);
}

std::uint64_t FwCfg::read(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size_bytes; ++i) {
    const std::uint64_t at = offset + i;
    std::uint8_t byte = 0;
    if (at == DATA)
      byte = next_byte();
    else if (at >= DMA_HIGH && at < END)
      byte = static_cast<std::uint8_t>(dma_signature >> (8 * (END - 1 - at)));
    value |= std::uint64_t{byte} << (8 * i);
  }
  return value;
}

void FwCfg::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset == SELECTOR && size_bytes == 2) return select(static_cast<std::uint16_t>(value));
  if (offset == DMA_HIGH && size_bytes == 4) {
    dma_address_ = std::uint64_t{__builtin_bswap32(static_cast<std::uint32_t>(value))} << 32;
  } else if (offset == DMA_LOW && size_bytes == 4) {
    dma_address_ |= __builtin_bswap32(static_cast<std::uint32_t>(value));
    run_dma();
  }
}

bool FwCfg::copy_to_guest(GuestPhys address, std::uint32_t size_bytes) {
  const auto item = items_.find(selected_);
  const std::size_t have =
      item == items_.end() || position_ >= item->second.size() ? 0 : item->second.size() - position_;
  const std::size_t data = std::min<std::size_t>(have, size_bytes);
  if (data != 0 && !memory_.write(address, std::span(item->second).subspan(position_, data))) return false;
  // The rest in pieces of bounded size: the guest asks for any length.
  static constexpr std::array<std::byte, 4096> zeros{};
  for (std::size_t done = data; done < size_bytes;) {
    const std::size_t piece = std::min<std::size_t>(zeros.size(), size_bytes - done);
    if (!memory_.write(address + done, std::span(zeros).first(piece))) return false;
    done += piece;
  }
  return true;
}

void FwCfg::run_dma() {
  const GuestPhys at{std::exchange(dma_address_, 0)};
  DmaAccess access{};
  if (!memory_.read_value(at, access)) return;  // nowhere to answer
  const std::uint32_t control = __builtin_bswap32(access.control);
  const std::uint32_t length = __builtin_bswap32(access.length);
  if (control & DMA_SELECT) select(static_cast<std::uint16_t>(control >> 16));
  bool ok = (control & DMA_WRITE) == 0 || length == 0;
  if (ok && (control & DMA_READ)) ok = copy_to_guest(GuestPhys{__builtin_bswap64(access.address)}, length);
  if (ok && (control & (DMA_READ | DMA_SKIP)))
    position_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{position_} + length, 0xffff'ffff));
  const std::uint32_t result = ok ? 0 : __builtin_bswap32(DMA_ERROR);
  (void)memory_.write_value(at, result);
}

void FwCfg::save(machine::SnapshotWriter& out) const {
  out.section("fw-cfg");
  out.put(selected_);
  out.put(position_);
  out.put(dma_address_);
}

void FwCfg::restore(machine::SnapshotReader& in) {
  in.section("fw-cfg");
  selected_ = in.get<std::uint16_t>() & item_mask;
  in.get(position_);
  in.get(dma_address_);
}

void FwCfg::reset() {
  selected_ = 0;
  position_ = 0;
  dma_address_ = 0;
}

}  // namespace veneer::devices
