// The roles registers play in a case: pointers, indices, values.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "image.h"
#include "random.h"

namespace veneer::fuzz {

/// The control flow around a snippet's instructions (shapes.h).
enum class Shape : std::uint8_t { Straight, Loop, Function, ThroughRegister };

struct RegisterRoles {
  std::vector<unsigned> pointers;  ///< RSP among them
  std::vector<unsigned> indices;   ///< small numbers, multiples of 16 mostly
  unsigned vector_index = 0;       ///< a vector register of small numbers, for gathers and scatters
  std::uint32_t kept = 0;          ///< bit set of registers that instructions should not overwrite
  std::uint32_t reserved = 0;      ///< those that they must not
  Shape shape = Shape::Straight;
  unsigned counter = 0;       ///< of a loop: 1 to 5
  unsigned code_pointer = 0;  ///< for the address of an instruction
};

/// An address for a memory operand: mostly in data, also across pages, read-only, unmapped, non-canonical.
std::uint64_t random_address(Random& random, bool low_only);

/// Chooses roles and fills the general registers, flags and segment bases accordingly.
RegisterRoles random_registers(Random& random, CodeWidth width, Image& image);

/// Makes the vector index register fit its role.
void fill_vector_index(Random& random, const RegisterRoles& roles, std::uint64_t components, Image& image);

}  // namespace veneer::fuzz
