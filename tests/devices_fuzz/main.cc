// The driver without libFuzzer: cases from seeds, for ctest and for hours.
//
// usage: fuzz_devices [--seed N] [--cases N] [--seconds N] [--steps N] [--verbose]. A case's seed is printed when it
// breaks something: --seed N --cases 1 does it again.
#include <malloc.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "one_case.h"

namespace {

std::uint64_t volatile current_seed = 0;

void say_seed(int) {
  std::fprintf(stderr, "fuzz_devices: the case with --seed %llu --cases 1\n",
               static_cast<unsigned long long>(current_seed));
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

}  // namespace

#ifdef VENEER_SANITIZED
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "handle_abort=0:abort_on_error=1"; }
extern "C" const char* __ubsan_default_options();
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }
#endif

int main(int argc, char** argv) {
  std::uint64_t seed = 1, cases = ~std::uint64_t{0}, seconds = 0;
  unsigned steps = 1500;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 0) : 0; };
    if (word == "--seed") {
      seed = number();
    } else if (word == "--cases") {
      cases = number();
    } else if (word == "--seconds") {
      seconds = number();
    } else if (word == "--steps") {
      steps = static_cast<unsigned>(number());
    } else if (word == "--verbose") {
      veneer::devices_fuzz::set_verbose(true);
    } else {
      std::fprintf(stderr, "usage: fuzz_devices [--seed N] [--cases N] [--seconds N] [--steps N] [--verbose]\n");
      return 2;
    }
  }
  if (cases == ~std::uint64_t{0} && seconds == 0) cases = 100;
  std::signal(SIGABRT, say_seed);
  std::signal(SIGSEGV, SIG_DFL);
  const veneer::devices_fuzz::DriveFiles files;
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t done = 0;
  for (; done < cases; ++done) {
    if (seconds != 0 && std::chrono::steady_clock::now() - start >= std::chrono::seconds(seconds)) break;
    current_seed = seed + done;
    veneer::devices_fuzz::Choices choices(seed + done);
    veneer::devices_fuzz::run_case(files, choices, steps);
  }
  std::printf("%llu boards, %u steps each, from seed %llu\n", static_cast<unsigned long long>(done), steps,
              static_cast<unsigned long long>(seed));
  return 0;
}
