// `veneer disk snapshot`.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "cli/disk/disk.h"
#include "cli/disk/snapshot_json.h"
#include "cli/size.h"
#include "disk/chain.h"
#include "disk/inspect.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::cli::disk_tools {
namespace {

using namespace disk;

Result<int> list(const DiskSnapshot& options) {
  TRY(const std::vector<LayerInfo> layers, inspect_image(options.image, Format::Qcow2, false));
  const std::vector<qcow2::Snapshot>& snapshots = layers[0].snapshots;
  if (options.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const qcow2::Snapshot& snapshot : snapshots) json.push_back(snapshot_json(snapshot));
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return 0;
  }
  if (snapshots.empty()) fmt::print("{} has no snapshots\n", options.image);
  for (const qcow2::Snapshot& snapshot : snapshots)
    fmt::print("{:4} {:%Y-%m-%d %H:%M:%S} {:>10} {}\n", snapshot.id,
               fmt::localtime(static_cast<std::time_t>(snapshot.date_seconds)), format_size(snapshot.disk_bytes),
               snapshot.name);
  return 0;
}

}  // namespace

Result<int> run(const DiskSnapshot& options) {
  if (options.action == DiskSnapshot::Action::List) return list(options);
  TRY(const std::unique_ptr<Image> image, open_alone(options.image, {.format = Format::Qcow2}));
  auto& qcow2 = static_cast<qcow2::Qcow2Image&>(*image);
  if (options.action == DiskSnapshot::Action::Create) TRY_VOID(qcow2.create_snapshot(options.name));
  if (options.action == DiskSnapshot::Action::Apply) TRY_VOID(qcow2.apply_snapshot(options.name));
  if (options.action == DiskSnapshot::Action::Delete) TRY_VOID(qcow2.delete_snapshot(options.name));
  TRY_VOID(image->close());
  return 0;
}

}  // namespace veneer::cli::disk_tools
