// The table of system calls. docs/security.md says how to extend it.
#include "sandbox/policy.h"

#include <sys/syscall.h>

#include <array>

namespace veneer::sandbox {
namespace {

using enum Check;

constexpr std::uint16_t MAIN = bit_of(ThreadKind::Main);
constexpr std::uint16_t VCPU = bit_of(ThreadKind::Vcpu);
constexpr std::uint16_t EVENTS = bit_of(ThreadKind::Events);
constexpr std::uint16_t WORKER = bit_of(ThreadKind::Worker);
constexpr std::uint16_t CONSOLE = bit_of(ThreadKind::Console);
constexpr std::uint16_t SIGNALS = bit_of(ThreadKind::Signals);
constexpr std::uint16_t OUTPUT = bit_of(ThreadKind::Output);
constexpr std::uint16_t SERVER = bit_of(ThreadKind::Server);
/// A worker with a server behind its disk.
constexpr std::uint16_t REMOTE = bit_of(ThreadKind::Remote);
constexpr std::uint16_t NET_FILES = bit_of(ThreadKind::NetFiles);
constexpr std::uint16_t NET = network_kinds;
constexpr std::uint16_t ALL = (1u << thread_kind_count) - 1;
/// Those that may carry out a guest's request to a device.
constexpr std::uint16_t DEVICES = VCPU | EVENTS | WORKER | REMOTE;

constexpr std::array rules = {
    // Waiting, time and threads
    Rule{SYS_futex, ALL, Always},
    Rule{SYS_clock_gettime, ALL, Always},  // where the vDSO has no answer
    Rule{SYS_clock_nanosleep, ALL, Always},
    Rule{SYS_nanosleep, ALL, Always},
    Rule{SYS_gettimeofday, ALL, Always},
    Rule{SYS_sched_yield, ALL, Always},
    Rule{SYS_sched_getaffinity, ALL, Always},  // malloc counts processors for its arenas
    Rule{SYS_restart_syscall, ALL, Always},
    Rule{SYS_getpid, ALL, Always},
    Rule{SYS_gettid, ALL, Always},
    Rule{SYS_set_robust_list, ALL, Always},  // the start of a thread
    Rule{SYS_rseq, ALL, Always},
    Rule{SYS_membarrier, DEVICES | NET, Always},
    Rule{SYS_exit, ALL, Always},
    Rule{SYS_exit_group, ALL, Always},

    // Memory
    Rule{SYS_mmap, ALL, NoExec},
    Rule{SYS_mprotect, ALL, NoExec},
    Rule{SYS_mremap, ALL, Always},
    Rule{SYS_munmap, ALL, Always},
    Rule{SYS_madvise, ALL, Always},
    Rule{SYS_brk, ALL, Always},
    Rule{SYS_getrandom, ALL, Always},

    // Signals: faults of translated code, and our own end
    Rule{SYS_rt_sigreturn, ALL, Always},
    Rule{SYS_rt_sigprocmask, ALL, Always},
    Rule{SYS_rt_sigaction, ALL, Always},
    Rule{SYS_sigaltstack, ALL, Always},
    Rule{SYS_tgkill, ALL, OwnProcess},
    Rule{SYS_kill, SIGNALS, OwnProcess},
    Rule{SYS_rt_sigtimedwait, SIGNALS, Always},

    // Descriptors that are open
    Rule{SYS_read, ALL, Always},
    Rule{SYS_write, ALL, Always},
    Rule{SYS_writev, ALL, Always},
    Rule{SYS_close, ALL, Always},
    Rule{SYS_lseek, ALL, Always},
    Rule{SYS_fcntl, ALL, PlainFcntl},
    Rule{SYS_fstat, ALL, Always},
    Rule{SYS_openat, NET_FILES, ReadOnly},  // Landlock says where
    Rule{SYS_openat, NET, NoSuchFile},      // libslirp looks for a name server of IPv6, and does without
    Rule{SYS_newfstatat, NET_FILES, Always},
    Rule{SYS_newfstatat, NET, NoSuchPath},
    Rule{SYS_newfstatat, ALL, EmptyPath},
    Rule{SYS_poll, CONSOLE | OUTPUT | SERVER | REMOTE | NET, Always},
    Rule{SYS_ppoll, CONSOLE | OUTPUT | SERVER | NET, Always},
    Rule{SYS_epoll_wait, EVENTS, Always},
    Rule{SYS_epoll_pwait, EVENTS, Always},
    Rule{SYS_epoll_ctl, DEVICES | SERVER | CONSOLE, Always},
    Rule{SYS_timerfd_settime, ALL, Always},   // whoever arms a timer under the board lock
    Rule{SYS_ioctl, DEVICES, DeviceRequest},  // the first row that applies counts
    Rule{SYS_ioctl, NET, PendingBytes},
    Rule{SYS_ioctl, ALL, TerminalRequest},  // a crash on any thread gives the terminal back
    Rule{SYS_getpgrp, CONSOLE | SIGNALS, Always},

    // Files that are open: disks
    Rule{SYS_pread64, DEVICES | SERVER, Always},
    Rule{SYS_preadv, DEVICES, Always},
    Rule{SYS_preadv2, DEVICES, Always},
    Rule{SYS_pwrite64, DEVICES | SERVER, Always},  // veneer save writes on the control socket's thread
    Rule{SYS_pwritev, DEVICES, Always},
    Rule{SYS_pwritev2, DEVICES, Always},
    Rule{SYS_readv, DEVICES | NET, Always},
    Rule{SYS_fsync, DEVICES | SERVER, Always},
    Rule{SYS_fdatasync, DEVICES, Always},
    Rule{SYS_fallocate, DEVICES, Always},
    Rule{SYS_ftruncate, DEVICES | SERVER, Always},
    Rule{SYS_io_uring_enter, DEVICES, Always},  // a ring that was made before; docs/security.md says with what limits

    // Sockets that are there
    Rule{SYS_accept4, SERVER, Always},
    Rule{SYS_recvfrom, SERVER | EVENTS | REMOTE | NET, Always},
    Rule{SYS_recvmsg, SERVER | EVENTS | NET, Always},
    Rule{SYS_sendto, SERVER | EVENTS | NET, Always},
    Rule{SYS_sendto, REMOTE, NoAddress},
    Rule{SYS_sendmsg, SERVER | EVENTS | REMOTE | NET, Always},  // for REMOTE: TLS
    Rule{SYS_setsockopt, SERVER | NET, Always},
    Rule{SYS_getsockopt, SERVER | NET, Always},
    Rule{SYS_shutdown, SERVER | EVENTS | NET, Always},

    // Sockets of a guest's connections: the network in user space (docs/network.md)
    Rule{SYS_socket, NET, InternetSocket},
    Rule{SYS_connect, NET, Always},
    Rule{SYS_accept, NET, Always},
    Rule{SYS_getsockname, NET, Always},
    Rule{SYS_getpeername, NET, Always},

    // The main thread: starting the others, confining them, and taking everything apart
    Rule{SYS_clone, MAIN, ThreadOnly},
    Rule{SYS_clone3, MAIN, NotThere},  // its flags are in memory, where a filter cannot look
    Rule{SYS_prctl, MAIN, OwnPrctl},
    Rule{SYS_capget, MAIN, Always},
    Rule{SYS_capset, MAIN, Always},
    Rule{SYS_landlock_restrict_self, MAIN, Always},
    Rule{SYS_seccomp, MAIN, Always},
    Rule{SYS_unlink, MAIN, Always},  // Landlock says where
    Rule{SYS_rmdir, MAIN, Always},
    Rule{SYS_getrusage, MAIN | SERVER, Always},
};

}  // namespace

std::span<const Rule> policy() { return rules; }

}  // namespace veneer::sandbox
