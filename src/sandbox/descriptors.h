// Descriptors that the process that started us left open.
#pragma once

#include <vector>

namespace veneer::sandbox {

/// The open descriptors above the standard ones, in ascending order. For the start of the process, when all of them
/// are somebody else's.
std::vector<int> open_descriptors();

/// Closes them. Those that were named on the command line (/dev/fd/5) have been opened anew by then.
void close_descriptors(const std::vector<int>& descriptors);

}  // namespace veneer::sandbox
