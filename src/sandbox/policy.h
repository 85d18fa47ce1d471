// The policy: which kind of thread may make which system call once the guest can run.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_start.h"

namespace veneer::sandbox {

/// What else must hold of a call that is in the table.
enum class Check : std::uint8_t {
  Always,
  NoExec,           ///< mmap, mprotect: no PROT_EXEC; executable memory is made before the guest runs
  OwnProcess,       ///< the first argument is our process
  TerminalRequest,  ///< ioctl: settings of a terminal; TIOCSTI, which types into it, is not among them
  DeviceRequest,    ///< ioctl: the same, and size, discarding and zeroing of the block devices that are open
  NoAddress,        ///< sendto: to the peer of a connected socket
  ThreadOnly,       ///< clone: a thread, no process
  EmptyPath,        ///< newfstatat as fstat() uses it: of a descriptor, not of a path
  NoSuchPath,       ///< the same; every path is answered ENOENT
  NoSuchFile,       ///< answers ENOENT
  ReadOnly,         ///< openat: nothing is written, made or cut
  InternetSocket,   ///< socket: TCP and UDP, and ICMP's echo, over IPv4 or IPv6
  PendingBytes,     ///< ioctl: settings of a terminal as above, and how much there is to be read
  PlainFcntl,       ///< fcntl: flags, duplicates and locks; no signals to owners
  OwnPrctl,         ///< prctl: names, and giving up more
  NotThere,         ///< answers ENOSYS, so that the C library takes another way
};

/// One row of the table. `kinds` has a bit for each ThreadKind.
struct Rule {
  std::uint16_t number;
  std::uint16_t kinds;
  Check check;
};

/// The whole table. ThreadKind::Main may do all of it, because the threads that it starts are confined first as it
/// is, then further. What only network_kinds may do is not among it: those threads start before.
std::span<const Rule> policy();

constexpr std::uint16_t bit_of(ThreadKind kind) {
  return static_cast<std::uint16_t>(1u << static_cast<unsigned>(kind));
}

inline constexpr std::uint16_t network_kinds =
    static_cast<std::uint16_t>(bit_of(ThreadKind::Net) | bit_of(ThreadKind::NetFiles));

/// Does the row apply to threads of this kind?
constexpr bool applies(const Rule& rule, ThreadKind kind) {
  if (kind == ThreadKind::Main) return (rule.kinds & ~network_kinds) != 0;
  return (rule.kinds & bit_of(kind)) != 0;
}

}  // namespace veneer::sandbox
