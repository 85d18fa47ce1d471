// Option values that are lists: words with commas between.
#pragma once

#include <string>
#include <vector>

namespace veneer::cli {

/// Splits at single commas; a double one stands for itself. At least one word, which may be empty.
std::vector<std::string> split_at_commas(const std::string& text);

}  // namespace veneer::cli
