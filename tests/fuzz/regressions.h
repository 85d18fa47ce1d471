// Fixed cases: bugs that were found once, each as a line of text.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "snippet.h"

namespace veneer::fuzz {

struct Regression {
  std::string name;
  Snippet snippet;
};

/// Reads a file of lines `name hex... register=value...` (regressions.txt explains them). `components` are those of the
/// host's XCR0.
Result<std::vector<Regression>> read_regressions(const std::string& path, std::uint64_t components);

}  // namespace veneer::fuzz
