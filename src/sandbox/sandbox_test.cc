// The sandbox on real threads, each in a process of its own.
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/thread_start.h"
#include "sandbox/descriptors.h"
#include "sandbox/landlock.h"
#include "sandbox/privileges.h"
#include "sandbox/syscall_names.h"

namespace veneer::sandbox {
namespace {

/// Confines a new thread of this kind, lets it do `work` and ends the process with what it gave.
[[noreturn]] void on_confined_thread(ThreadKind kind, const std::function<int()>& work) {
  prepare(nullptr);
  int status = 1;
  std::thread([&] {
    begin_thread(kind, "the-thread");
    status = work();
  }).join();
  ::_exit(status);
}

int try_open() { return ::open("/etc/passwd", O_RDONLY) < 0 ? 98 : 99; }

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (relaxed_build) GTEST_SKIP() << "no filters in builds with a sanitizer";
    testing::FLAGS_gtest_death_test_style = "threadsafe";
  }
};
using LandlockTest = SandboxTest;

TEST_F(SandboxTest, SaysWhichCallAndWhichThread) {
  EXPECT_EXIT(on_confined_thread(ThreadKind::Vcpu, try_open), testing::ExitedWithCode(1),
              "stopped the thread \"the-thread\" at the system call openat \\(number 257\\)");
}

TEST_F(SandboxTest, SaysWhatToDo) {
  EXPECT_EXIT(on_confined_thread(ThreadKind::Events, try_open), testing::ExitedWithCode(1), "--sandbox off");
}

TEST_F(SandboxTest, SpeaksWithSignalsBlocked) {
  EXPECT_EXIT(on_confined_thread(ThreadKind::Vcpu,
                                 [] {
                                   sigset_t all;
                                   sigfillset(&all);
                                   sigdelset(&all, SIGSYS);
                                   pthread_sigmask(SIG_SETMASK, &all, nullptr);
                                   return try_open();
                                 }),
              testing::ExitedWithCode(1), "openat");
}

TEST_F(SandboxTest, LetsAThreadFreeWhatItAllocatedInSmallPieces) {
  // malloc would open a file before it makes a thread's heap smaller.
  EXPECT_EXIT(on_confined_thread(ThreadKind::Vcpu,
                                 [] {
                                   std::vector<void*> pieces(8192);
                                   for (void*& piece : pieces) piece = std::malloc(4096);
                                   while (!pieces.empty()) {
                                     std::free(pieces.back());
                                     pieces.pop_back();
                                   }
                                   return 7;
                                 }),
              testing::ExitedWithCode(7), "");
}

TEST_F(SandboxTest, LetsTheThreadWork) {
  EXPECT_EXIT(on_confined_thread(ThreadKind::Worker,
                                 [] {
                                   void* memory = std::malloc(64 << 20);
                                   std::fputs("it works\n", stderr);
                                   std::free(memory);
                                   return 7;
                                 }),
              testing::ExitedWithCode(7), "it works");
}

TEST_F(SandboxTest, AConfinedMainThreadStartsThreads) {
  EXPECT_EXIT(
      {
        prepare(nullptr);
        enter_main({}, {});
        int status = 1;
        std::thread([&] {
          begin_thread(ThreadKind::Vcpu, "vcpu0");
          status = 7;
        }).join();
        ::_exit(status);
      },
      testing::ExitedWithCode(7), "^$");
}

TEST_F(SandboxTest, MemoryIsHidden) {
  EXPECT_EXIT(
      {
        hide_memory();
        ::_exit(::prctl(PR_GET_DUMPABLE) == 0 ? 7 : 1);
      },
      testing::ExitedWithCode(7), "");
}

TEST(Privileges, NoCapabilityIsLeft) {
  EXPECT_EXIT(
      {
        const bool ok = give_up_privileges().ok();
        std::FILE* status = std::fopen("/proc/thread-self/status", "r");
        char line[256];
        while (std::fgets(line, sizeof line, status))
          if (std::string_view(line).starts_with("Cap") || std::string_view(line).starts_with("NoNew"))
            std::fputs(line, stderr);
        ::_exit(ok ? 7 : 1);
      },
      testing::ExitedWithCode(7), "CapPrm:\t0+\nCapEff:\t0+\n(CapBnd:.*\n)CapAmb:\t0+\nNoNewPrivs:\t1\n");
}

TEST_F(LandlockTest, ForbidsOpening) {
  if (landlock_version() == 0) GTEST_SKIP() << "no Landlock here";
  EXPECT_EXIT(
      {
        const auto rules = make_landlock_ruleset({});
        if (!rules || !give_up_privileges() || !enforce_landlock(rules.value())) ::_exit(1);
        const int fd = ::open("/etc/passwd", O_RDONLY);
        ::_exit(fd < 0 && errno == EACCES ? 7 : 2);
      },
      testing::ExitedWithCode(7), "");
}

TEST_F(LandlockTest, AllowsRemovingWhereItWasTold) {
  if (landlock_version() == 0) GTEST_SKIP() << "no Landlock here";
  char inside[] = "/tmp/veneer-in-XXXXXX";
  char outside[] = "/tmp/veneer-out-XXXXXX";
  ASSERT_NE(::mkdtemp(inside), nullptr);
  ASSERT_NE(::mkdtemp(outside), nullptr);
  const std::string good = std::string(inside) + "/socket";
  const std::string bad = std::string(outside) + "/file";
  for (const std::string& path : {good, bad}) ::close(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EXIT(
      {
        const auto rules = make_landlock_ruleset({inside});
        if (!rules || !give_up_privileges() || !enforce_landlock(rules.value())) ::_exit(1);
        const bool removed = ::unlink(good.c_str()) == 0;
        const bool kept = ::unlink(bad.c_str()) != 0 && errno == EACCES;
        ::_exit(removed && kept ? 7 : 2);
      },
      testing::ExitedWithCode(7), "");
  EXPECT_EQ(::unlink(bad.c_str()), 0);
  ::rmdir(inside);
  ::rmdir(outside);
}

TEST(Descriptors, InheritedOnesAreFoundAndClosed) {
  const int mine = ::dup(STDERR_FILENO);
  const std::vector<int> before = open_descriptors();
  EXPECT_NE(std::find(before.begin(), before.end(), mine), before.end());
  close_descriptors({mine});
  EXPECT_LT(::fcntl(mine, F_GETFD), 0);
}

TEST(SyscallNames, BothWays) {
  EXPECT_EQ(syscall_name(SYS_execve), "execve");
  EXPECT_EQ(syscall_number("openat"), SYS_openat);
  EXPECT_EQ(syscall_name(99999), "");
}

}  // namespace
}  // namespace veneer::sandbox
