// Listings of translated blocks: guest instructions and the host code made of them, with symbols for addresses.
//
// The text has no host address in it, so that the same translation gives the same text in every run: that is what
// tests/golden/ compares, and what --trace translate prints.
#pragma once

#include <string>

#include "cpu/bt/block.h"

namespace veneer::cpu::bt {

class BtEngine;

/// The block's guest instructions, each followed by its host code; behind them the slow paths, and counts of both. The
/// guest bytes are read from guest memory: they must be those that the block was made from.
std::string list_block(BtEngine& engine, const Block& block);

/// "64-bit user avx avx512", for headers.
std::string describe_mode(Mode mode);

}  // namespace veneer::cpu::bt
