// One fuzzed image, put through everything: what both drivers (libFuzzer's and the one for ctest) call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace veneer::disk {

/// Aborts when a promise is broken: something is written while reading, or a guest's write reaches the header.
void fuzz_one_image(const std::uint8_t* data, std::size_t size);

/// Images to start from: of every kind that matters, small.
std::vector<std::vector<std::uint8_t>> fuzz_seeds();

}  // namespace veneer::disk
