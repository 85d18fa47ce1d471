// `veneer disk resize`.
#include <fmt/format.h>

#include "cli/disk/disk.h"
#include "cli/size.h"

namespace veneer::cli::disk_tools {

Result<int> run(const DiskResize& options) {
  using namespace disk;
  TRY(const std::unique_ptr<Image> image, open_image(options.image, {.format = options.format}));
  const std::uint64_t now = image->size();
  std::uint64_t wanted = options.bytes;
  if (options.way == DiskResize::Way::By) {
    if (wanted > ~std::uint64_t{0} - now) return Error(fmt::format("{} cannot grow that far", options.image));
    wanted = now + wanted;
  } else if (options.way == DiskResize::Way::ByLess) {
    if (wanted > now) return Error(fmt::format("{} has only {} bytes", options.image, now));
    wanted = now - wanted;
  }
  TRY_VOID(image->resize(wanted, options.shrink));
  TRY_VOID(image->close());
  fmt::print("{}: {} ({} bytes)\n", options.image, format_size(wanted), wanted);
  return 0;
}

}  // namespace veneer::cli::disk_tools
