// A new password that people can read and type.
#include "image/password.h"

#include <sys/random.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "base/assert.h"

namespace veneer::image {

std::string new_password() {
  constexpr std::string_view alphabet = "abcdefghijkmnpqrstuvwxyz23456789";  // 32: five bits each, none preferred
  static_assert(alphabet.size() == 32);
  std::array<std::uint8_t, 12> random{};
  VENEER_ASSERT(::getrandom(random.data(), random.size(), 0) == static_cast<ssize_t>(random.size()));
  std::string password;
  for (const std::uint8_t byte : random) password += alphabet[byte % alphabet.size()];
  return password;
}

}  // namespace veneer::image
