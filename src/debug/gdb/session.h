// Session: one conversation with gdb, above the packets and below the sockets.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "debug/gdb/target.h"

namespace veneer::debug::gdb {

/// All-stop mode; vCPU n is gdb's thread n + 1. Making a session stops the machine; detach() lets it go on.
/// Used by one thread.
class Session {
 public:
  explicit Session(Target& target);

  /// The reply to a packet (possibly empty: "not supported"), or nothing when it comes later (see stopped()).
  std::optional<std::string> handle(std::string_view packet);
  /// gdb's Ctrl-C: the stop reply, or nothing when the machine stood still anyway.
  std::optional<std::string> interrupt();
  /// A vCPU hit a breakpoint or finished a step: the stop reply, or nothing when nobody waits for one.
  std::optional<std::string> stopped(unsigned vcpu);

  /// Takes all breakpoints out and lets the machine run. Also when gdb just goes away.
  void detach();

  bool acknowledges() const { return acknowledges_; }
  bool over() const { return over_; }

 private:
  enum class Breakpoint : std::uint8_t { Software, Hardware };

  std::string query(std::string_view text);
  std::string transfer(std::string_view text);
  std::string select_thread(std::string_view text);
  std::string read_all();
  std::string write_all(std::string_view hex);
  std::string read_one(std::string_view text);
  std::string write_one(std::string_view text);
  std::string read_memory(std::string_view text);
  std::string write_memory(std::string_view text, bool binary);
  std::string breakpoint(std::string_view text, bool insert);
  std::optional<std::string> resume_command(std::string_view text);
  std::optional<std::string> vcont(std::string_view text);
  std::optional<std::string> go(bool step, unsigned vcpu);
  std::string stop_reply(unsigned signal);
  /// The vCPU of a thread id ("1", "-1", "0"); nothing when there is none.
  std::optional<unsigned> vcpu_of(std::string_view& text) const;

  Target& target_;
  std::map<std::uint64_t, Breakpoint> breakpoints_;
  unsigned current_ = 0;       // the vCPU that registers and memory are read from
  unsigned step_current_ = 0;  // the one that 's' steps
  bool running_ = false;
  bool acknowledges_ = true;
  bool over_ = false;
  bool step_over_ = false;  // the step now going on is ours: gdb asked to continue from a breakpoint
};

}  // namespace veneer::debug::gdb
