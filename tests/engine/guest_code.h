// GUEST_CODE: guest programs written as assembly beside the test that runs them.
#pragma once

#include <cstdint>
#include <span>

namespace veneer::engine_tests {

using Code = std::span<const std::uint8_t>;

}  // namespace veneer::engine_tests

/// Defines `name`, a Code with the bytes of an assembly text in Intel syntax for a 16, 32 or 64-bit processor. The
/// text must not care where it is loaded: relative addresses, or absolute ones of the test machine's layout.
#define GUEST_CODE(name, bits, text)                                                                            \
  extern "C" const std::uint8_t guest_##name##_begin[], guest_##name##_end[];                                   \
  asm(".pushsection .rodata.guest,\"a\"\n.intel_syntax noprefix\n.code" #bits "\nguest_" #name "_begin:\n" text \
      "\nguest_" #name "_end:\n.code64\n.att_syntax prefix\n.popsection\n");                                    \
  const veneer::engine_tests::Code name {                                                                       \
    guest_##name##_begin, static_cast<std::size_t>(guest_##name##_end - guest_##name##_begin)                   \
  }
