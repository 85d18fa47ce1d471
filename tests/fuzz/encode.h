// Encodes a random instance of a template.
#pragma once

#include <array>
#include <cstdint>

#include "random.h"
#include "roles.h"
#include "templates.h"

namespace veneer::fuzz {

struct Encoded {
  std::array<std::uint8_t, 32> bytes{};  ///< the instruction, then random bytes
  bool rip_relative = false;
  bool no_base = false;  ///< the displacement is the whole address, or was made as if
};

/// Random registers, addressing form, prefixes, displacement and immediates around the template's operation. What
/// comes out need not decode to the same instruction, or at all: the caller looks.
Encoded encode_randomly(Random& random, const RegisterRoles& roles, const Template& form, CodeWidth width);

}  // namespace veneer::fuzz
