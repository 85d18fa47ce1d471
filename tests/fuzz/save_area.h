// XSAVE images in a case's memory: which components are marked in use is the processor's affair in one respect.
#pragma once

#include "image.h"

namespace veneer::fuzz {

/// A processor may count a component as in use though it is in its initial configuration (SDM 1 13.6: XINUSE), and
/// Zen 4 does so for registers that were computed to be zero, until the state is saved and restored by anybody. Where
/// two images differ in nothing else, the guest's is made like the native one; true when that was so.
bool forgive_initial_components(CodeWidth width, std::uint64_t components, const Outcome& native, Outcome& guest);

}  // namespace veneer::fuzz
