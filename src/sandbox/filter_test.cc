// The filters, interpreted: what each kind of thread may and may not do.
#include "sandbox/filter.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace veneer::sandbox {
namespace {

constexpr int pid = 4711;

/// Runs the classic BPF program on one system call (only the instructions that make_filter() uses).
std::uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < program.size(); ++at) {
    const sock_filter& i = program[at];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + i.k, sizeof accumulator);
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += accumulator == i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += accumulator >= i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        at += (accumulator & i.k) != 0 ? i.jt : i.jf;
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        ADD_FAILURE() << "unknown instruction " << i.code;
        return 0;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return 0;
}

std::uint32_t answer(ThreadKind kind, int number, std::array<std::uint64_t, 6> arguments = {}) {
  seccomp_data data{};
  data.arch = AUDIT_ARCH_X86_64;
  data.nr = number;
  for (std::size_t i = 0; i < arguments.size(); ++i) data.args[i] = arguments[i];
  return run(make_filter(kind, pid), data);
}

bool allowed(ThreadKind kind, int number, std::array<std::uint64_t, 6> arguments = {}) {
  return answer(kind, number, arguments) == SECCOMP_RET_ALLOW;
}

bool of_network(ThreadKind kind) { return kind == ThreadKind::Net || kind == ThreadKind::NetFiles; }

