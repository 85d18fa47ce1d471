// Error: turning errno values into sentences.
#include "base/result.h"

#include <system_error>

namespace veneer {

Error Error::from_errno(std::string_view what, int errno_value) {
  std::string message(what);
  message += ": ";
  message += std::generic_category().message(errno_value);
  return Error(std::move(message)).with_code(errno_value);
}

}  // namespace veneer
