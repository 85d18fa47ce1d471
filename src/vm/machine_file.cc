// Writing and reading saved machines.
#include "vm/machine_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "machine/snapshot.h"

namespace veneer::vm {
namespace {

constexpr std::array<char, 8> file_magic = {'V', 'E', 'N', 'E', 'E', 'R', 'V', 'M'};
constexpr std::uint32_t format_version = 14;
constexpr std::uint64_t largest_state_bytes = 64 * MiB;
constexpr std::uint64_t chunk_bytes = 256 * KiB;

/// The first bytes of the file; the rest of the first page is zero.
struct Header {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t page_bytes;
  std::uint64_t state_offset, state_bytes, state_checksum;  // SavedConfig, then processors and devices
  std::uint64_t ram_offset, ram_bytes, ram_checksum;
  std::uint64_t header_checksum;  // of all above
};
static_assert(sizeof(Header) == 72);

/// A 64-bit checksum against accidents, not against attackers: multiply and fold, eight bytes at a time.
class Checksum {
 public:
  void add(std::span<const std::byte> data) {
    while (!data.empty()) {
      std::uint64_t word = 0;
      const std::size_t count = std::min(data.size(), sizeof word);
      std::memcpy(&word, data.data(), count);
      add(word);
      data = data.subspan(count);
    }
  }
  void add(std::uint64_t word) {
    value_ = (value_ ^ word) * 0x9e37'79b9'7f4a'7c15;
    value_ ^= value_ >> 29;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0x5665'6e65'6572'2121;
};

std::uint64_t checksum_of(std::span<const std::byte> data) {
  Checksum sum;
  sum.add(data);
  return sum.value();
}

bool is_zero(std::span<const std::byte> page) {
  return page.front() == std::byte{0} && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

Result<void> write_at(const Fd& file, std::uint64_t offset, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(file.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("writing the state", errno);
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<void> read_at(const Fd& file, std::uint64_t offset, std::span<std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::pread(file.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("reading it", errno);
    if (n == 0) return Error("it has been cut short");
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

/// Calls piece(offset, size) for each part of [from, from + size_bytes) of the file that has data; what is between are
/// holes. Looking into a hole through a mapping would fill it.
template <typename Piece>
Result<void> for_each_extent(int fd, std::uint64_t from, std::uint64_t size_bytes, Piece piece) {
  const auto end = static_cast<off_t>(from + size_bytes);
  for (auto at = static_cast<off_t>(from); at < end;) {
    const off_t data = ::lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};
    if (data < 0) return Error::from_errno("looking for holes", errno);
    if (data >= end) return {};
    const off_t hole = std::min(::lseek(fd, data, SEEK_HOLE), end);
    if (hole <= data) return Error::from_errno("looking for holes", errno);
    for (off_t part = data; part < hole;) {
      const std::uint64_t size = std::min<std::uint64_t>(chunk_bytes, static_cast<std::uint64_t>(hole - part));
      TRY_VOID(piece(static_cast<std::uint64_t>(part) - from, size));
      part += static_cast<off_t>(size);
    }
    at = hole;
  }
  return {};
}

/// Adds the pages that are not zero, each with its place: a hole and a page of zeros are the same.
void add_pages(Checksum& sum, std::uint64_t ram_position, std::span<const std::byte> data) {
  for (std::uint64_t at = 0; at < data.size(); at += page_size) {
    const auto page = data.subspan(at, std::min<std::uint64_t>(page_size, data.size() - at));
    if (is_zero(page)) continue;
    sum.add(ram_position + at);
    sum.add(page);
  }
}

void put_text(machine::SnapshotWriter& out, const std::string& text) {
  out.put(static_cast<std::uint32_t>(text.size()));
  out.bytes(std::as_bytes(std::span(text)));
}

std::string get_text(machine::SnapshotReader& in) {
  const auto size = in.get<std::uint32_t>();
  if (size > 64 * KiB) {
    in.fail();
    return {};
  }
  std::string text(size, '\0');
  in.bytes(std::as_writable_bytes(std::span(text)));
  return text;
}

/// An enum value that is at most `last`.
template <typename Enum>
Enum get_enum(machine::SnapshotReader& in, Enum last) {
  const auto value = in.get<std::uint8_t>();
  if (value > static_cast<std::uint8_t>(last)) in.fail();
  return in.ok() ? static_cast<Enum>(value) : Enum{};
}

void put_disk(machine::SnapshotWriter& out, const SavedDisk& disk) {
  const DiskConfig& config = disk.config;
  out.section("disk");
  put_text(out, config.path);
  put_text(out, config.serial);
  out.put(static_cast<std::uint8_t>(config.open.format.has_value()));
  out.put(config.open.format.value_or(disk::Format::Raw));
  out.put(static_cast<std::uint8_t>(config.open.read_only));
  out.put(config.open.cache);
  out.put(config.open.discard);
  out.put(config.open.lock);
  out.put(config.open.metadata_cache_bytes);
  out.put(config.interface);
  out.put(static_cast<std::uint8_t>(config.cdrom));
  out.put(config.queues);
  out.put(config.iops);
  out.put(config.bytes_per_second);
  out.put(config.write_errors);
  out.put(config.read_errors);
  out.put(config.engine);
  out.put(disk.size_bytes);
  out.put(static_cast<std::uint8_t>(disk.stamped));
  out.put(disk.changed_ns);
}

SavedDisk get_disk(machine::SnapshotReader& in) {
  SavedDisk disk;
  DiskConfig& config = disk.config;
  in.section("disk");
  config.path = get_text(in);
  config.serial = get_text(in);
  const bool format_named = in.get<std::uint8_t>() != 0;
  const auto format = get_enum(in, disk::Format::Nbd);
  if (format_named) config.open.format = format;
  config.open.read_only = in.get<std::uint8_t>() != 0;
  config.open.cache = get_enum(in, disk::CacheMode::Writethrough);
  config.open.discard = get_enum(in, disk::DiscardPolicy::Unmap);
  config.open.lock = get_enum(in, disk::LockPolicy::Off);
  in.get(config.open.metadata_cache_bytes);
  config.interface = get_enum(in, DiskInterface::Ahci);
  config.cdrom = in.get<std::uint8_t>() != 0;
  in.get(config.queues);
  in.get(config.iops);
  in.get(config.bytes_per_second);
  config.write_errors = get_enum(in, disk::ErrorPolicy::StopIfNoSpace);
  config.read_errors = get_enum(in, disk::ErrorPolicy::StopIfNoSpace);
  config.engine = get_enum(in, disk::IoEngine::Threads);
  in.get(disk.size_bytes);
  disk.stamped = in.get<std::uint8_t>() != 0;
  in.get(disk.changed_ns);
  return disk;
}

void put_config(machine::SnapshotWriter& out, const SavedConfig& config) {
  out.section("config");
  out.put(static_cast<std::uint8_t>(config.machine));
  out.put(config.cpus);
  out.put(config.memory_bytes);
  out.put(config.tsc_hz);
  out.put(static_cast<std::uint8_t>(config.debug_exit));
  const Firmware& firmware = config.firmware;
  for (const std::string* text : {&config.kernel, &config.initrd, &config.cmdline, &config.nets, &config.cpu,
                                  &firmware.path, &firmware.variables_image, &firmware.variables})
    put_text(out, *text);
  out.put(firmware.kind);
  out.put(config.boot_order);
  out.put(static_cast<std::uint8_t>(config.boot_menu));
  out.put(static_cast<std::uint8_t>(config.balloon));
  out.put(static_cast<std::uint8_t>(config.console));
  out.put(config.iommu);
  out.put(static_cast<std::uint32_t>(config.modules.size()));
  for (const boot::BootModule& module : config.modules) {
    put_text(out, module.path);
    put_text(out, module.words);
  }
  out.put(static_cast<std::uint32_t>(config.disks.size()));
  for (const SavedDisk& disk : config.disks) put_disk(out, disk);
}

SavedConfig get_config(machine::SnapshotReader& in) {
  SavedConfig config;
  in.section("config");
  config.machine = in.get<std::uint8_t>() == 0 ? MachineKind::Pc : MachineKind::Micro;
  in.get(config.cpus);
  in.get(config.memory_bytes);
  in.get(config.tsc_hz);
  config.debug_exit = in.get<std::uint8_t>() != 0;
  Firmware& firmware = config.firmware;
  for (std::string* text : {&config.kernel, &config.initrd, &config.cmdline, &config.nets, &config.cpu, &firmware.path,
                            &firmware.variables_image, &firmware.variables})
    *text = get_text(in);
  firmware.kind = get_enum(in, Firmware::Kind::Ovmf);
  firmware.variables_chosen = true;
  config.boot_order = get_enum(in, BootOrder::Floppy);
  config.boot_menu = in.get<std::uint8_t>() != 0;
  config.balloon = in.get<std::uint8_t>() != 0;
  config.console = in.get<std::uint8_t>() != 0;
  config.iommu = get_enum(in, IommuKind::Amd);
  const auto modules = in.get<std::uint32_t>();
  for (std::uint32_t i = 0; i < modules && in.ok(); ++i) {
    std::string path = get_text(in);
    config.modules.push_back({std::move(path), get_text(in)});
  }
  const auto disks = in.get<std::uint32_t>();
  if (disks > max_disks) in.fail();
  for (std::uint32_t i = 0; i < disks && in.ok(); ++i) config.disks.push_back(get_disk(in));
  return config;
}

std::span<const std::byte> checked_part(const Header& header) {
  return std::as_bytes(std::span(&header, 1)).first(offsetof(Header, header_checksum));
}

Result<Header> read_header(const Fd& file) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return Error::from_errno("cannot stat it", errno);
  if (!S_ISREG(info.st_mode)) return Error("it is not a regular file");
  Header header{};
  if (info.st_size < static_cast<off_t>(sizeof header)) return Error("it is too short for a saved machine");
  TRY_VOID(read_at(file, 0, std::as_writable_bytes(std::span(&header, 1))));
  if (header.magic != file_magic) return Error("it is not a machine that veneer save has written");
  if (header.version != format_version)
    return Error(fmt::format("it has version {} of the format, and this Veneer reads version {}", header.version,
                             format_version));
  if (header.header_checksum != checksum_of(checked_part(header))) return Error("its header is damaged");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (header.state_bytes > largest_state_bytes || header.page_bytes != page_size) return Error("its header is damaged");
  if (size < header.ram_offset + header.ram_bytes)
    return Error(
        fmt::format("it has been cut short: {} of {} bytes are there", size, header.ram_offset + header.ram_bytes));
  return header;
}

}  // namespace

Result<MachineFile> open_machine_file(const std::string& path) {
  const auto in_context = [&](Error error) { return std::move(error).context("saved machine " + path); };
  MachineFile saved;
  saved.file = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!saved.file.valid()) return in_context(Error::from_errno("cannot open it", errno));
  auto header = read_header(saved.file);
  if (!header) return in_context(std::move(header).error());
  const Header& h = header.value();
  std::vector<std::byte> state(h.state_bytes);
  if (auto got = read_at(saved.file, h.state_offset, state); !got) return in_context(std::move(got).error());
  if (checksum_of(state) != h.state_checksum) return in_context(Error("its state is damaged"));
  machine::SnapshotReader reader(state);
  saved.config = get_config(reader);
  if (!reader.ok()) return in_context(Error("its state is damaged"));
  saved.state.assign(state.end() - static_cast<std::ptrdiff_t>(reader.left()), state.end());
  saved.ram_offset = h.ram_offset;
  saved.ram_bytes = h.ram_bytes;
  saved.ram_checksum = h.ram_checksum;
  return saved;
}

Result<void> write_machine_file(const Fd& file, const SavedConfig& config, std::span<const std::byte> state,
                                const machine::GuestMemory& memory) {
  machine::SnapshotWriter all;
  put_config(all, config);
  all.bytes(state);
  Header header{};
  header.magic = file_magic;
  header.version = format_version;
  header.page_bytes = page_size;
  header.state_offset = page_size;
  header.state_bytes = all.data().size();
  header.state_checksum = checksum_of(all.data());
  header.ram_offset = (header.state_offset + header.state_bytes + page_size - 1) & ~std::uint64_t{page_offset_mask};
  header.ram_bytes = memory.ram_bytes();
  if (::ftruncate(file.get(), 0) != 0 ||
      ::ftruncate(file.get(), static_cast<off_t>(header.ram_offset + header.ram_bytes)) != 0)
    return Error::from_errno("writing the state", errno);
  TRY_VOID(write_at(file, header.state_offset, all.data()));

  Checksum sum;
  std::uint64_t position = 0;  // in RAM, slot after slot
  for (const auto& slot : memory.slots()) {
    if (slot->kind != machine::SlotKind::Ram) continue;
    TRY_VOID(for_each_extent(slot->memfd.get(), 0, slot->size_bytes,
                             [&](std::uint64_t offset, std::uint64_t size) -> Result<void> {
                               const std::span data(reinterpret_cast<const std::byte*>(slot->host) + offset, size);
                               add_pages(sum, position + offset, data);
                               if (is_zero(data)) return {};
                               return write_at(file, header.ram_offset + position + offset, data);
                             }));
    position += slot->size_bytes;
  }
  header.ram_checksum = sum.value();
  header.header_checksum = checksum_of(checked_part(header));
  // The header last: a file without it is no saved machine.
  TRY_VOID(write_at(file, 0, std::as_bytes(std::span(&header, 1))));
  if (::fsync(file.get()) != 0) return Error::from_errno("writing the state", errno);
  return {};
}

Result<void> read_ram(const MachineFile& saved, machine::GuestMemory& memory) {
  if (memory.ram_bytes() != saved.ram_bytes) return Error("the saved memory has another size");
  Checksum sum;
  std::uint64_t position = 0;
  for (const auto& slot : memory.slots()) {
    if (slot->kind != machine::SlotKind::Ram) continue;
    TRY_VOID(for_each_extent(saved.file.get(), saved.ram_offset + position, slot->size_bytes,
                             [&](std::uint64_t offset, std::uint64_t size) -> Result<void> {
                               const std::span data(reinterpret_cast<std::byte*>(slot->host) + offset, size);
                               auto got = read_at(saved.file, saved.ram_offset + position + offset, data);
                               if (got) add_pages(sum, position + offset, data);
                               return got;
                             }));
    position += slot->size_bytes;
  }
  if (sum.value() != saved.ram_checksum) return Error("the saved memory is damaged");
  return {};
}

}  // namespace veneer::vm