class EveryKind : public testing::TestWithParam<unsigned> {
 protected:
  ThreadKind kind() const { return static_cast<ThreadKind>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, testing::Range(0u, thread_kind_count));

TEST_P(EveryKind, StartsNoProgram) { EXPECT_EQ(answer(kind(), SYS_execve), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, OpensNoFileButWhatIsServed) {
  EXPECT_EQ(allowed(kind(), SYS_openat, {3, 0x1000, O_RDONLY | O_CLOEXEC}), kind() == ThreadKind::NetFiles);
  for (const std::uint64_t flags : {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE})
    EXPECT_FALSE(allowed(kind(), SYS_openat, {3, 0x1000, flags}));
}
TEST(Filter, ANetworkFindsNoFiles) {
  EXPECT_EQ(answer(ThreadKind::Net, SYS_openat), SECCOMP_RET_ERRNO | unsigned{ENOENT});
  EXPECT_EQ(answer(ThreadKind::Net, SYS_newfstatat, {1, 0, 0, 0}), SECCOMP_RET_ERRNO | unsigned{ENOENT});
}
TEST_P(EveryKind, MakesNoSocketButForTheNetwork) {
  EXPECT_EQ(allowed(kind(), SYS_socket, {AF_INET, SOCK_STREAM}), of_network(kind()));
  EXPECT_EQ(answer(kind(), SYS_socket, {AF_UNIX, SOCK_STREAM}), SECCOMP_RET_TRAP);
  EXPECT_EQ(answer(kind(), SYS_socket, {AF_NETLINK, SOCK_DGRAM}), SECCOMP_RET_TRAP);
  EXPECT_EQ(answer(kind(), SYS_socket, {AF_INET, SOCK_RAW}), SECCOMP_RET_TRAP);
}
TEST_P(EveryKind, OpensNoPort) { EXPECT_EQ(answer(kind(), SYS_listen), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, ConnectsNowhereButForTheNetwork) { EXPECT_EQ(allowed(kind(), SYS_connect), of_network(kind())); }
TEST_P(EveryKind, MakesNoProcess) { EXPECT_EQ(answer(kind(), SYS_clone, {SIGCHLD}), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, MakesNoRing) { EXPECT_EQ(answer(kind(), SYS_io_uring_setup), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, TracesNobody) { EXPECT_EQ(answer(kind(), SYS_ptrace), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, ReadsNoForeignMemory) { EXPECT_EQ(answer(kind(), SYS_process_vm_readv), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, KillsNobodyElse) { EXPECT_EQ(answer(kind(), SYS_tgkill, {1}), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, MayAbort) { EXPECT_TRUE(allowed(kind(), SYS_tgkill, {pid})); }
TEST_P(EveryKind, MapsMemory) { EXPECT_TRUE(allowed(kind(), SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE})); }
TEST_P(EveryKind, MapsNoCode) {
  EXPECT_EQ(answer(kind(), SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC}), SECCOMP_RET_TRAP);
}
TEST_P(EveryKind, MakesNothingExecutable) {
  EXPECT_EQ(answer(kind(), SYS_mprotect, {0, 4096, PROT_EXEC}), SECCOMP_RET_TRAP);
}
TEST_P(EveryKind, ReadsTerminalSettings) { EXPECT_TRUE(allowed(kind(), SYS_ioctl, {0, TCGETS})); }
TEST_P(EveryKind, TypesIntoNoTerminal) { EXPECT_EQ(answer(kind(), SYS_ioctl, {0, TIOCSTI}), SECCOMP_RET_TRAP); }
TEST_P(EveryKind, LooksAtDescriptorsOnlyButForWhatIsServed) {
  EXPECT_TRUE(allowed(kind(), SYS_newfstatat, {1, 0, 0, AT_EMPTY_PATH}));
  EXPECT_EQ(allowed(kind(), SYS_newfstatat, {1, 0, 0, 0}), kind() == ThreadKind::NetFiles);
}
TEST_P(EveryKind, HasNoOtherArchitecture) {
  seccomp_data data{};
  data.arch = AUDIT_ARCH_I386;
  data.nr = SYS_read;
  EXPECT_EQ(run(make_filter(kind(), pid), data), SECCOMP_RET_KILL_PROCESS);
}
TEST_P(EveryKind, HasNoX32) { EXPECT_EQ(answer(kind(), 0x4000'0000 | SYS_read), SECCOMP_RET_TRAP); }

TEST(Filter, OnlyTheMainThreadStartsThreads) {
  EXPECT_TRUE(allowed(ThreadKind::Main, SYS_clone, {CLONE_VM | CLONE_THREAD}));
  EXPECT_FALSE(allowed(ThreadKind::Vcpu, SYS_clone, {CLONE_VM | CLONE_THREAD}));
}

TEST(Filter, CloneThreeIsAnsweredAsUnknown) {
  EXPECT_EQ(answer(ThreadKind::Main, SYS_clone3), SECCOMP_RET_ERRNO | unsigned{ENOSYS});
}

TEST(Filter, OnlyServersTalkToClients) {
  EXPECT_TRUE(allowed(ThreadKind::Server, SYS_accept4));
  EXPECT_FALSE(allowed(ThreadKind::Vcpu, SYS_accept4));
  EXPECT_FALSE(allowed(ThreadKind::Output, SYS_recvfrom));
}

TEST(Filter, DiskThreadsAskBlockDevices) {
  for (const ThreadKind kind : {ThreadKind::Vcpu, ThreadKind::Events, ThreadKind::Worker, ThreadKind::Remote})
    for (const std::uint64_t request : std::array<std::uint64_t, 3>{BLKGETSIZE64, BLKDISCARD, BLKZEROOUT})
      EXPECT_TRUE(allowed(kind, SYS_ioctl, {0, request}));
}
TEST(Filter, OthersAskNoBlockDevice) { EXPECT_FALSE(allowed(ThreadKind::Console, SYS_ioctl, {0, BLKDISCARD})); }
TEST(Filter, NobodyReadsPartitionsAnew) { EXPECT_FALSE(allowed(ThreadKind::Worker, SYS_ioctl, {0, BLKRRPART})); }

TEST(Filter, OnlyWorkersWithAServerUseSockets) {
  EXPECT_TRUE(allowed(ThreadKind::Remote, SYS_sendto, {3, 1, 1, 0, 0, 0}));
  EXPECT_TRUE(allowed(ThreadKind::Remote, SYS_recvfrom));
  EXPECT_FALSE(allowed(ThreadKind::Worker, SYS_sendto));
  EXPECT_FALSE(allowed(ThreadKind::Worker, SYS_recvfrom));
}
TEST(Filter, WorkersWithAServerSendToNobodyElse) {
  EXPECT_FALSE(allowed(ThreadKind::Remote, SYS_sendto, {3, 1, 1, 0, 0x1000, 16}));
  EXPECT_FALSE(allowed(ThreadKind::Remote, SYS_sendto, {3, 1, 1, 0, std::uint64_t{1} << 32, 16}));
}

TEST(Filter, OnlyTheMainThreadRemovesFiles) {
  EXPECT_TRUE(allowed(ThreadKind::Main, SYS_unlink));
  EXPECT_FALSE(allowed(ThreadKind::Server, SYS_unlink));
}

TEST(Filter, StopsOnlyItsOwnProcess) {
  EXPECT_TRUE(allowed(ThreadKind::Signals, SYS_kill, {pid}));
  EXPECT_FALSE(allowed(ThreadKind::Signals, SYS_kill, {1}));
  EXPECT_FALSE(allowed(ThreadKind::Console, SYS_kill, {pid}));
}

}  // namespace
}  // namespace veneer::sandbox
