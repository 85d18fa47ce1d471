// Checking and repairing a qcow2 image: every reference counted anew and compared with what the image says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/qcow2/header.h"

namespace veneer::disk::qcow2 {

enum class Repair : std::uint8_t {
  None,   ///< nothing is written
  Leaks,  ///< only lowers refcounts that are too high: cannot lose anything
  All,    ///< also drops references that lead nowhere, rebuilds refcounts, sets flags right
};

struct CheckReport {
  std::uint64_t leaks = 0;        ///< clusters counted as used that nothing uses; harmless
  std::uint64_t corruptions = 0;  ///< what can lose data: counted too low, wrong flags, references that lead nowhere
  std::uint64_t leaks_fixed = 0;
  std::uint64_t corruptions_fixed = 0;
  std::uint64_t data_clusters = 0, compressed_clusters = 0, zero_clusters = 0;
  std::uint64_t image_end = 0;        ///< bytes: behind the last cluster in use
  std::vector<std::string> messages;  ///< one sentence each, at most 100
  std::uint64_t messages_left_out = 0;

  bool clean() const { return leaks == 0 && corruptions == 0; }
  bool clean_after_repair() const { return leaks == leaks_fixed && corruptions == corruptions_fixed; }
};

/// Checks. With a repair, `header` is changed along with the file; the file must be open for writing and locked.
Result<CheckReport> check_image(HostFile& file, Header& header, Repair repair);

}  // namespace veneer::disk::qcow2
