// `veneer disk rebase`: another image below an overlay, the same content.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/disk/disk.h"
#include "cli/disk/progress.h"
#include "disk/chain.h"
#include "disk/copy.h"
#include "disk/inspect.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::cli::disk_tools {
namespace {

using namespace disk;

constexpr std::uint64_t step_bytes = 2 * MiB;  ///< at least a cluster

/// What `image` (or nothing) shows at [begin, end), zeros behind its end.
Result<void> read_or_zero(Image* image, std::uint64_t begin, std::span<std::byte> bytes) {
  std::memset(bytes.data(), 0, bytes.size());
  if (image == nullptr || begin >= image->size()) return {};
  const iovec iov{bytes.data(), std::min<std::uint64_t>(bytes.size(), image->size() - begin)};
  return image->read(begin, {&iov, 1});
}

/// Copies into the overlay what it shows of the old backing file and the new one would show differently.
Result<void> keep_differences(qcow2::Qcow2Image& overlay, Image* below) {
  const std::uint64_t cluster = overlay.header().geometry.cluster_size();
  std::vector<std::byte> old_bytes(step_bytes), new_bytes(step_bytes);
  Progress progress("comparing", overlay.size());
  for (std::uint64_t at = 0; at < overlay.size();) {
    if (!progress.update(at)) return Error("stopped; the image is as it was").with_code(ECANCELED);
    TRY(const Image::Status status, overlay.status(at, std::min(step_bytes, overlay.size() - at)));
    const std::uint64_t end = at + status.length;
    if (status.kind != Image::Status::Kind::Data) {
      const auto old_part = std::span(old_bytes).first(status.length);
      const auto new_part = std::span(new_bytes).first(status.length);
      TRY_VOID(read_or_zero(&overlay, at, old_part));
      TRY_VOID(read_or_zero(below, at, new_part));
      for (std::uint64_t part = at; part < end;) {
        const std::uint64_t next = std::min(align_down(part, cluster) + cluster, end);
        std::byte* bytes = old_bytes.data() + (part - at);
        if (std::memcmp(bytes, new_bytes.data() + (part - at), next - part) != 0) {
          if (all_zero(bytes, next - part)) {
            TRY_VOID(overlay.write_zeroes(part, next - part, ZeroMode::MayUnmap));
          } else {
            const iovec iov{bytes, static_cast<std::size_t>(next - part)};
            TRY_VOID(overlay.write(part, {&iov, 1}));
          }
        }
        part = next;
      }
    }
    at = end;
  }
  return overlay.flush();
}

}  // namespace

Result<int> run(const DiskRebase& options) {
  if (!options.backing.empty() && !options.backing_format)
    return Error("say the format of the new backing file (-F qcow2 or -F raw): looked up later, a guest could fake it");
  const std::string below_path = backing_path(options.image, options.backing);
  const std::string format = options.backing_format ? std::string(format_name(*options.backing_format)) : "";
  const auto name = options.backing.empty() ? std::nullopt : std::optional(options.backing);
  const OpenOptions open{.format = Format::Qcow2};
  if (options.only_name) {
    TRY(const std::unique_ptr<Image> image, open_alone(options.image, open));
    TRY_VOID(static_cast<qcow2::Qcow2Image&>(*image).set_backing_name(name, format));
    TRY_VOID(image->close());
    return 0;
  }
  std::unique_ptr<Image> below;
  if (name) {
    TRY(const std::vector<LayerInfo> chain, inspect_image(below_path, options.backing_format, true));
    TRY(const std::vector<LayerInfo> self, inspect_image(options.image, Format::Qcow2, false));
    for (const LayerInfo& layer : chain)
      if (layer.path == options.image)
        return Error(fmt::format("{} is below {}: it would become its own backing file", options.image, below_path));
    auto opened = open_image(below_path, {.format = options.backing_format, .read_only = true});
    if (!opened) return std::move(opened).error().context("the new backing file");
    below = std::move(opened).value();
  }
  TRY(const std::unique_ptr<Image> image, open_image(options.image, open));
  auto& overlay = static_cast<qcow2::Qcow2Image&>(*image);
  overlay.expect_backing();
  TRY_VOID(keep_differences(overlay, below.get()));
  TRY_VOID(overlay.set_backing_name(name, format));
  TRY_VOID(image->close());
  return 0;
}

}  // namespace veneer::cli::disk_tools
