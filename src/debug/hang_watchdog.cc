// The hang watchdog: comparing the flight recorders' counters once a second.
#include "debug/hang_watchdog.h"

#include <utility>

#include "base/log.h"
#include "base/thread_start.h"
#include "debug/flight_dump.h"

namespace veneer::debug {
namespace {

constexpr unsigned dump_events = 64;

/// The last event of a vCPU that waits for an interrupt, or has not been started.
bool waits(const flight::Ring& ring, std::uint64_t next) {
  if (next == 0) return true;
  const auto event = static_cast<flight::Event>(
      __atomic_load_n(&ring.records[(next - 1) % flight::Ring::slots].event, __ATOMIC_RELAXED));
  return event == flight::Event::Halt || event == flight::Event::RunExit;
}

}  // namespace

std::vector<unsigned> HangDetector::tick(unsigned limit) {
  std::vector<unsigned> hung;
  for (unsigned vcpu = 0; vcpu < seen_.size(); ++vcpu) {
    const flight::Ring& ring = flight::ring(vcpu);
    Seen& seen = seen_[vcpu];
    const std::uint64_t next = __atomic_load_n(&ring.next, __ATOMIC_ACQUIRE);
    if (next != seen.next || waits(ring, next)) {
      seen = {next, 0};
      continue;
    }
    if (seen.still <= limit && ++seen.still == limit) hung.push_back(vcpu);
  }
  return hung;
}

void HangDetector::forgive() {
  for (Seen& seen : seen_) seen.still = 0;
}

HangWatchdog::HangWatchdog(unsigned vcpus, std::chrono::seconds limit, std::function<bool()> paused)
    : detector_(vcpus), limit_(limit), paused_(std::move(paused)) {
  if (limit_.count() > 0) thread_ = std::thread([this] { run(); });
}

HangWatchdog::~HangWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void HangWatchdog::run() {
  begin_thread(ThreadKind::Watchdog, "_watchdog");
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, std::chrono::seconds(1), [this] { return stopping_; })) {
    if (paused_()) {
      detector_.forgive();
      continue;
    }
    for (const unsigned vcpu : detector_.tick(static_cast<unsigned>(limit_.count())))
      log_warning("CPU {} has done nothing worth recording for {} s; its last events:\n{}", vcpu, limit_.count(),
                  describe_flight_recorder(vcpu, dump_events));
  }
}

}  // namespace veneer::debug
