// The beginning of threads.
#include "base/thread_start.h"

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstring>

namespace veneer {
namespace {
std::atomic<ThreadHook> thread_hook{nullptr};
thread_local std::array<char, 16> thread_name{"main"};
}  // namespace

void begin_thread(ThreadKind kind, const char* name) {
  if (name != nullptr) {
    ::pthread_setname_np(::pthread_self(), name);
    ::strncpy(thread_name.data(), name, thread_name.size() - 1);
  }
  if (const ThreadHook hook = thread_hook.load()) hook(kind);
}

const char* current_thread_name() { return thread_name.data(); }

void set_thread_hook(ThreadHook hook) { thread_hook.store(hook); }

}  // namespace veneer
