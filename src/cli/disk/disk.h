// `veneer disk ...`: the tools for disk images.
#pragma once

#include "base/result.h"
#include "cli/disk/disk_options.h"

namespace veneer::cli {

/// Does it, prints what there is to say; the exit status.
int run_disk(const DiskOptions& options);

namespace disk_tools {
// Each answers with the exit status, or an error to print.
Result<int> run(const DiskCreate& options);
Result<int> run(const DiskInfo& options);
Result<int> run(const DiskCheck& options);
Result<int> run(const DiskConvert& options);
Result<int> run(const DiskResize& options);
Result<int> run(const DiskRebase& options);
Result<int> run(const DiskCommit& options);
Result<int> run(const DiskSnapshot& options);
}  // namespace disk_tools

}  // namespace veneer::cli
