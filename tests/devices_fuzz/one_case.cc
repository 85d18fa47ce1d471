// Runs a case and watches its promises: bounded work for each step, bounded memory.
#include "one_case.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "devices/virtio/virtio_balloon.h"
#include "drivers.h"

#if defined(VENEER_SANITIZED) && defined(__SANITIZE_ADDRESS__)
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();  // GCC comes without the header for it
#define VENEER_HEAP_BYTES() __sanitizer_get_current_allocated_bytes()
#else
#define VENEER_HEAP_BYTES() (::mallinfo2().uordblks + ::mallinfo2().hblkhd)
#endif

namespace veneer::devices_fuzz {
namespace {

/// Processor time that a step may take; sanitizers make everything slower.
#ifdef VENEER_SANITIZED
constexpr int step_seconds = 20;
#else
constexpr int step_seconds = 5;
#endif
/// Beyond what the board had when it was made.
constexpr std::size_t growth_bytes_max = 64 * MiB;

bool verbose = false;
const char* volatile running = "";

void took_too_long(int) {
  const auto say = [](const char* text) { [[maybe_unused]] const auto written = ::write(2, text, std::strlen(text)); };
  say("broken promise: a step takes too long: ");
  say(running);
  say("\n");
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

void watch(int seconds) {
  const itimerval timer{{0, 0}, {seconds, 0}};
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

std::string describe_balloon(Bench& bench) {
  const auto& counters = bench.board->balloon()->counters();
  return fmt::format("{} bytes inflated, {} bytes in {} reports", counters.inflated_bytes, counters.reported_bytes,
                     counters.reports);
}

std::vector<std::unique_ptr<Driver>> all_drivers(bool firmware, bool iommu) {
  std::vector<std::unique_ptr<Driver>> drivers;
  drivers.push_back(make_access_driver());
  drivers.push_back(make_interrupt_driver());
  drivers.push_back(make_virtio_driver());
  drivers.push_back(make_nvme_driver());
  drivers.push_back(make_e1000_driver());
  drivers.push_back(make_ahci_driver());
  drivers.push_back(make_ide_driver());
  drivers.push_back(make_floppy_driver());
  drivers.push_back(make_hpet_driver());
  drivers.push_back(make_network_driver());
  drivers.push_back(make_host_driver());
  drivers.push_back(make_state_driver());
  if (iommu) drivers.push_back(make_iommu_driver());
  if (firmware) {
    drivers.push_back(make_firmware_driver());
    drivers.push_back(make_display_driver());
  }
  return drivers;
}

}  // namespace

void set_verbose(bool value) { verbose = value; }

void run_case(const DriveFiles& files, Choices& choices, unsigned steps) {
  static const bool prepared = [] {
    set_log_sink([](LogLevel, std::string_view line) {
      if (verbose) std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    });
    std::signal(SIGPROF, took_too_long);
    return true;
  }();
  (void)prepared;
  running = "making the board";
  watch(step_seconds);
  const bool firmware = !choices.one_in(4);
  Bench bench(files, firmware, choices.one_in(2));
  const std::vector<std::unique_ptr<Driver>> drivers = all_drivers(bench.has_firmware, bench.has_iommu);
  choices.set_tameness(choices.pick({1u, 4u, 32u}));
  // A few drivers have most of a case, so that it gets somewhere.
  std::array<std::size_t, 3> favourites{};
  for (std::size_t& favourite : favourites) favourite = choices.below(drivers.size());
  const std::size_t before = VENEER_HEAP_BYTES();
  for (unsigned step = 0; step < steps; ++step) {
    const bool favourite = !choices.one_in(6);
    Driver& driver = *drivers[favourite ? favourites[choices.below(favourites.size())] : choices.below(drivers.size())];
    running = driver.name();
    if (verbose) std::fprintf(stderr, "step %u: %s\n", step, driver.name());
    watch(step_seconds);
    if (choices.one_in(256)) bench.assign_bars();  // what accesses anywhere have moved
    driver.step(bench, choices);
    bench.settle();
    if (std::exchange(bench.was_reset, false))
      for (const auto& each : drivers) each->forget();
    if (step % 64 == 0)
      if (const std::size_t now = VENEER_HEAP_BYTES(); now > before + growth_bytes_max)
        broken(fmt::format("memory grows: {} MiB more after step {} ({})", (now - before) >> 20, step, driver.name()));
  }
  // Drivers that get nowhere would find nothing: this shows how far they came.
  if (verbose)
    std::fprintf(stderr, "%sframes: %llu sent, %llu received\nballoon: %s\nterminal: %llu bytes\n",
                 bench.board->disks().describe().c_str(), static_cast<unsigned long long>(bench.frames_sent),
                 static_cast<unsigned long long>(bench.frames_received), describe_balloon(bench).c_str(),
                 static_cast<unsigned long long>(bench.terminal.bytes));
  running = "taking the board apart";
  watch(step_seconds);
}

}  // namespace veneer::devices_fuzz
