// A new password that people can read and type.
#pragma once

#include <string>

namespace veneer::image {

/// 12 letters and digits without those that look alike: 60 bits from the host's random numbers.
std::string new_password();

}  // namespace veneer::image
