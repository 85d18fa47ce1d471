// `veneer disk info`.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/disk/disk.h"
#include "cli/disk/snapshot_json.h"
#include "cli/size.h"
#include "disk/inspect.h"

namespace veneer::cli::disk_tools {
namespace {

using namespace disk;

nlohmann::ordered_json as_json(const LayerInfo& info) {
  nlohmann::ordered_json json;
  json["file"] = info.path;
  json["format"] = format_name(info.format);
  json["virtual_size_bytes"] = info.size_bytes;
  json["occupied_bytes"] = info.disk_bytes;
  if (!info.header) return json;
  const qcow2::Header& header = *info.header;
  json["version"] = header.version;
  json["cluster_size_bytes"] = header.geometry.cluster_size();
  json["refcount_bits"] = header.geometry.refcount_bits();
  json["compression"] = header.compression == qcow2::Compression::Zstd ? "zstd" : "zlib";
  json["lazy_refcounts"] = (header.compatible & qcow2::COMPATIBLE_LAZY_REFCOUNTS) != 0;
  json["extended_l2"] = header.geometry.extended_l2;
  json["dirty"] = header.has(qcow2::INCOMPATIBLE_DIRTY);
  json["corrupt"] = header.has(qcow2::INCOMPATIBLE_CORRUPT);
  json["external_data_file"] = header.has(qcow2::INCOMPATIBLE_DATA_FILE);
  if (header.backing_file) {
    json["backing_file"] = *header.backing_file;
    json["backing_path"] = info.backing_path;
    json["backing_format"] = header.backing_format;
  }
  json["snapshots"] = nlohmann::ordered_json::array();
  for (const qcow2::Snapshot& snapshot : info.snapshots) json["snapshots"].push_back(snapshot_json(snapshot));
  return json;
}

void print(const LayerInfo& info) {
  fmt::print("image         {}\nformat        {}", info.path, format_name(info.format));
  if (info.header) fmt::print(" version {}", info.header->version);
  fmt::print("\ndisk size     {} ({} bytes)\noccupies      {}\n", format_size(info.size_bytes), info.size_bytes,
             format_size(info.disk_bytes));
  if (!info.header) return;
  const qcow2::Header& header = *info.header;
  fmt::print("cluster size  {}\n", format_size(header.geometry.cluster_size()));
  if (header.backing_file)
    fmt::print("backing file  {} ({})\n", info.backing_path,
               header.backing_format.empty() ? "its format is not recorded" : header.backing_format);
  fmt::print("details       refcounts of {} bits, {}{}{}\n", header.geometry.refcount_bits(),
             header.compression == qcow2::Compression::Zstd ? "zstd" : "zlib",
             header.compatible & qcow2::COMPATIBLE_LAZY_REFCOUNTS ? ", lazy refcounts" : "",
             header.geometry.extended_l2 ? ", extended L2 entries" : "");
  if (header.has(qcow2::INCOMPATIBLE_DIRTY)) fmt::print("state         not closed properly, or in use\n");
  if (header.has(qcow2::INCOMPATIBLE_CORRUPT)) fmt::print("state         marked as damaged\n");
  if (header.has(qcow2::INCOMPATIBLE_DATA_FILE)) fmt::print("data file     {} (not supported)\n", header.data_file);
  for (const qcow2::Snapshot& snapshot : info.snapshots)
    fmt::print("snapshot      {} {}\n", snapshot.id, snapshot.name);
}

}  // namespace

Result<int> run(const DiskInfo& options) {
  TRY(const std::vector<LayerInfo> layers, inspect_image(options.image, options.format, options.chain));
  if (options.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const LayerInfo& layer : layers) json.push_back(as_json(layer));
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;  // names need not be UTF-8
    fmt::print("{}\n", (options.chain ? json : json[0]).dump(2, ' ', false, replace));
    return 0;
  }
  for (const LayerInfo& layer : layers) {
    if (&layer != &layers.front()) fmt::print("\n");
    print(layer);
  }
  return 0;
}

}  // namespace veneer::cli::disk_tools
