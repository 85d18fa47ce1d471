// What an image says about itself.
#include "disk/inspect.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "disk/chain.h"
#include "disk/host_file.h"
#include "disk/nbd.h"
#include "disk/probe.h"

namespace veneer::disk {
namespace {

constexpr std::size_t max_chain = 64;

/// `known`: `format` is its format.
Result<LayerInfo> inspect_one(const std::string& path, bool known, Format format) {
  LayerInfo info;
  info.path = path;
  const OpenOptions options{.read_only = true, .lock = LockPolicy::Off};
  if (is_nbd_uri(path)) {
    TRY(const std::unique_ptr<Image> image, open_nbd(path, options));
    info.format = Format::Nbd;
    info.size_bytes = image->size();
    return info;
  }
  TRY(const std::unique_ptr<HostFile> file, open_host_file(path, options));
  info.format = format;
  if (!known) {
    std::array<std::byte, probe_bytes> head;
    TRY_VOID(file->read_bytes(0, head));
    TRY(info.format, probe_format(head, path));
  }
  struct stat about {};
  if (stat(path.c_str(), &about) == 0) info.disk_bytes = static_cast<std::uint64_t>(about.st_blocks) * 512;
  TRY(info.size_bytes, file->size());
  if (info.format != Format::Qcow2) return info;
  auto header = qcow2::read_header(*file);
  if (!header) return std::move(header).error().context(path);
  info.header = std::move(header).value();
  info.size_bytes = info.header->size_bytes;
  if (info.header->snapshots != 0) {
    auto snapshots = qcow2::read_snapshot_table(*file, *info.header);
    if (!snapshots) return std::move(snapshots).error().context(path);
    info.snapshots = std::move(snapshots).value();
  }
  if (info.header->backing_file) info.backing_path = backing_path(path, *info.header->backing_file);
  return info;
}

}  // namespace

Result<std::vector<LayerInfo>> inspect_image(const std::string& path, std::optional<Format> format, bool chain) {
  std::vector<LayerInfo> layers;
  std::string next = path;
  bool known = format.has_value();
  Format wanted = format.value_or(Format::Raw);
  while (true) {
    auto info = inspect_one(next, known, wanted);
    if (!info) {
      if (layers.empty()) return std::move(info).error();
      return std::move(info).error().context(fmt::format("the backing file of {}", layers.back().path));
    }
    layers.push_back(std::move(info).value());
    const LayerInfo& last = layers.back();
    if (!chain || last.backing_path.empty()) return layers;
    if (layers.size() > max_chain)
      return Error(fmt::format("{}: the chain of backing files is a loop, or longer than {}", path, max_chain))
          .with_code(ELOOP);
    next = last.backing_path;
    known = !last.header->backing_format.empty();
    if (known) {
      TRY(wanted, parse_format(last.header->backing_format));
    }
  }
}

}  // namespace veneer::disk
