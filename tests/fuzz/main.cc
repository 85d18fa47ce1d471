// fuzz_cpu: compares the CPU engine with the host CPU on random instructions.
#include <cstdio>

#include "mask.h"
#include "options.h"
#include "supervisor.h"

int main(int argc, char** argv) {
  const auto options = veneer::fuzz::parse_options(argc, argv);
  if (!options) return 2;
  if (options->print_mask) {
    std::fputs(veneer::fuzz::mask_text, stdout);
    return 0;
  }
  return veneer::fuzz::supervise(*options);
}
