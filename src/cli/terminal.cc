// The user's terminal in raw mode: termios settings and their restoration.
#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace veneer::cli::terminal {
namespace {

termios saved_settings;
std::atomic<bool> have_settings{false};
std::atomic<bool> raw{false};
std::atomic<bool> wanted_raw{false};

/// tcsetattr from a background process group stops the process with SIGTTOU; a blocked SIGTTOU allows it
/// (POSIX 11.1.4).
void set_attributes(const termios& settings) {
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  pthread_sigmask(SIG_BLOCK, &block, &before);
  while (tcsetattr(STDIN_FILENO, TCSANOW, &settings) != 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void remember() {
  if (have_settings || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved_settings) != 0) return;
  have_settings = true;
  std::atexit(restore);
}

void enter_raw() {
  if (!have_settings || in_background()) return;
  termios settings = saved_settings;
  settings.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  raw = true;
  set_attributes(settings);
}

void restore() {
  if (!raw.exchange(false)) return;
  const int saved_errno = errno;
  set_attributes(saved_settings);
  errno = saved_errno;
}

void suspend() {
  wanted_raw = raw.load();
  restore();
}

void resume() {
  // Stopped by SIGSTOP there was no chance to suspend(), and the shell has changed the settings since.
  if (raw || wanted_raw) enter_raw();
}

bool in_background() {
  if (!have_settings) return false;
  const pid_t foreground = tcgetpgrp(STDIN_FILENO);  // -1 when it is not the controlling terminal: no job control then
  return foreground > 0 && foreground != getpgrp();
}

bool is_terminal() { return have_settings; }

std::optional<Size> size() {
  winsize window{};
  if (!have_settings || ioctl(STDIN_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return std::nullopt;
  return Size{window.ws_col, window.ws_row};
}

}  // namespace veneer::cli::terminal
