// The command line of fuzz_cpu.
#include "options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace veneer::fuzz {

namespace {

constexpr const char* usage =
    "usage: fuzz_cpu [--seconds N] [--seed S] [--first N] [--cases N] [--case N] [--modes blocks,instructions,steps]\n"
    "                [--only MNEMONIC] [--bits 16|32|64] [--length N] [--reports N] [--alignment-check] [--mask]\n"
    "                [--regressions FILE]\n"
    "Compares the CPU engine with the host CPU on random instructions; status 1 when anything differs.\n";

ZydisMnemonic mnemonic_by_name(std::string_view name) {
  for (int i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
    if (name == ZydisMnemonicGetString(static_cast<ZydisMnemonic>(i))) return static_cast<ZydisMnemonic>(i);
  return ZYDIS_MNEMONIC_INVALID;
}

unsigned modes_by_name(std::string_view names) {
  unsigned modes = 0;
  if (names.find("blocks") != names.npos) modes |= 1;
  if (names.find("instructions") != names.npos) modes |= 2;
  if (names.find("steps") != names.npos) modes |= 4;
  return modes;
}

}  // namespace

CodeWidth width_of_case(const Options& options, std::uint64_t number) {
  if (options.width) return *options.width;
  // 64-bit code most often: it has the most instructions.
  constexpr unsigned cycle = 8, in_32_bits = 6, in_16_bits = 7;
  const unsigned turn = number % cycle;
  return turn == in_16_bits ? CodeWidth::Bits16 : turn == in_32_bits ? CodeWidth::Bits32 : CodeWidth::Bits64;
}

std::string command_line(const Options& options, std::uint64_t number) {
  std::string text = fmt::format("fuzz_cpu --seed {} --case {}", options.seed, number);
  if (options.width) text += fmt::format(" --bits {}", code_width_names[static_cast<unsigned>(*options.width)]);
  const GeneratorOptions defaults;
  if (options.generator.max_instructions != defaults.max_instructions)
    text += fmt::format(" --length {}", options.generator.max_instructions);
  if (options.generator.alignment_check) text += " --alignment-check";
  if (options.generator.only != defaults.only)
    text += fmt::format(" --only {}", ZydisMnemonicGetString(options.generator.only));
  return text;
}

std::optional<Options> parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string_view flag = argv[i];
    if (flag == "--mask") {
      options.print_mask = true;
      continue;
    }
    if (flag == "--alignment-check") {
      options.generator.alignment_check = true;
      continue;
    }
    if (i + 1 >= argc) {
      fmt::print(stderr, "{}", usage);
      return std::nullopt;
    }
    const char* text = argv[++i];
    const std::uint64_t number = std::strtoull(text, nullptr, 0);
    if (flag == "--seconds") {
      options.seconds = static_cast<unsigned>(number);
    } else if (flag == "--seed") {
      options.seed = number;
    } else if (flag == "--first") {
      options.first = number;
    } else if (flag == "--cases") {
      options.cases = number;
    } else if (flag == "--case") {
      options.first = number;
      options.cases = 1;
      options.uncovered = false;
    } else if (flag == "--reports") {
      options.max_reports = static_cast<unsigned>(number);
    } else if (flag == "--length") {
      options.generator.max_instructions = static_cast<unsigned>(number);
    } else if (flag == "--modes") {
      options.modes = modes_by_name(text);
    } else if (flag == "--regressions") {
      options.regressions = text;
      options.modes = 0b111;
    } else if (flag == "--bits") {
      options.width = number == 16 ? CodeWidth::Bits16 : number == 32 ? CodeWidth::Bits32 : CodeWidth::Bits64;
    } else if (flag == "--only") {
      options.generator.only = mnemonic_by_name(text);
      options.uncovered = false;
    } else {
      fmt::print(stderr, "fuzz_cpu: no flag {}\n{}", flag, usage);
      return std::nullopt;
    }
  }
  if (options.modes == 0 || options.generator.max_instructions - 1 >= max_instructions) {
    fmt::print(stderr, "{}", usage);
    return std::nullopt;
  }
  return options;
}

}  // namespace veneer::fuzz
