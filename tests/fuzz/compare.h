// Compares how a case ended natively and in the guest.
#pragma once

#include <string>
#include <vector>

#include "image.h"

namespace veneer::fuzz {

/// One line for each thing that differs; empty when nothing does. mask.h says what is left out and why.
/// `native` and `guest` are changed: their vector areas are made comparable, and the images in memory of a snippet
/// that `saves_vectors` by an instruction of the XSAVE family. `undetermined`: there is a difference, which may come
/// from what such an image leaves to the processor; it is not returned.
std::vector<std::string> differences(CodeWidth width, std::uint64_t components, bool saves_vectors, Outcome& native,
                                     Outcome& guest, bool& undetermined);

/// "#PF(0x6) at 0x2000000" and the like.
std::string describe_ending(const Outcome& outcome);

}  // namespace veneer::fuzz
