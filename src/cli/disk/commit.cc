// `veneer disk commit`: an overlay's content goes into the image below it.
#include <fmt/format.h>

#include <cerrno>

#include "cli/disk/disk.h"
#include "cli/disk/progress.h"
#include "disk/chain.h"
#include "disk/copy.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::cli::disk_tools {

Result<int> run(const DiskCommit& options) {
  using namespace disk;
  TRY(const std::unique_ptr<Image> image, open_alone(options.image, {.format = Format::Qcow2}));
  auto& overlay = static_cast<qcow2::Qcow2Image&>(*image);
  const qcow2::Header& header = overlay.header();
  if (!header.backing_file) return Error(fmt::format("{} has no backing file to commit into", options.image));
  if (header.backing_format.empty())
    return Error(
        fmt::format("{} does not say the format of its backing file; a wrong guess would destroy it. Record it: "
                    "veneer disk rebase --only-name -b {} -F FORMAT {}",
                    options.image, *header.backing_file, options.image));
  const std::string below_path = backing_path(options.image, *header.backing_file);
  TRY(const Format format, parse_format(header.backing_format));
  auto opened = open_image(below_path, {.format = format});
  if (!opened) return std::move(opened).error().context("the backing file");
  const std::unique_ptr<Image> below = std::move(opened).value();
  if (below->size() < overlay.size()) TRY_VOID(below->resize(overlay.size(), false));
  CopyOptions copy;
  copy.threads = 1;  // no faster with more where clusters are small, and the order is kept
  copy.target_is_zero = false;
  copy.top_layer_only = true;
  copy.zero_granularity = 65536;
  {
    Progress progress("committing", overlay.size());
    copy.progress = progress.function();
    if (auto copied = copy_image(overlay, *below, copy); !copied) {
      if (copied.error().code() == ECANCELED)
        return Error(fmt::format("stopped; nothing is lost: {} still holds everything, commit it again some time",
                                 options.image))
            .with_code(ECANCELED);
      return std::move(copied).error();
    }
  }
  TRY_VOID(below->close());  // durable before the overlay lets go
  if (!options.keep) TRY_VOID(overlay.make_empty());
  TRY_VOID(image->close());
  return 0;
}

}  // namespace veneer::cli::disk_tools
