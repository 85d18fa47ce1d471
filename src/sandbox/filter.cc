// Compiling the policy to BPF.
#include "sandbox/filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <initializer_list>

namespace veneer::sandbox {
namespace {

constexpr std::uint32_t ALLOW = SECCOMP_RET_ALLOW;
constexpr std::uint32_t TRAP = SECCOMP_RET_TRAP;
constexpr std::uint32_t X32_BIT = 0x4000'0000;  // system calls of the x32 ABI have it in their number

constexpr sock_filter statement(unsigned code, std::uint32_t k) { return {static_cast<std::uint16_t>(code), 0, 0, k}; }
constexpr sock_filter jump(unsigned code, std::uint32_t k, std::size_t if_true, std::size_t if_false) {
  return {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(if_true), static_cast<std::uint8_t>(if_false), k};
}
constexpr sock_filter load(std::size_t offset) {
  return statement(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
}
/// The low half of an argument: all that the checked ones use.
constexpr sock_filter load_argument(unsigned index) {
  return load(offsetof(seccomp_data, args) + index * sizeof(std::uint64_t));
}
constexpr sock_filter load_argument_high(unsigned index) {
  return load(offsetof(seccomp_data, args) + index * sizeof(std::uint64_t) + sizeof(std::uint32_t));
}
constexpr sock_filter answer(std::uint32_t action) { return statement(BPF_RET | BPF_K, action); }

using Program = std::vector<sock_filter>;

/// Allows when the argument is one of these.
Program one_of(unsigned argument, std::initializer_list<std::uint32_t> values) {
  Program out{load_argument(argument)};
  std::size_t left = values.size();
  for (const std::uint32_t value : values) out.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, value, left--, 0));
  out.push_back(answer(TRAP));
  out.push_back(answer(ALLOW));
  return out;
}

/// Looks at some bits of the argument.
Program bits(unsigned argument, std::uint32_t mask, std::uint32_t if_set, std::uint32_t if_clear) {
  return {load_argument(argument), jump(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1), answer(if_set), answer(if_clear)};
}

/// Allows when the argument, a pointer, is null.
Program null_pointer(unsigned argument) {
  return {load_argument(argument),
          jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
          load_argument_high(argument),
          jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
          answer(TRAP),
          answer(ALLOW)};
}

/// What is looked at once the number is known. Every path ends in an answer.
Program check_program(Check check, int own_pid) {
  switch (check) {
    case Check::Always:
      return {answer(ALLOW)};
    case Check::NoExec:
      return bits(2, PROT_EXEC, TRAP, ALLOW);
    case Check::OwnProcess:
      return one_of(0, {static_cast<std::uint32_t>(own_pid)});
    case Check::TerminalRequest:
      return one_of(1, {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ});
    case Check::DeviceRequest:
      return one_of(1, {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ, BLKGETSIZE64, BLKDISCARD, BLKZEROOUT});
    case Check::NoAddress:
      return null_pointer(4);
    case Check::ThreadOnly:
      return bits(0, CLONE_THREAD, ALLOW, TRAP);
    case Check::EmptyPath:
      return bits(3, AT_EMPTY_PATH, ALLOW, TRAP);
    case Check::NoSuchFile:
      return {answer(SECCOMP_RET_ERRNO | ENOENT)};
    case Check::NoSuchPath:
      return bits(3, AT_EMPTY_PATH, ALLOW, SECCOMP_RET_ERRNO | ENOENT);
    case Check::ReadOnly:
      return bits(2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY), TRAP, ALLOW);
    case Check::InternetSocket: {
      // Two arguments: the first one's program, its last answer (yes) replaced by the second one's.
      Program out = one_of(0, {AF_INET, AF_INET6});
      out.pop_back();
      const Program kind = one_of(1, {SOCK_STREAM, SOCK_DGRAM, SOCK_STREAM | SOCK_CLOEXEC, SOCK_DGRAM | SOCK_CLOEXEC});
      out.insert(out.end(), kind.begin(), kind.end());
      return out;
    }
    case Check::PendingBytes:
      return one_of(1, {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGPGRP, TIOCGWINSZ, FIONREAD});
    case Check::PlainFcntl:
      return one_of(1, {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_OFD_SETLK, F_OFD_GETLK});
    case Check::OwnPrctl:
      return one_of(0, {PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT});
    case Check::NotThere:
      return {answer(SECCOMP_RET_ERRNO | ENOSYS)};
  }
  return {answer(TRAP)};
}

}  // namespace

std::vector<sock_filter> make_filter(ThreadKind kind, int own_pid) {
  Program out{load(offsetof(seccomp_data, arch)),
              jump(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
              answer(SECCOMP_RET_KILL_PROCESS),
              load(offsetof(seccomp_data, nr)),
              jump(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
              answer(TRAP)};
  for (const Rule& rule : policy()) {
    if (!applies(rule, kind)) continue;
    const Program body = check_program(rule.check, own_pid);
    out.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, rule.number, 0, body.size()));
    out.insert(out.end(), body.begin(), body.end());
  }
  out.push_back(answer(TRAP));
  return out;
}

Result<void> install_filter(ThreadKind kind) {
  std::vector<sock_filter> filter = make_filter(kind, ::getpid());
  const sock_fprog program{static_cast<std::uint16_t>(filter.size()), filter.data()};
  // Without SPEC_ALLOW older kernels switch on SSBD for the thread, which costs every store (traps.md 23).
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) != 0)
    return Error::from_errno("installing a seccomp filter", errno);
  return {};
}

}  // namespace veneer::sandbox
