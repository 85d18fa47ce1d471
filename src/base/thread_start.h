// How every thread of the monitor begins: with its name, its kind, and what confines threads of that kind.
#pragma once

#include <cstdint>

namespace veneer {

/// What a thread is for; the sandbox gives each kind its own list of system calls (sandbox/policy.cc).
enum class ThreadKind : std::uint8_t {
  Main,      ///< Machine::run(); starts the others once it is confined
  Vcpu,      ///< guest code, and device code on its behalf
  Events,    ///< the event loop
  Worker,    ///< reads and writes files that are open: disks
  Console,   ///< standard input
  Signals,   ///< waits for signals
  Output,    ///< writes the guest's output
  Server,    ///< a listening socket and its clients
  Watchdog,  ///< looks at memory now and then
  Remote,    ///< a Worker whose disk is on a server: a socket that is connected
  Net,       ///< a network in user space: makes sockets and connects; starts before the main thread is confined
  NetFiles,  ///< a Net that serves files to the guest (TFTP): it opens those below one folder, for reading
};
inline constexpr unsigned thread_kind_count = 12;

/// To be called first thing on every new thread. `name` is at most 15 characters (pthread_setname_np(3)); null keeps
/// the name.
void begin_thread(ThreadKind kind, const char* name);

/// The name that the calling thread began with; "main" for one that kept its own. Async-signal-safe.
const char* current_thread_name();

/// What begin_thread() calls after naming the thread. Set it before threads are made; null for nothing.
using ThreadHook = void (*)(ThreadKind kind);
void set_thread_hook(ThreadHook hook);

}  // namespace veneer
