// fuzz_cpu: compares the CPU engine with the host CPU on random instructions.
//
// This process supervises: the work is done in a forked worker, so that an engine that crashes is a result like any
// other and the run goes on behind the case that did it.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "mask.h"
#include "options.h"
#include "report.h"
#include "statistics.h"
#include "worker.h"

namespace veneer::fuzz {
namespace {

constexpr int worker_failed = 3;

int work(const Options& options, Statistics& statistics, Worker::Clock::time_point deadline) {
  Worker worker(options, statistics, deadline);
  if (auto result = worker.run(); !result) {
    fmt::print(stderr, "fuzz_cpu: {}\n", result.error().message());
    return worker_failed;
  }
  return 0;
}

void report_crash(const Options& options, Statistics& statistics, int status) {
  statistics.engine_crashes++;
  const std::uint64_t number = statistics.running_case;
  if (statistics.reports++ >= options.max_reports) return;
  const std::string how =
      WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status)) : fmt::format("status {}", WEXITSTATUS(status));
  fmt::print("\nENGINE CRASH ({}): fuzz_cpu --seed {} --case {}\n", how, options.seed, number);
  const Generator generator(cpu::CpuidPolicy::host(1, 2'000'000'000), width_of_case(options, number),
                            options.generator);
  Case the_case;
  generator.make(options.seed, number).lay_out(the_case);
  fmt::print("{}", describe_case(generator.decoder(), the_case));
  std::fflush(stdout);
}

void summary(const Options& options, const Statistics& s) {
  fmt::print("\n{} snippets, {} instructions compared ({} snippets ended in a fault), {} lost natively\n", s.snippets,
             s.instructions, s.faults, s.lost);
  fmt::print("{} differing ({} kinds), {} engine crashes\n", s.differing, s.signature_count, s.engine_crashes);
  if (!options.uncovered) return;
  for (const CodeWidth width : {CodeWidth::Bits16, CodeWidth::Bits32, CodeWidth::Bits64}) {
    if (options.width && *options.width != width) continue;
    const Generator generator(cpu::CpuidPolicy::host(1, 2'000'000'000), width, options.generator);
    unsigned covered = 0;
    std::string missing;
    for (const RowTemplates& row : generator.rows())
      if (s.rows[static_cast<unsigned>(width)][row.mnemonic])
        covered++;
      else
        missing += fmt::format(" {}", ZydisMnemonicGetString(row.mnemonic));
    fmt::print("{}-bit code: {} of {} rows compared; never:{}\n", code_width_names[static_cast<unsigned>(width)],
               covered, generator.rows().size(), missing.empty() ? " none" : missing);
  }
}

int run_regressions(const Options& options, Statistics& statistics) {
  const auto cases = read_regressions(options.regressions);
  if (!cases) {
    fmt::print(stderr, "fuzz_cpu: {}\n", cases.error().message());
    return 2;
  }
  Worker worker(options, statistics, {});
  const auto differing = worker.run_fixed(cases.value());
  if (!differing) {
    fmt::print(stderr, "fuzz_cpu: {}\n", differing.error().message());
    return 2;
  }
  fmt::print("{} fixed cases, {} differing\n", cases.value().size(), differing.value());
  return differing.value() ? 1 : 0;
}

int run(const Options& options) {
  auto made = make_statistics();
  if (!made) {
    fmt::print(stderr, "fuzz_cpu: {}\n", made.error().message());
    return 2;
  }
  Statistics& statistics = *made.value();
  if (!options.regressions.empty()) return run_regressions(options, statistics);
  statistics.next_case = options.first;
  const auto deadline = Worker::Clock::now() + std::chrono::seconds(options.seconds);
  constexpr std::uint64_t too_many_crashes = 500;
  while (statistics.engine_crashes < too_many_crashes) {
    std::fflush(stdout);
    const pid_t worker = ::fork();
    if (worker < 0) {
      std::perror("fuzz_cpu: starting the worker");
      return 2;
    }
    if (worker == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int status = work(options, statistics, deadline);
      std::fflush(stdout);
      ::_exit(status);
    }
    int status = 0;
    ::waitpid(worker, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == worker_failed) return 2;
    if (status == 0) break;
    report_crash(options, statistics, status);
    statistics.next_case = std::max(statistics.next_case, statistics.running_case + 1);
    if (statistics.next_case - options.first >= options.cases) break;
  }
  summary(options, statistics);
  return statistics.differing || statistics.engine_crashes ? 1 : 0;
}

}  // namespace
}  // namespace veneer::fuzz

int main(int argc, char** argv) {
  const auto options = veneer::fuzz::parse_options(argc, argv);
  if (!options) return 2;
  if (options->print_mask) {
    std::fputs(veneer::fuzz::mask_text, stdout);
    return 0;
  }
  return veneer::fuzz::run(*options);
}
