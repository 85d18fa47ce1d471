// open_image(): from a name and options to an open image.
#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/log.h"
#include "disk/host_file.h"
#include "disk/image.h"
#include "disk/probe.h"
#include "disk/raw.h"

namespace veneer::disk {

Result<std::unique_ptr<Image>> open_image(const std::string& path, const OpenOptions& options) {
  if (path.empty()) return Error("the name of a disk image is empty").with_code(ENOENT);
  TRY(std::unique_ptr<HostFile> file, open_host_file(path, options));
  Format format = Format::Raw;
  if (options.format) {
    format = *options.format;
  } else {
    std::array<std::byte, probe_bytes> head;
    TRY_VOID(file->read_bytes(0, head));
    TRY(format, probe_format(head, path));
    if (format == Format::Raw && !options.read_only)
      log_info(
          "{}: no known format found, taken as raw (say format=raw, and writes to its first sector are not watched)",
          path);
  }
  if (format == Format::Raw) return open_raw(std::move(file), options, !options.format);
  return Error(fmt::format("{}: format {} is not in this version of Veneer", path, format_name(format)))
      .with_code(ENOTSUP);
}

}  // namespace veneer::disk
