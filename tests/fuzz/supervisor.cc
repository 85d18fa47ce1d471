// The supervisor: workers, crashes, the summary.
#include "supervisor.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "mask.h"
#include "report.h"
#include "statistics.h"
#include "worker.h"

namespace veneer::fuzz {

namespace {

constexpr std::uint64_t any_tsc_hz = 2'000'000'000;
constexpr int all_alike = 0, something_differed = 1, host_failed = 2;

class Supervisor {
 public:
  Supervisor(const Options& options, Statistics& statistics)
      : options_(options),
        statistics_(statistics),
        policy_(cpu::CpuidPolicy::host(1, any_tsc_hz)),
        generators_{Generator(policy_, CodeWidth::Bits16, options.generator),
                    Generator(policy_, CodeWidth::Bits32, options.generator),
                    Generator(policy_, CodeWidth::Bits64, options.generator)},
        deadline_(Worker::Clock::now() + std::chrono::seconds(options.seconds)) {}

  int run() {
    statistics_.next_case = options_.first;
    constexpr std::uint64_t too_many_crashes = 500;
    while (statistics_.engine_crashes < too_many_crashes) {
      const int status = run_worker();
      if (status == 0) break;
      if (WIFEXITED(status) && WEXITSTATUS(status) == host_failed) return host_failed;
      report_crash(status);
      statistics_.next_case = std::max(statistics_.next_case, statistics_.running_case + 1);
      if (statistics_.next_case - options_.first >= options_.cases) break;
    }
    summary();
    return statistics_.differing || statistics_.engine_crashes ? something_differed : all_alike;
  }

  int run_regressions() {
    const auto cases = read_regressions(options_.regressions, policy_.xcr0_mask());
    if (!cases) return failed(cases.error());
    Worker worker(options_, policy_, generators_, statistics_, {});
    const auto differing = worker.run_fixed(cases.value());
    if (!differing) return failed(differing.error());
    fmt::print("{} fixed cases, {} differing\n", cases.value().size(), differing.value());
    return differing.value() ? something_differed : all_alike;
  }

 private:
  static int failed(const Error& error) {
    fmt::print(stderr, "fuzz_cpu: {}\n", error.message());
    return host_failed;
  }

  /// The wait status of a worker that ran until it was done or died.
  int run_worker() {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child < 0) {
      std::perror("fuzz_cpu: starting the worker");
      return W_EXITCODE(host_failed, 0);
    }
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      Worker worker(options_, policy_, generators_, statistics_, deadline_);
      const auto result = worker.run();
      const int status = result ? 0 : failed(result.error());
      std::fflush(stdout);
      ::_exit(status);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  }

  void report_crash(int status) {
    statistics_.engine_crashes++;
    const std::uint64_t number = statistics_.running_case;
    if (statistics_.reports++ >= options_.max_reports) return;
    const std::string how = WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                                : fmt::format("status {}", WEXITSTATUS(status));
    const Generator& generator = generators_[static_cast<unsigned>(width_of_case(options_, number))];
    fmt::print("\nENGINE CRASH ({}): {}\n", how, command_line(options_, number));
    Case the_case;
    generator.make(options_.seed, number).lay_out(the_case);
    fmt::print("{}", describe_case(generator.decoder(), the_case));
    std::fflush(stdout);
  }

  void summary() const {
    const Statistics& s = statistics_;
    fmt::print("\n{} snippets, {} instructions compared ({} snippets ended in a fault)\n", s.snippets, s.instructions,
               s.faults);
    fmt::print("natively {} lost, {} not the same twice; {} runs undetermined\n", s.lost, s.unsteady, s.undetermined);
    fmt::print("{} differing ({} kinds), {} engine crashes\n", s.differing, s.signature_count, s.engine_crashes);
    if (!options_.uncovered) return;
    for (const Generator& generator : generators_)
      if (!options_.width || *options_.width == generator.width()) coverage(generator);
    fmt::print("\n{}", mask_text);
  }

  void coverage(const Generator& generator) const {
    const auto width = static_cast<unsigned>(generator.width());
    constexpr unsigned listed = 40;
    unsigned missing = 0;
    std::string names;
    for (const RowTemplates& row : generator.rows()) {
      if (statistics_.rows[width][row.mnemonic]) continue;
      if (missing++ < listed) names += fmt::format(" {}", ZydisMnemonicGetString(row.mnemonic));
    }
    fmt::print("{}-bit code: {} of {} rows compared; never:{}{}\n", code_width_names[width],
               generator.rows().size() - missing, generator.rows().size(), missing ? names : " none",
               missing > listed ? " ..." : "");
  }

  const Options& options_;
  Statistics& statistics_;
  const cpu::CpuidPolicy policy_;
  const Generators generators_;
  const Worker::Clock::time_point deadline_;
};

}  // namespace

int supervise(const Options& options) {
  auto statistics = make_statistics();
  if (!statistics) {
    fmt::print(stderr, "fuzz_cpu: {}\n", statistics.error().message());
    return host_failed;
  }
  Supervisor supervisor(options, *statistics.value());
  return options.regressions.empty() ? supervisor.run() : supervisor.run_regressions();
}

}  // namespace veneer::fuzz
