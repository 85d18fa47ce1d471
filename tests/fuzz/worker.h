// The worker: generates cases in batches, runs them on both sides, compares, minimises and reports.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "generator.h"
#include "guest.h"
#include "options.h"
#include "oracle.h"
#include "regressions.h"
#include "statistics.h"

namespace veneer::fuzz {

class Worker {
 public:
  using Clock = std::chrono::steady_clock;

  Worker(const Options& options, const cpu::CpuidPolicy& policy, const Generators& generators, Statistics& statistics,
         Clock::time_point deadline);
  ~Worker();
  /// Until the deadline or the last case.
  Result<void> run();
  /// Runs fixed cases instead; the number of those that differ.
  Result<unsigned> run_fixed(const std::vector<Regression>& cases);

 private:
  /// How one snippet differed: in which modes, and what in the first of them.
  struct Finding {
    std::string modes;
    std::vector<std::string> lines;
  };

  /// A case of a batch that differed.
  struct Differing {
    unsigned index;
    std::unique_ptr<Outcome> native;
    Finding finding;
  };

  Result<void> create();
  Result<void> run_batch(unsigned count);
  Result<Finding> run_once(const Snippet& snippet);
  std::vector<std::string> compare(const Snippet& snippet, const Outcome& native, Outcome& other);
  Finding compare_all(const Snippet& snippet, const Outcome& native, std::vector<Outcome>& guests);
  void run_guests(const Case& the_case, std::vector<Outcome>& out);
  Result<void> investigate(std::uint64_t number, Snippet snippet, Differing first);
  Result<Snippet> minimise(Snippet snippet);
  const Generator& generator_for(std::uint64_t number) const {
    return generators_[static_cast<unsigned>(width_of_case(options_, number))];
  }
  void count(const Snippet& snippet, const Case& the_case, const Outcome& native);
  void watch();

  const Options& options_;
  Statistics& statistics_;
  Clock::time_point deadline_;
  const cpu::CpuidPolicy& policy_;
  const Generators& generators_;
  PatternPool pool_;
  Oracle oracle_;
  std::vector<std::unique_ptr<Guest>> guests_;

  std::thread watchdog_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> runs_{0};
  std::atomic<Guest*> running_{nullptr};
};

}  // namespace veneer::fuzz
