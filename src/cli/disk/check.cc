// `veneer disk check`.
#include "disk/qcow2/check.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "cli/disk/disk.h"
#include "disk/host_file.h"
#include "disk/probe.h"

namespace veneer::cli::disk_tools {
namespace {

constexpr int status_leaks = 3;
constexpr int status_damaged = 4;

void print_json(const std::string& image, const disk::qcow2::CheckReport& report) {
  nlohmann::ordered_json json;
  json["file"] = image;
  json["leaks"] = report.leaks;
  json["leaks_fixed"] = report.leaks_fixed;
  json["corruptions"] = report.corruptions;
  json["corruptions_fixed"] = report.corruptions_fixed;
  json["data_clusters"] = report.data_clusters;
  json["compressed_clusters"] = report.compressed_clusters;
  json["zero_clusters"] = report.zero_clusters;
  json["image_end_bytes"] = report.image_end;
  json["messages"] = report.messages;
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void print_text(const std::string& image, const disk::qcow2::CheckReport& report) {
  for (const std::string& message : report.messages) fmt::print("{}\n", message);
  if (report.messages_left_out != 0) fmt::print("... and {} more\n", report.messages_left_out);
  if (report.clean()) {
    fmt::print("{}: in order ({} data clusters, {} of them compressed)\n", image,
               report.data_clusters + report.compressed_clusters, report.compressed_clusters);
    return;
  }
  fmt::print("{}: {} errors ({} repaired), {} leaked clusters ({} repaired)\n", image, report.corruptions,
             report.corruptions_fixed, report.leaks, report.leaks_fixed);
}

}  // namespace

Result<int> run(const DiskCheck& options) {
  using namespace disk;
  const bool repairing = options.repair != qcow2::Repair::None;
  TRY(const std::unique_ptr<HostFile> file, open_host_file(options.image, {.read_only = !repairing}));
  Format format = Format::Raw;
  if (options.format) {
    format = *options.format;
  } else {
    std::array<std::byte, probe_bytes> head;
    TRY_VOID(file->read_bytes(0, head));
    TRY(format, probe_format(head, options.image));
  }
  if (format != Format::Qcow2)
    return Error(fmt::format("{} is {}: there is nothing in it that could be checked", options.image,
                             format_name(format)))
        .with_code(ENOTSUP);
  auto header = qcow2::read_header(*file);
  if (!header) return std::move(header).error().context(options.image);
  if (repairing && header.value().has(qcow2::INCOMPATIBLE_DATA_FILE))
    return Error(fmt::format("{} keeps its data in an external file, which Veneer does not serve", options.image));
  TRY(const qcow2::CheckReport report, qcow2::check_image(*file, header.value(), options.repair));
  if (options.json)
    print_json(options.image, report);
  else
    print_text(options.image, report);
  if (report.corruptions != report.corruptions_fixed) return status_damaged;
  return report.leaks != report.leaks_fixed ? status_leaks : 0;
}

}  // namespace veneer::cli::disk_tools
