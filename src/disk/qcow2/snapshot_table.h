// The table of internal snapshots. Spec: "Snapshots".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/qcow2/header.h"

namespace veneer::disk::qcow2 {

struct Snapshot {
  std::uint64_t l1_offset = 0;
  std::uint32_t l1_entries = 0;
  std::string id;
  std::string name;
  std::uint32_t date_seconds = 0;  ///< since the Epoch
  std::uint32_t date_nanoseconds = 0;
  std::uint64_t vm_clock_ns = 0;
  std::uint64_t vm_state_bytes = 0;
  std::uint64_t disk_bytes = 0;       ///< size of the virtual disk then
  std::vector<std::byte> more_extra;  ///< extra data behind the fields known here
};

/// Reads the table that the header names.
Result<std::vector<Snapshot>> read_snapshot_table(HostFile& file, const Header& header);

/// The table's bytes.
std::vector<std::byte> serialize_snapshot_table(const std::vector<Snapshot>& snapshots);

}  // namespace veneer::disk::qcow2
