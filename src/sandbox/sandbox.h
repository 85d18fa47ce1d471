// The seat belt: what the process and its threads give up before a guest runs. docs/security.md is its page.
//
// Order: prepare() before any thread is made; every thread calls begin_thread() first, which confines it by its kind;
// the main thread does so last, with everything open that the machine will need.
#pragma once

#include <string>
#include <vector>

namespace veneer::sandbox {

/// Threads are confined from now on, as they begin. `before_end` is called when a violation ends the process
/// (sandbox/violation.h).
/// Returns what this host cannot do, each a sentence for the user; the rest is done all the same.
/// Threads of kind NetFiles may read files below `served_directories`.
std::vector<std::string> prepare(void (*before_end)(), const std::vector<std::string>& served_directories = {});

/// Confines the calling thread, the main one, and closes descriptors that were inherited. Files below
/// `cleanup_directories` can still be removed by it. Does nothing without prepare().
void enter_main(const std::vector<std::string>& cleanup_directories, const std::vector<int>& inherited_descriptors);

/// False when this kernel has no Landlock: a thread that may open files can open any.
bool confines_files();

/// True after prepare(): no file can be opened once the main thread is confined.
bool active();

/// Sanitizers trace, open and map as they like, so seccomp and Landlock are left out in builds with one.
#ifdef VENEER_SANITIZED
inline constexpr bool relaxed_build = true;
#else
inline constexpr bool relaxed_build = false;
#endif

}  // namespace veneer::sandbox
