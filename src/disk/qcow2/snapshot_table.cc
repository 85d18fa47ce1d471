// The table of internal snapshots, read and written.
#include "disk/qcow2/snapshot_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "disk/qcow2/endian.h"

namespace veneer::disk::qcow2 {
namespace {

constexpr std::size_t fixed_bytes = 40;
constexpr std::size_t known_extra = 16;
constexpr std::uint32_t max_extra = 1024;
constexpr std::uint64_t max_table_bytes = 64 * MiB;

Error bad(std::string what) { return Error("the snapshot table is damaged: " + std::move(what)).with_code(EINVAL); }

std::string text(const std::byte* from, std::size_t length) { return {reinterpret_cast<const char*>(from), length}; }

}  // namespace

Result<std::vector<Snapshot>> read_snapshot_table(HostFile& file, const Header& header) {
  std::vector<Snapshot> snapshots;
  std::uint64_t at = header.snapshots_offset;
  for (std::uint32_t i = 0; i < header.snapshots; ++i) {
    std::array<std::byte, fixed_bytes> fixed;
    TRY_VOID(file.read_bytes(at, fixed));
    Snapshot snapshot;
    snapshot.l1_offset = load_be<std::uint64_t>(&fixed[0]);
    snapshot.l1_entries = load_be<std::uint32_t>(&fixed[8]);
    const std::size_t id_length = load_be<std::uint16_t>(&fixed[12]);
    const std::size_t name_length = load_be<std::uint16_t>(&fixed[14]);
    snapshot.date_seconds = load_be<std::uint32_t>(&fixed[16]);
    snapshot.date_nanoseconds = load_be<std::uint32_t>(&fixed[20]);
    snapshot.vm_clock_ns = load_be<std::uint64_t>(&fixed[24]);
    snapshot.vm_state_bytes = load_be<std::uint32_t>(&fixed[32]);
    const std::uint32_t extra = load_be<std::uint32_t>(&fixed[36]);
    if (extra > max_extra) return bad(fmt::format("entry {} has {} bytes of extra data", i, extra));
    if (header.geometry.in_cluster(snapshot.l1_offset) != 0 || snapshot.l1_offset >= max_host_offset ||
        std::uint64_t{snapshot.l1_entries} * 8 > max_l1_bytes)
      return bad(
          fmt::format("entry {} has an L1 table of {} entries at {:#x}", i, snapshot.l1_entries, snapshot.l1_offset));
    std::vector<std::byte> rest(extra + id_length + name_length);
    TRY_VOID(file.read_bytes(at + fixed_bytes, rest));
    if (extra >= 8) snapshot.vm_state_bytes = load_be<std::uint64_t>(rest.data());
    snapshot.disk_bytes = extra >= known_extra ? load_be<std::uint64_t>(rest.data() + 8) : header.size_bytes;
    if (extra > known_extra) snapshot.more_extra.assign(rest.begin() + known_extra, rest.begin() + extra);
    snapshot.id = text(rest.data() + extra, id_length);
    snapshot.name = text(rest.data() + extra + id_length, name_length);
    at += align_up(fixed_bytes + rest.size(), 8);
    if (at - header.snapshots_offset > max_table_bytes) return bad("it is longer than 64 MiB");
    snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

std::vector<std::byte> serialize_snapshot_table(const std::vector<Snapshot>& snapshots) {
  std::vector<std::byte> out;
  for (const Snapshot& snapshot : snapshots) {
    const std::size_t extra = known_extra + snapshot.more_extra.size();
    const std::size_t at = out.size();
    out.resize(at + align_up(fixed_bytes + extra + snapshot.id.size() + snapshot.name.size(), 8));
    std::byte* entry = out.data() + at;
    store_be<std::uint64_t>(entry, snapshot.l1_offset);
    store_be<std::uint32_t>(entry + 8, snapshot.l1_entries);
    store_be<std::uint16_t>(entry + 12, static_cast<std::uint16_t>(snapshot.id.size()));
    store_be<std::uint16_t>(entry + 14, static_cast<std::uint16_t>(snapshot.name.size()));
    store_be<std::uint32_t>(entry + 16, snapshot.date_seconds);
    store_be<std::uint32_t>(entry + 20, snapshot.date_nanoseconds);
    store_be<std::uint64_t>(entry + 24, snapshot.vm_clock_ns);
    // The field of 32 bits is superseded by the one in the extra data; larger states do not fit it.
    store_be<std::uint32_t>(
        entry + 32, snapshot.vm_state_bytes > 0xffffffff ? 0u : static_cast<std::uint32_t>(snapshot.vm_state_bytes));
    store_be<std::uint32_t>(entry + 36, static_cast<std::uint32_t>(extra));
    store_be<std::uint64_t>(entry + 40, snapshot.vm_state_bytes);
    store_be<std::uint64_t>(entry + 48, snapshot.disk_bytes);
    std::byte* next =
        std::copy(snapshot.more_extra.begin(), snapshot.more_extra.end(), entry + fixed_bytes + known_extra);
    const auto put = [&next](const std::string& value) {
      const auto bytes = std::as_bytes(std::span(value));
      next = std::copy(bytes.begin(), bytes.end(), next);
    };
    put(snapshot.id);
    put(snapshot.name);
  }
  return out;
}

}  // namespace veneer::disk::qcow2
