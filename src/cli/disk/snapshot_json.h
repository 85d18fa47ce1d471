// A snapshot as JSON, the same in `info` and `snapshot list`.
#pragma once

#include <nlohmann/json.hpp>

#include "disk/qcow2/snapshot_table.h"

namespace veneer::cli {

inline nlohmann::ordered_json snapshot_json(const disk::qcow2::Snapshot& snapshot) {
  nlohmann::ordered_json json;
  json["id"] = snapshot.id;
  json["name"] = snapshot.name;
  json["date_seconds"] = snapshot.date_seconds;
  json["virtual_size_bytes"] = snapshot.disk_bytes;
  json["vm_state_bytes"] = snapshot.vm_state_bytes;
  return json;
}

}  // namespace veneer::cli
