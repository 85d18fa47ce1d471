// `veneer disk convert`.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "cli/disk/disk.h"
#include "cli/disk/new_file.h"
#include "cli/disk/progress.h"
#include "disk/copy.h"

namespace veneer::cli::disk_tools {
namespace {
/// Smaller holes in a raw file cost the host more than they save.
constexpr std::uint64_t raw_zero_granularity = 4096;
}  // namespace

Result<int> run(const DiskConvert& options) {
  using namespace disk;
  if (options.like.format == Format::Nbd) return Error("new images are qcow2 or raw");
  if (options.compress && options.like.format != Format::Qcow2)
    return Error("only qcow2 images can be compressed (see --output-format)");
  TRY(const std::unique_ptr<Image> source,
      open_image(options.source, {.format = options.source_format, .read_only = true}));
  TRY(NewFile file, NewFile::make(options.target, options.replace));
  TRY(const std::unique_ptr<Image> target, make_image(file, options.like, source->size(), std::nullopt, ""));
  CopyOptions copy;
  // Twice the CPUs: some wait for the host's disk while others copy.
  copy.threads = options.threads != 0 ? options.threads : std::clamp(2 * std::thread::hardware_concurrency(), 2u, 8u);
  copy.zero_granularity = options.like.format == Format::Qcow2 ? options.like.cluster_bytes : raw_zero_granularity;
  if (options.compress) copy.compress_cluster = options.like.cluster_bytes;
  {
    Progress progress("converting", source->size());
    copy.progress = progress.function();
    if (auto copied = copy_image(*source, *target, copy); !copied) {
      (void)target->close();  // it will be removed: why it cannot be finished is known
      if (copied.error().code() == ECANCELED)
        return Error(fmt::format("stopped; {} was not made", options.target)).with_code(ECANCELED);
      return std::move(copied).error();
    }
  }
  TRY_VOID(target->close());
  TRY_VOID(file.publish(!options.no_sync));
  return 0;
}

}  // namespace veneer::cli::disk_tools
