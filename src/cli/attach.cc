// veneer attach: a machine's serial console in this terminal.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "cli/client_commands.h"
#include "cli/escape_keys.h"
#include "cli/fetch_file.h"
#include "cli/find_machine.h"
#include "cli/line_editor.h"
#include "cli/monitor.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "host/control_client.h"

namespace veneer::cli {
namespace {

using host::ControlClient;
using host::RunningMachine;

constexpr std::chrono::milliseconds patience{10'000};

volatile std::sig_atomic_t ending_signal = 0;
void note_signal(int number) { ending_signal = number; }

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN) && ending_signal == 0) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

/// The session: bytes both ways, escape keys picked out of what is typed.
class Attachment {
 public:
  Attachment(const RunningMachine& machine, Fd socket) : machine_(machine), socket_(std::move(socket)) {}

  /// Until the machine ends (0), the user detaches (0) or a signal comes (1).
  int run();

 private:
  int lost();
  bool from_machine();
  bool from_keyboard();
  void act(EscapeKeys::Action action);
  void monitor_key(std::uint8_t byte);
  std::string ask(const nlohmann::json& request);

  const RunningMachine& machine_;
  Fd socket_;
  EscapeKeys keys_{EscapeKeys::Set::Attached};
  LineEditor editor_;
  bool in_monitor_ = false;
  bool detached_ = false;
  bool input_open_ = true;
};

int Attachment::run() {
  while (!detached_ && ending_signal == 0) {
    std::array<pollfd, 2> fds = {{{socket_.get(), POLLIN, 0}, {input_open_ ? STDIN_FILENO : -1, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) break;
    if (fds[0].revents != 0 && !from_machine()) {
      terminal::restore();
      return lost();
    }
    if (fds[1].revents != 0 && !from_keyboard()) input_open_ = false;  // a pipe that has ended: go on showing
  }
  terminal::restore();
  if (ending_signal != 0) return 1;
  std::fprintf(stderr, "\nveneer: detached; machine \"%s\" goes on\n", machine_.name.c_str());
  return 0;
}

/// The machine has closed the connection: it ends, or has cut off a console that stood still.
int Attachment::lost() {
  for (int i = 0; i < 500 && !host::has_ended(machine_); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (host::has_ended(machine_)) {
    std::fprintf(stderr, "veneer: machine \"%s\" has ended\n", machine_.name.c_str());
    return 0;
  }
  std::fprintf(stderr,
               "veneer: machine \"%s\" goes on, but this console took nothing for ten seconds and was cut off\n",
               machine_.name.c_str());
  return 1;
}

bool Attachment::from_machine() {
  std::array<char, 16384> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  write_all(STDOUT_FILENO, {buffer.data(), static_cast<std::size_t>(n)});
  return n != 0;
}

bool Attachment::from_keyboard() {
  std::array<std::uint8_t, 4096> buffer;
  const ssize_t n = ::read(STDIN_FILENO, buffer.data(), buffer.size());
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  std::span<const std::uint8_t> bytes(buffer.data(), static_cast<std::size_t>(n));
  std::vector<std::uint8_t> plain;
  while (!bytes.empty() && !detached_) {
    plain.clear();
    const EscapeKeys::Step step = keys_.feed(bytes, plain);
    bytes = bytes.subspan(step.consumed);
    if (in_monitor_)
      for (const std::uint8_t byte : plain) monitor_key(byte);
    else
      write_all(socket_.get(), {reinterpret_cast<const char*>(plain.data()), plain.size()});
    act(step.action);
  }
  return n != 0;
}

void Attachment::act(EscapeKeys::Action action) {
  switch (action) {
    case EscapeKeys::Action::None:
      break;
    case EscapeKeys::Action::Quit:
      ask({{"command", "kill"}});
      break;
    case EscapeKeys::Action::Power:
      ask({{"command", "monitor"}, {"line", "powerdown"}});
      break;
    case EscapeKeys::Action::Detach:
      detached_ = true;
      break;
    case EscapeKeys::Action::Monitor:
      in_monitor_ = !in_monitor_;
      editor_.clear();
      write_all(STDOUT_FILENO, in_monitor_ ? std::string("\n") + Monitor::prompt : "\n");
      break;
    case EscapeKeys::Action::Help:
      write_all(STDOUT_FILENO, escape_key_help(EscapeKeys::Set::Attached));
      break;
  }
}

void Attachment::monitor_key(std::uint8_t byte) {
  const LineEditor::Result result = editor_.key(byte);
  write_all(STDOUT_FILENO, result.echo);
  if (result.leave) return act(EscapeKeys::Action::Monitor);
  if (!result.line) return;
  std::string answer;
  if (const auto fetched = fetch_by_line(machine_, *result.line))
    answer = *fetched ? std::string() : fetched->error().message() + "\n";
  else
    answer = ask({{"command", "monitor"}, {"line", *result.line}});
  write_all(STDOUT_FILENO, answer + Monitor::prompt);
}

/// The text of an answer, or why there is none. A connection of its own: this one is the console.
std::string Attachment::ask(const nlohmann::json& request) {
  auto client = ControlClient::connect(machine_);
  if (!client) return client.error().message() + "\n";
  auto reply = client.value().ask(request, patience);
  return reply ? reply.value().value("output", std::string()) : reply.error().message() + "\n";
}

}  // namespace

int run_attach(const ClientOptions& options) {
  auto machine = find_machine(options.name);
  if (!machine) return complain(machine.error());
  auto client = ControlClient::connect(machine.value());
  if (!client) return complain(client.error());
  if (auto reply = client.value().ask({{"command", "attach"}}, patience); !reply) return complain(reply.error());
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    action.sa_handler = note_signal;  // without SA_RESTART: poll() comes back
    ::sigaction(number, &action, nullptr);
  }
  std::signal(SIGPIPE, SIG_IGN);
  terminal::remember();
  terminal::enter_raw();
  if (terminal::is_terminal())
    std::fprintf(stderr, "veneer: attached to machine \"%s\"; Ctrl-A d detaches, Ctrl-A h lists the keys\n",
                 machine.value().name.c_str());
  write_all(STDOUT_FILENO, client.value().take_rest());
  return Attachment(machine.value(), client.value().take_socket()).run();
}

}  // namespace veneer::cli
