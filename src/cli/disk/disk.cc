// `veneer disk ...`: dispatch.
#include "cli/disk/disk.h"

#include <fmt/format.h>

#include <cstdio>

namespace veneer::cli {

int run_disk(const DiskOptions& options) {
  const Result<int> status = std::visit([](const auto& chosen) { return disk_tools::run(chosen); }, options);
  if (status) return status.value();
  fmt::print(stderr, "veneer: {}\n", status.error().message());
  return 1;
}

}  // namespace veneer::cli
