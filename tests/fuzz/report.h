// Text for people: a snippet's disassembly with its start state, as far as its instructions mention it.
#pragma once

#include <string>

#include "snippet.h"

namespace veneer::fuzz {

std::string describe_case(const ZydisDecoder& decoder, const Case& the_case);

}  // namespace veneer::fuzz
