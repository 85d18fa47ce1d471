// `veneer disk create`.
#include <fmt/format.h>

#include <cerrno>

#include "cli/disk/disk.h"
#include "cli/disk/new_file.h"
#include "disk/chain.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::cli::disk_tools {
namespace {

/// Takes the space of all data from the host. Zeros stay zeros.
Result<void> allocate_fully(disk::Image& image) {
  static const std::vector<std::byte> zeroes(1 << 20);
  for (std::uint64_t at = 0; at < image.size(); at += zeroes.size()) {
    const iovec iov{const_cast<std::byte*>(zeroes.data()), std::min<std::uint64_t>(zeroes.size(), image.size() - at)};
    TRY_VOID(image.write(at, {&iov, 1}));
  }
  return {};
}

}  // namespace

Result<int> run(const DiskCreate& options) {
  using namespace disk;
  if (options.like.format == Format::Nbd) return Error("new images are qcow2 or raw");
  if (!options.backing.empty() && options.like.format != Format::Qcow2)
    return Error("only qcow2 images have a backing file (see --format)");
  if (!options.backing.empty() && options.preallocation != Preallocation::Off)
    return Error("an overlay cannot be preallocated: its clusters would hide the backing file");
  std::uint64_t size = options.size_bytes.value_or(0);
  std::string backing_format;
  if (!options.backing.empty()) {
    const std::string below = backing_path(options.image, options.backing);
    if (!options.backing_format)
      return Error(
          fmt::format("say the format of the backing file {} (-F qcow2 or -F raw): looked up later, a guest "
                      "could fake it",
                      below));
    backing_format = format_name(*options.backing_format);
    auto opened = open_image(below, {.format = options.backing_format, .read_only = true, .lock = LockPolicy::Off});
    if (!opened) return std::move(opened).error().context("the backing file");
    if (!options.size_bytes) size = opened.value()->size();
  } else if (!options.size_bytes) {
    return Error("say how large the disk shall be: veneer disk create IMAGE SIZE");
  }
  TRY(NewFile file, NewFile::make(options.image, false));
  TRY(const std::unique_ptr<Image> image,
      make_image(file, options.like, size, options.backing.empty() ? std::nullopt : std::optional(options.backing),
                 backing_format));
  Result<void> allocated;
  if (options.preallocation == Preallocation::Full) allocated = allocate_fully(*image);
  if (options.preallocation == Preallocation::Metadata && options.like.format == Format::Qcow2)
    allocated = static_cast<qcow2::Qcow2Image&>(*image).preallocate();
  if (!allocated) {
    (void)image->close();  // it will be removed
    return std::move(allocated).error();
  }
  TRY_VOID(image->close());
  TRY_VOID(file.publish(true));
  return 0;
}

}  // namespace veneer::cli::disk_tools
