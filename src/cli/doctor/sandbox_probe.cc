// veneer doctor: kernel services for speed, isolation and measuring, which containers often forbid.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/thread_start.h"
#include "cli/doctor/doctor.h"
#include "cli/doctor/trial.h"
#include "sandbox/sandbox.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace veneer::cli {
namespace {

using Level = Finding::Level;

Fd fd_of(long result) { return Fd(static_cast<int>(result)); }

TrialResult try_io_uring() {
  io_uring_params params{};
  const Fd ring = fd_of(syscall(SYS_io_uring_setup, 4u, &params));
  if (!ring.valid()) return {false, errno_text("io_uring_setup")};
  return {true, {}};
}

/// Faults of user mode are enough for lazy restore, and need no privilege since Linux 5.11.
TrialResult try_userfaultfd() {
  Fd fd = fd_of(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  if (!fd.valid() && errno == EINVAL) fd = fd_of(syscall(SYS_userfaultfd, O_CLOEXEC));
  if (!fd.valid()) return {false, errno_text("userfaultfd")};
  uffdio_api api{};
  api.api = UFFD_API;
  if (ioctl(fd.get(), UFFDIO_API, &api) != 0) return {false, errno_text("UFFDIO_API")};
  return {true, {}};
}

TrialResult try_user_namespace() {
  if (unshare(CLONE_NEWUSER) != 0) return {false, errno_text("unshare")};
  return {true, {}};
}

TrialResult try_seccomp() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return {false, errno_text("PR_SET_NO_NEW_PRIVS")};
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog program{1, &allow};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) != 0)
    return {false, errno_text("installing a filter")};
  return {true, {}};
}

TrialResult try_landlock() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0ul, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 0) return {false, errno_text("landlock_create_ruleset")};
  return {true, fmt::format("ABI version {}", abi)};
}

/// The real thing, on a thread that then does what it must not: the kernel has to stop it.
TrialResult try_whole_sandbox() {
  const int log = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  dup2(log, STDERR_FILENO);  // the message of the violation
  const std::vector<std::string> gaps = sandbox::prepare(nullptr);
  if (!gaps.empty()) return {false, gaps.front()};
  std::thread([] {
    begin_thread(ThreadKind::Vcpu, "vcpu0");
    ::open("/proc/self/mem", O_RDWR);
    _exit(0);  // it came back
  }).join();
  return {false, "the forbidden call came back"};
}

TrialResult try_perf() {
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.size = sizeof(attributes);
  attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  const Fd fd = fd_of(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0ul));
  if (!fd.valid()) return {false, errno_text("perf_event_open")};
  std::uint64_t count = 0;
  if (::read(fd.get(), &count, sizeof(count)) != sizeof(count)) return {false, errno_text("reading the counter")};
  return {count != 0, "the instruction counter stands still"};
}

void probe_processes(Findings& findings) {
  std::string limit = read_line("/sys/fs/cgroup/pids.max");
  if (limit.empty()) limit = read_line("/sys/fs/cgroup/pids/pids.max");
  rlimit processes{};
  getrlimit(RLIMIT_NPROC, &processes);
  std::string found = processes.rlim_cur == RLIM_INFINITY ? "no limit for this user"
                                                          : fmt::format("{} for this user", processes.rlim_cur);
  if (!limit.empty()) found += fmt::format(", cgroup pids.max {}", limit);
  const bool tight = processes.rlim_cur < 64;
  findings.push_back({tight ? Level::Limited : Level::Good, "threads", found,
                      tight ? "a machine needs a thread per CPU and a few more: raise ulimit -u" : ""});
}

}  // namespace

void probe_sandbox(Findings& findings) {
  const auto check = [&](const char* what, TrialResult (*trial)(), const char* good, const char* without,
                         const char* advice) {
    const TrialResult result = run_trial(5, trial);
    if (result.ok)
      findings.push_back({Level::Good, what, good + (result.text.empty() ? "" : " (" + result.text + ")"), {}});
    else
      findings.push_back({Level::Limited, what, fmt::format("{}; {}", result.text, without), advice});
  };
  check("io_uring", try_io_uring, "a ring can be made", "disks use a thread pool",
        "sysctl kernel.io_uring_disabled=0, and allow it in the container's seccomp profile");
  check("userfaultfd", try_userfaultfd, "usable", "snapshots are restored eagerly",
        "sysctl vm.unprivileged_userfaultfd=1, or a container profile that allows it");
  check("user namespaces", try_user_namespace, "can be made", "backends are confined less",
        "sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone");
  check("seccomp", try_seccomp, "a filter can be installed", "system calls are not confined",
        "build the kernel with CONFIG_SECCOMP_FILTER");
  check("Landlock", try_landlock, "usable", "file access is not confined",
        "boot with lsm=landlock,... on a kernel built with CONFIG_SECURITY_LANDLOCK");
  const TrialResult whole = run_trial(5, try_whole_sandbox);
  // A violation ends the process with status 1 and nothing to say.
  if (!whole.ok && whole.text.empty())
    findings.push_back({Level::Good, "sandbox", "a thread that opens a file is stopped", {}});
  else
    findings.push_back({Level::Limited, "sandbox", whole.text.empty() ? "a forbidden call came back" : whole.text,
                        "see the lines seccomp and Landlock; what breaks out of a guest has more rights here"});
  check("perf events", try_perf, "instructions can be counted", "no profiles of guest code",
        "sysctl kernel.perf_event_paranoid=2 or lower; inside a VM its host must offer a PMU");
  probe_processes(findings);
}

}  // namespace veneer::cli
