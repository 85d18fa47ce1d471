// Session: the commands of the gdb remote protocol (gdb manual, appendix E.2).
#include "debug/gdb/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "debug/gdb/packet.h"
#include "debug/gdb/registers.h"

namespace veneer::debug::gdb {
namespace {

constexpr unsigned signal_int = 2;  // gdb's numbers
constexpr unsigned signal_trap = 5;
constexpr const char* ok = "OK";
constexpr const char* error_running = "E01";
constexpr const char* error_arguments = "E16";
constexpr const char* error_memory = "E0e";

/// Takes `prefix` off the front of text.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

Session::Session(Target& target) : target_(target) { target_.stop(); }

std::optional<std::string> Session::handle(std::string_view packet) {
  if (packet.empty()) return std::string();
  if (running_) {
    // In all-stop mode gdb is silent while the guest runs; only an end may come.
    if (packet[0] != 'k' && packet[0] != 'D' && packet[0] != '?') return error_running;
    target_.stop();
    running_ = false;
  }
  const char command = packet[0];
  const std::string_view rest = packet.substr(1);
  switch (command) {
    case '?':
      return stop_reply(signal_trap);
    case 'g':
      return read_all();
    case 'G':
      return write_all(rest);
    case 'p':
      return read_one(rest);
    case 'P':
      return write_one(rest);
    case 'm':
      return read_memory(rest);
    case 'M':
      return write_memory(rest, false);
    case 'X':
      return write_memory(rest, true);
    case 'Z':
      return breakpoint(rest, true);
    case 'z':
      return breakpoint(rest, false);
    case 'H':
      return select_thread(rest);
    case 'T': {
      std::string_view id = rest;
      return std::string(vcpu_of(id) ? ok : error_arguments);
    }
    case 'c':
    case 'C':
    case 's':
    case 'S':
      return resume_command(packet);
    case 'D':
      detach();
      over_ = true;
      return ok;
    case 'k':
      target_.kill();
      over_ = true;
      return std::nullopt;
    case 'v':
      if (packet == "vCont?") return "vCont;c;C;s;S";
      if (packet.starts_with("vCont;")) return vcont(packet.substr(5));
      if (packet.starts_with("vKill")) {
        target_.kill();
        over_ = true;
        return ok;
      }
      return std::string();
    case 'q':
      return query(rest);
    case 'Q':
      if (rest != "StartNoAckMode") return std::string();
      acknowledges_ = false;
      return ok;
    default:
      return std::string();
  }
}

std::string Session::query(std::string_view text) {
  if (text.starts_with("Supported"))
    return fmt::format("PacketSize={:x};qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+",
                       packet_bytes);
  if (take(text, "Xfer:features:read:")) return transfer(text);
  if (text == "Attached") return "1";
  if (text == "C") return fmt::format("QC{:x}", current_ + 1);
  if (text == "fThreadInfo") {
    std::string out = "m";
    for (unsigned i = 0; i < target_.vcpu_count(); ++i) out += fmt::format("{}{:x}", i == 0 ? "" : ",", i + 1);
    return out;
  }
  if (text == "sThreadInfo") return "l";
  if (take(text, "ThreadExtraInfo,")) {
    const auto vcpu = vcpu_of(text);
    if (!vcpu) return error_arguments;
    cpu::ArchState state;
    target_.get_state(*vcpu, state);
    return to_hex(fmt::format("CPU {}{}", *vcpu, state.halted ? " [halted]" : ""));
  }
  if (take(text, "Rcmd,")) {
    const auto line = from_hex(text);
    if (!line) return error_arguments;
    const std::string output = target_.monitor(*line);
    return output.empty() ? ok : to_hex(output.substr(0, packet_bytes / 2 - 1));
  }
  return {};
}

/// "target.xml:offset,length": 'm' and a part of the document, or 'l' and its last part.
std::string Session::transfer(std::string_view text) {
  if (!take(text, "target.xml:")) return "E00";
  const auto offset = take_hex(text);
  if (!offset || !take(text, ",")) return error_arguments;
  const auto length = take_hex(text);
  if (!length) return error_arguments;
  const std::string& document = target_xml();
  if (*offset >= document.size()) return "l";
  const auto part = document.substr(*offset, std::min<std::uint64_t>(*length, packet_bytes / 2));
  return (*offset + part.size() == document.size() ? "l" : "m") + part;
}

std::optional<unsigned> Session::vcpu_of(std::string_view& text) const {
  if (take(text, "-1")) return current_;
  const auto id = take_hex(text);
  if (!id || *id > target_.vcpu_count()) return std::nullopt;
  return *id == 0 ? current_ : static_cast<unsigned>(*id - 1);
}

std::string Session::select_thread(std::string_view text) {
  if (text.size() < 2) return error_arguments;
  const char purpose = text[0];
  text.remove_prefix(1);
  const auto vcpu = vcpu_of(text);
  if (!vcpu) return error_arguments;
  if (purpose == 'g') current_ = *vcpu;
  if (purpose == 'c') step_current_ = *vcpu;
  return ok;
}

std::string Session::read_all() {
  cpu::ArchState state;
  target_.get_state(current_, state);
  std::string out;
  for (const Register& reg : register_table()) out += to_hex(read_register(state, reg));
  return out;
}

std::string Session::write_all(std::string_view hex) {
  const auto bytes = from_hex(hex);
  if (!bytes) return error_arguments;
  cpu::ArchState state;
  target_.get_state(current_, state);
  std::size_t at = 0;
  for (const Register& reg : register_table()) {
    if (bytes->size() - at < reg.bytes) return error_arguments;
    write_register(state, reg, reinterpret_cast<const std::uint8_t*>(bytes->data()) + at);
    at += reg.bytes;
  }
  target_.set_state(current_, state);
  return ok;
}

std::string Session::read_one(std::string_view text) {
  const auto number = take_hex(text);
  if (!number || *number >= register_table().size()) return error_arguments;
  cpu::ArchState state;
  target_.get_state(current_, state);
  return to_hex(read_register(state, register_table()[*number]));
}

std::string Session::write_one(std::string_view text) {
  const auto number = take_hex(text);
  if (!number || *number >= register_table().size() || !take(text, "=")) return error_arguments;
  const Register& reg = register_table()[*number];
  const auto bytes = from_hex(text);
  if (!bytes || bytes->size() != reg.bytes) return error_arguments;
  cpu::ArchState state;
  target_.get_state(current_, state);
  write_register(state, reg, reinterpret_cast<const std::uint8_t*>(bytes->data()));
  target_.set_state(current_, state);
  return ok;
}

std::string Session::read_memory(std::string_view text) {
  const auto address = take_hex(text);
  if (!address || !take(text, ",")) return error_arguments;
  const auto length = take_hex(text);
  if (!length) return error_arguments;
  std::vector<std::uint8_t> bytes(std::min<std::uint64_t>(*length, packet_bytes / 2 - 16));
  bytes.resize(target_.read_memory(current_, *address, bytes));
  if (bytes.empty() && *length != 0) return error_memory;
  return to_hex(bytes);
}

/// "address,length:data", the data in hex (M) or as it is (X).
std::string Session::write_memory(std::string_view text, bool binary) {
  const auto address = take_hex(text);
  if (!address || !take(text, ",")) return error_arguments;
  const auto length = take_hex(text);
  if (!length || !take(text, ":")) return error_arguments;
  const auto bytes = binary ? std::optional<std::string>(text) : from_hex(text);
  if (!bytes || bytes->size() != *length) return error_arguments;
  const std::span data(reinterpret_cast<const std::uint8_t*>(bytes->data()), bytes->size());
  return target_.write_memory(current_, *address, data) == data.size() ? ok : error_memory;
}

/// "0,address,kind" or "1,address,kind"; watchpoints (2, 3, 4) are not supported.
std::string Session::breakpoint(std::string_view text, bool insert) {
  const auto type = take_hex(text);
  if (!type || !take(text, ",")) return error_arguments;
  if (*type > 1) return {};
  const auto address = take_hex(text);
  if (!address) return error_arguments;
  target_.set_breakpoint(*address, insert);
  if (insert)
    breakpoints_[*address] = *type == 0 ? Breakpoint::Software : Breakpoint::Hardware;
  else
    breakpoints_.erase(*address);
  return ok;
}

/// c, s, and C, S with a signal, which a machine has no use for. An address to go on at may follow.
std::optional<std::string> Session::resume_command(std::string_view text) {
  const bool step = text[0] == 's' || text[0] == 'S';
  const bool with_signal = text[0] == 'C' || text[0] == 'S';
  text.remove_prefix(1);
  if (with_signal) {
    take_hex(text);
    take(text, ";");
  }
  if (!text.empty()) {
    const auto address = take_hex(text);
    if (!address) return error_arguments;
    cpu::ArchState state;
    target_.get_state(step_current_, state);
    state.rip = *address;
    target_.set_state(step_current_, state);
  }
  return go(step, step_current_);
}

/// ";s:1;c": the first step wins, and steps alone; otherwise everything continues.
std::optional<std::string> Session::vcont(std::string_view text) {
  bool any = false;
  while (take(text, ";")) {
    if (text.empty()) return error_arguments;
    const char action = text[0];
    if (action != 'c' && action != 'C' && action != 's' && action != 'S') return error_arguments;
    text.remove_prefix(1);
    if (action == 'C' || action == 'S') take_hex(text);
    unsigned vcpu = current_;
    if (take(text, ":")) {
      const auto found = vcpu_of(text);
      if (!found) return error_arguments;
      vcpu = *found;
    }
    any = true;
    if (action == 's' || action == 'S') return go(true, vcpu);
  }
  if (!any) return error_arguments;
  return go(false, current_);
}

std::optional<std::string> Session::go(bool step, unsigned vcpu) {
  running_ = true;
  step_over_ = false;
  if (!step) {
    // run() stops before a breakpoint, so going on from one begins with a step.
    cpu::ArchState state;
    target_.get_state(current_, state);
    step_over_ = breakpoints_.contains(state.rip);
    vcpu = current_;
  }
  if (step || step_over_)
    target_.step(vcpu);
  else
    target_.resume();
  return std::nullopt;
}

std::optional<std::string> Session::interrupt() {
  if (!running_) return std::nullopt;
  running_ = false;
  step_over_ = false;
  target_.stop();
  return stop_reply(signal_int);
}

std::optional<std::string> Session::stopped(unsigned vcpu) {
  if (!running_) return std::nullopt;
  if (step_over_) {
    step_over_ = false;
    target_.resume();
    return std::nullopt;
  }
  running_ = false;
  target_.stop();
  current_ = step_current_ = vcpu;
  return stop_reply(signal_trap);
}

std::string Session::stop_reply(unsigned signal) {
  std::string reason;
  if (signal == signal_trap) {
    cpu::ArchState state;
    target_.get_state(current_, state);
    if (const auto found = breakpoints_.find(state.rip); found != breakpoints_.end())
      reason = found->second == Breakpoint::Software ? "swbreak:;" : "hwbreak:;";
  }
  return fmt::format("T{:02x}thread:{:x};{}", signal, current_ + 1, reason);
}

void Session::detach() {
  if (running_) target_.stop();
  for (const auto& [address, kind] : breakpoints_) target_.set_breakpoint(address, false);
  breakpoints_.clear();
  running_ = true;
  step_over_ = false;
  target_.resume();
}

}  // namespace veneer::debug::gdb
