// open_image(): from a name and options to an open image with the chain of backing images below it.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/log.h"
#include "disk/chain.h"
#include "disk/host_file.h"
#include "disk/image.h"
#include "disk/nbd.h"
#include "disk/probe.h"
#include "disk/qcow2/qcow2_image.h"
#include "disk/raw.h"

namespace veneer::disk {
namespace {

constexpr std::size_t max_chain = 64;

/// Files opened so far, from the top down: one that comes again is a loop.
using Visited = std::vector<std::pair<dev_t, ino_t>>;

Result<std::unique_ptr<Image>> open_layer(const std::string& path, const OpenOptions& options, Visited& visited,
                                          bool with_backing);

Result<std::unique_ptr<Image>> open_backing(const std::string& path, const qcow2::Header& header,
                                            const OpenOptions& options, Visited& visited) {
  const std::string below = backing_path(path, *header.backing_file);
  OpenOptions read;
  read.read_only = true;
  read.cache = options.cache;
  read.lock = options.lock;
  read.metadata_cache_bytes = options.metadata_cache_bytes;
  if (!header.backing_format.empty()) {
    auto format = parse_format(header.backing_format);
    if (!format)
      return std::move(format).error().with_code(ENOTSUP).context(fmt::format("the backing file of {}", path));
    read.format = format.value();
  } else {
    log_warning(
        "{}: does not say the format of its backing file {}; looking it up there, which is not safe if a guest "
        "ever wrote to it as a raw disk. veneer disk rebase --only-name -b {} -F FORMAT {} records it",
        path, below, *header.backing_file, path);
  }
  auto opened = open_layer(below, read, visited, true);
  if (opened) return opened;
  const int code = opened.error().code();
  std::string advice;
  if (code == ENOENT) advice = fmt::format(". If it was moved: veneer disk rebase --only-name -b NEW_PATH {}", path);
  return Error(fmt::format("the backing file of {}: {}{}", path, opened.error().message(), advice)).with_code(code);
}

Result<std::unique_ptr<Image>> open_qcow2_layer(std::unique_ptr<HostFile> file, const std::string& path,
                                                const OpenOptions& options, Visited& visited, bool with_backing) {
  auto header = qcow2::read_header(*file);
  if (!header) return std::move(header).error().context(path);
  std::unique_ptr<Image> backing;
  if (header.value().backing_file && with_backing) {
    TRY(backing, open_backing(path, header.value(), options, visited));
  }
  TRY(std::unique_ptr<qcow2::Qcow2Image> image,
      qcow2::Qcow2Image::open(std::move(file), std::move(header).value(), options, std::move(backing)));
  return std::unique_ptr<Image>(std::move(image));
}

Result<std::unique_ptr<Image>> open_layer(const std::string& path, const OpenOptions& options, Visited& visited,
                                          bool with_backing) {
  if (path.empty()) return Error("the name of a disk image is empty").with_code(ENOENT);
  if (is_nbd_uri(path)) return open_nbd(path, options);
  if (options.format == Format::Nbd)
    return Error(fmt::format("{} is not an NBD address (nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH)", path))
        .with_code(EINVAL);
  struct stat about {};
  if (stat(path.c_str(), &about) == 0) {
    const auto identity = std::pair(about.st_dev, about.st_ino);
    if (std::find(visited.begin(), visited.end(), identity) != visited.end())
      return Error(fmt::format("{} is its own backing file, directly or through others: the chain is a loop", path))
          .with_code(ELOOP);
    visited.push_back(identity);
  }
  if (visited.size() > max_chain)
    return Error(fmt::format("the chain of backing files is longer than {}", max_chain)).with_code(ELOOP);
  TRY(std::unique_ptr<HostFile> file, open_host_file(path, options));
  Format format = Format::Raw;
  if (options.format) {
    format = *options.format;
  } else {
    std::array<std::byte, probe_bytes> head;
    TRY_VOID(file->read_bytes(0, head));
    TRY(format, probe_format(head, path));
  }
  if (format == Format::Qcow2) return open_qcow2_layer(std::move(file), path, options, visited, with_backing);
  return open_raw(std::move(file), options, !options.format);
}

}  // namespace

std::string backing_path(const std::string& image_path, const std::string& name) {
  if (name.starts_with('/') || is_nbd_uri(name)) return name;
  const std::size_t slash = image_path.rfind('/');
  return slash == std::string::npos ? name : image_path.substr(0, slash + 1) + name;
}

Result<std::unique_ptr<Image>> open_alone(const std::string& path, const OpenOptions& options) {
  Visited visited;
  return open_layer(path, options, visited, false);
}

Result<std::unique_ptr<Image>> open_image(const std::string& path, const OpenOptions& options) {
  Visited visited;
  return open_layer(path, options, visited, true);
}

}  // namespace veneer::disk
