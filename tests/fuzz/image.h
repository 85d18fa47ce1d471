// What a case starts from and what it ends in: registers, vectors, and the exception that ended it.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/state.h"
#include "layout.h"

namespace veneer::fuzz {

/// Everything user code can observe of its registers.
struct Image {
  std::array<std::uint64_t, cpu::gpr_count> gpr;
  std::uint64_t rip;
  std::uint64_t rflags;
  std::uint64_t fs_base;
  std::uint64_t gs_base;
  std::uint16_t cs, ss;  ///< of an outcome; how a case starts follows from its width
  /// Standard XSAVE format.
  alignas(64) std::array<std::uint8_t, cpu::xsave_area_bytes> xsave;
};

/// How a run ended.
enum class Ending : std::uint8_t {
  NotRun,
  Exception,  ///< vector, error and cr2 are valid
  Hang,       ///< did not end in time
  Crash,      ///< whoever ran it died
  Other,      ///< the engine came back in a way that no case should cause
};

struct Outcome {
  Ending ending;
  std::uint8_t vector;
  std::uint32_t error;
  std::uint64_t cr2;
  Image image;
  std::uint8_t memory[data_pages.size()][page_bytes];
};

inline constexpr unsigned max_code_bytes = 15 * 16;

/// One case as both sides run it. Code is followed by INT3 up to the end of the code pages.
struct Case {
  Image start;  ///< rip is an offset in the code segment
  CodeWidth width;
  std::uint32_t memory_start;  ///< where in the pattern pool the data pages' contents begin
  std::uint32_t code_offset;   ///< from code_base
  std::uint32_t code_size;
  std::uint8_t code[max_code_bytes];
};

}  // namespace veneer::fuzz
