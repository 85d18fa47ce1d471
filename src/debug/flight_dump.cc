// The flight recorder's reader: formatting without allocation, and the crash handler that uses it.
#include "debug/flight_dump.h"

#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/assert.h"
#include "base/flight_recorder.h"

namespace veneer::debug {
namespace {

using flight::Event;
using flight::Record;
using flight::Ring;

constexpr std::string_view event_name(std::uint32_t event) {
  switch (static_cast<Event>(event)) {
    case Event::None:
      return "none";
    case Event::RunEnter:
      return "run";
    case Event::RunExit:
      return "exit";
    case Event::Fault:
      return "fault";
    case Event::Interrupt:
      return "interrupt";
    case Event::Nmi:
      return "nmi";
    case Event::Halt:
      return "halt";
    case Event::PortRead:
      return "port-read";
    case Event::PortWrite:
      return "port-write";
    case Event::MmioRead:
      return "mmio-read";
    case Event::MmioWrite:
      return "mmio-write";
    case Event::MsrRead:
      return "msr-read";
    case Event::MsrWrite:
      return "msr-write";
    case Event::Control:
      return "control";
    case Event::TlbFlush:
      return "tlb-flush";
    case Event::Translate:
      return "translate";
    case Event::Invalidate:
      return "invalidate";
    case Event::HostFault:
      return "host-fault";
    case Event::Kick:
      return "kick";
    case Event::GuestExit:
      return "guest-exit";
    case Event::Note:
      return "note";
  }
  return "?";
}

/// A line of text in a fixed buffer: what a signal handler may use in place of printf.
class Line {
 public:
  Line& text(std::string_view s) {
    for (char c : s)
      if (used_ < buffer_.size()) buffer_[used_++] = c;
    return *this;
  }
  Line& pad(std::size_t column) {
    while (used_ < column && used_ < buffer_.size()) buffer_[used_++] = ' ';
    return *this;
  }
  Line& hex(std::uint64_t value) {
    std::array<char, 16> digits;
    std::size_t n = 0;
    do digits[n++] = "0123456789abcdef"[value & 15];
    while ((value >>= 4) != 0);
    while (n != 0) text({&digits[--n], 1});
    return *this;
  }
  Line& decimal(std::uint64_t value) {
    std::array<char, 20> digits;
    std::size_t n = 0;
    do digits[n++] = static_cast<char>('0' + value % 10);
    while ((value /= 10) != 0);
    while (n != 0) text({&digits[--n], 1});
    return *this;
  }
  std::string_view view() const { return {buffer_.data(), used_}; }

 private:
  std::array<char, 200> buffer_;
  std::size_t used_ = 0;
};

/// One event as a line; times count back from the newest event of the ring.
Line describe(const Record& record, std::uint64_t newest_tsc) {
  Line line;
  line.text("  -").decimal(newest_tsc - std::min(record.tsc, newest_tsc)).text(" tsc").pad(22);
  line.text(event_name(record.event)).pad(34).text("rip ").hex(record.rip).pad(56);
  line.text("value ").hex(record.value).pad(80).text("detail ").hex(record.detail).text("\n");
  return line;
}

Line heading(unsigned vcpu, std::uint64_t shown, std::uint64_t total) {
  Line line;
  line.text("vcpu").decimal(vcpu).text(": last ").decimal(shown).text(" of ").decimal(total).text(" events\n");
  return line;
}

/// Calls `print` with each line for one ring.
template <typename Print>
void walk(unsigned vcpu, unsigned count, Print print) {
  const Ring& ring = flight::rings[vcpu];
  const std::uint64_t total = __atomic_load_n(&ring.next, __ATOMIC_ACQUIRE);
  if (total == 0) return;
  const std::uint64_t shown = std::min({total, Ring::slots, std::uint64_t{count}});
  print(heading(vcpu, shown, total).view());
  const std::uint64_t newest = ring.records[(total - 1) % Ring::slots].tsc;
  for (std::uint64_t i = total - shown; i != total; ++i) print(describe(ring.records[i % Ring::slots], newest).view());
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

void (*before_crash)() = nullptr;
constexpr unsigned crash_events = 32;
volatile std::sig_atomic_t dumped = 0;

void dump_once() {
  if (dumped) return;
  dumped = 1;
  if (before_crash != nullptr) before_crash();
  dump_flight_recorder(STDERR_FILENO, crash_events);
}

void on_crash(int signal_number, siginfo_t* info, void*) {
  const bool again = dumped;
  if (!again) {
    if (before_crash != nullptr) before_crash();
    Line line;
    line.text("veneer: bug: fatal signal ").decimal(static_cast<unsigned>(signal_number)).text(" at address ");
    line.hex(reinterpret_cast<std::uintptr_t>(info->si_addr)).text(". Please report this.\n");
    if (signal_number != SIGABRT) write_all(STDERR_FILENO, line.view());
    dump_once();
  }
  // An engine's handler may have passed this on and still be installed: the default has to be put back by name.
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  sigaction(signal_number, &usual, nullptr);
  raise(signal_number);
}

}  // namespace

void dump_flight_recorder(int fd, unsigned count) noexcept {
  for (unsigned vcpu = 0; vcpu < flight::max_rings; ++vcpu)
    walk(vcpu, count, [fd](std::string_view line) { write_all(fd, line); });
}

std::string describe_flight_recorder(unsigned vcpu, unsigned count) {
  std::string out;
  if (vcpu < flight::max_rings) walk(vcpu, count, [&out](std::string_view line) { out += line; });
  return out;
}

void install_crash_handler(void (*before)()) {
  before_crash = before;
  set_assertion_hook(dump_once);

  // The stack of a handler on this thread: what the kernel's frame needs (AT_MINSIGSTKSZ) and room for ours.
  const std::size_t stack_bytes = static_cast<std::size_t>(getauxval(AT_MINSIGSTKSZ)) + 64 * 1024;
  void* stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack != MAP_FAILED) {
    stack_t alternate{};
    alternate.ss_sp = stack;
    alternate.ss_size = stack_bytes;
    sigaltstack(&alternate, nullptr);
  }
  struct sigaction action {};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (int signal_number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) sigaction(signal_number, &action, nullptr);
}

}  // namespace veneer::debug
