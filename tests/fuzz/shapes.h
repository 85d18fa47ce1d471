// Shapes: control flow around the straight-line instructions of a snippet.
#pragma once

#include "random.h"
#include "roles.h"
#include "snippet.h"

namespace veneer::fuzz {

/// Leaves the snippet as it is, or makes a loop of it, a function and its call, or a jump through a register. Forward
/// branches among the instructions stay what they are.
void give_shape(Random& random, const RegisterRoles& roles, Snippet& snippet);

}  // namespace veneer::fuzz
