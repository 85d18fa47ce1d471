// Putting the parts of the sandbox together, thread by thread.
#include "sandbox/sandbox.h"

#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include <limits>
#include <optional>

#include "base/log.h"
#include "base/thread_start.h"
#include "sandbox/descriptors.h"
#include "sandbox/filter.h"
#include "sandbox/landlock.h"
#include "sandbox/privileges.h"
#include "sandbox/test_attempt.h"
#include "sandbox/violation.h"

namespace veneer::sandbox {
namespace {

constexpr int malloc_arenas = 16;

/// Set up by prepare(), before there are threads.
struct State {
  bool active = false;
  bool seccomp = false;
  std::optional<Fd> no_files;    // Landlock rules of every thread but the main one; empty: the kernel has no Landlock
  std::optional<Fd> main_files;  // of the main thread
  std::optional<Fd> net_files;   // of a network's threads: no files, but TCP
  std::optional<Fd> served;      // of those that serve files: TCP, and reading what is served
};
State state;

/// A part that worked in prepare() or on the thread before has no reason to fail now; say it, and go on with the rest.
void report(const Result<void>& result, ThreadKind kind) {
  if (!result) log_error("the sandbox of thread kind {} has a hole: {}", kind_name(kind), result.error().message());
}

/// A blocked SIGSYS would end the process without a word.
void unblock_violations() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void confine(ThreadKind kind) {
  report(give_up_privileges(), kind);
  const std::optional<Fd>& files = kind == ThreadKind::Main       ? state.main_files
                                   : kind == ThreadKind::Net      ? state.net_files
                                   : kind == ThreadKind::NetFiles ? state.served
                                                                  : state.no_files;
  if (files) report(enforce_landlock(*files), kind);
  if (state.seccomp) {
    unblock_violations();
    report(install_filter(kind), kind);  // last: it forbids the calls above
  }
  attempt_if_planned(kind);
}

}  // namespace

std::vector<std::string> prepare(void (*before_end)(), const std::vector<std::string>& served_directories) {
  std::vector<std::string> gaps;
  state.active = true;
  // Left to itself malloc counts the host's processors when it has made its eighth arena, which opens a file.
  ::mallopt(M_ARENA_MAX, malloc_arenas);
  // And before it gives the end of a thread's heap back it looks into /proc/sys/vm/overcommit_memory: it shall not.
  // (What is large comes from mmap and goes back whole; setting this keeps that limit from rising, too.)
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  install_violation_handler(before_end);
  hide_memory();
  if (relaxed_build) {
    gaps.emplace_back("this build has sanitizers, which need to open, map and trace: no seccomp filter, no Landlock");
  } else {
    state.seccomp = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
    if (!state.seccomp) gaps.emplace_back("this kernel has no seccomp: system calls are not confined");
    auto ruleset = make_landlock_ruleset({});
    auto with_tcp = make_landlock_ruleset({}, Tcp::Allowed);
    if (with_tcp) state.net_files = std::move(with_tcp).value();
    auto serving = make_landlock_ruleset({}, Tcp::Allowed, served_directories);
    if (serving) state.served = std::move(serving).value();
    if (ruleset)
      state.no_files = std::move(ruleset).value();
    else
      gaps.push_back(fmt::format("this kernel offers no Landlock ({}): files are kept by seccomp alone",
                                 ruleset.error().message()));
  }
  set_thread_hook(confine);
  return gaps;
}

void enter_main(const std::vector<std::string>& cleanup_directories, const std::vector<int>& inherited_descriptors) {
  if (!state.active) return;
  close_descriptors(inherited_descriptors);
  if (state.no_files) {
    auto ruleset = make_landlock_ruleset(cleanup_directories);
    if (ruleset)
      state.main_files = std::move(ruleset).value();
    else
      log_error("the sandbox has a hole: {}", ruleset.error().message());
  }
  begin_thread(ThreadKind::Main, nullptr);
}

bool confines_files() { return state.served.has_value() || relaxed_build; }

bool active() { return state.active; }

}  // namespace veneer::sandbox
