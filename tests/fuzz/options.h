// The command line of fuzz_cpu.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "generator.h"

namespace veneer::fuzz {

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t first = 0;  ///< number of the first case
  std::uint64_t cases = ~std::uint64_t{0};
  unsigned seconds = 10;
  unsigned max_reports = 10;       ///< differing cases printed in full
  std::optional<CodeWidth> width;  ///< of all cases; else by the case's number
  unsigned modes = 0b011;          ///< bit set of GuestMode
  bool print_mask = false;
  std::string regressions;  ///< file of fixed cases to run in place of random ones
  bool uncovered = true;    ///< list rows never compared
  GeneratorOptions generator;
};

/// The width of the case with this number.
CodeWidth width_of_case(const Options& options, std::uint64_t number);

/// What runs this case alone: "fuzz_cpu --seed 1 --case 2".
std::string command_line(const Options& options, std::uint64_t number);

/// nullopt after an error was printed.
std::optional<Options> parse_options(int argc, char** argv);

}  // namespace veneer::fuzz
