// The console: the loop that reads standard input.
#include "cli/console.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "base/thread_start.h"
#include "cli/terminal.h"

namespace veneer::cli {
namespace {
constexpr int background_poll_ms = 300;
constexpr std::chrono::milliseconds print_patience{2000};
}  // namespace

Console::Console(OutputQueue& out, GuestInput& guest, MonitorTarget& target)
    : out_(out), guest_(guest), target_(target), monitor_(target) {
  guest_.add_room_listener([this] { wake_.wake(); });
}

void Console::start() {
  thread_ = std::thread([this] { run(); });
}

void Console::stop() {
  stopping_ = true;
  wake_.wake();
  if (thread_.joinable()) thread_.join();
}

void Console::run() {
  begin_thread(ThreadKind::Console, "_console");
  bool was_background = terminal::in_background();
  while (!stopping_) {
    const bool background = terminal::in_background();
    if (was_background && !background) terminal::enter_raw();
    was_background = background;

    // A reader in the background of its terminal would only get EIO or be stopped.
    const bool listen = !end_of_input_ && !background && pending_.empty();
    std::array<pollfd, 2> fds = {{{wake_.get(), POLLIN, 0}, {listen ? STDIN_FILENO : -1, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), background ? background_poll_ms : -1) < 0 && errno != EINTR) return;
    wake_.clear();
    if (stopping_) return;
    flush_pending();
    if (fds[1].revents != 0 && !read_some()) {
      end_of_input_ = true;
      log_debug("standard input has ended; the guest goes on");
    }
  }
}

/// False at the end of input.
bool Console::read_some() {
  std::array<std::uint8_t, 4096> buffer;
  const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
  if (n > 0) {
    handle({buffer.data(), static_cast<std::size_t>(n)});
    return true;
  }
  if (n == 0) return false;
  return errno == EINTR || errno == EAGAIN || (errno == EIO && terminal::in_background());
}

void Console::handle(std::span<const std::uint8_t> bytes) {
  std::vector<std::uint8_t> plain;
  while (!bytes.empty() && !stopping_) {
    plain.clear();
    const EscapeKeys::Step step = keys_.feed(bytes, plain);
    bytes = bytes.subspan(step.consumed);
    handle_plain(plain);
    act(step.action);
  }
  flush_pending();
}

void Console::handle_plain(std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) {
    if (in_monitor_)
      handle_monitor_key(byte);
    else
      pending_.push_back(byte);
  }
}

void Console::handle_monitor_key(std::uint8_t byte) {
  const LineEditor::Result result = editor_.key(byte);
  if (!result.echo.empty()) print(result.echo);
  if (result.leave) return toggle_monitor();
  if (!result.line) return;
  print(monitor_.execute(*result.line));
  if (!stopping_) print(Monitor::prompt);
}

void Console::act(EscapeKeys::Action action) {
  switch (action) {
    case EscapeKeys::Action::None:
      break;
    case EscapeKeys::Action::Quit:
      target_.quit();
      break;
    case EscapeKeys::Action::Power:
      target_.power_button();
      break;
    case EscapeKeys::Action::Monitor:
      toggle_monitor();
      break;
    case EscapeKeys::Action::Detach:  // not among the keys of a console
      break;
    case EscapeKeys::Action::Help:
      print(escape_key_help());
      if (in_monitor_) print(Monitor::prompt);
      break;
  }
}

void Console::toggle_monitor() {
  in_monitor_ = !in_monitor_;
  editor_.clear();
  print("\n");
  if (in_monitor_) print(Monitor::prompt);
}

void Console::flush_pending() {
  if (pending_.empty()) return;
  const std::size_t taken = guest_.offer(pending_);
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(taken));
}

void Console::print(std::string_view text) { out_.write_text(text, print_patience); }

}  // namespace veneer::cli
