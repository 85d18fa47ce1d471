// The user's terminal in raw mode, given back as it was whatever happens.
#pragma once

#include <cstdint>
#include <optional>

namespace veneer::cli {

/// Raw mode of the terminal on standard input. Process-wide, because signal handlers and atexit() restore it too.
/// Every function is safe when standard input is no terminal (it then does nothing).
namespace terminal {

/// Remembers the terminal's settings and registers restore() with atexit. Call once, before enter_raw().
void remember();

/// Keys come one by one and unechoed, and Ctrl-C is an ordinary byte. Output processing stays as it was, so that log
/// lines end properly. Does nothing while this process is in the background of its terminal.
void enter_raw();

/// Gives the terminal back. Async-signal-safe; any number of times.
void restore();

/// Gives the terminal back while the process is stopped, and takes it again afterwards if it was raw before.
void suspend();
void resume();

/// True when standard input is a terminal that another process group owns at the moment.
bool in_background();

bool is_terminal();

/// In characters.
struct Size {
  std::uint16_t columns, rows;
};
/// Of the terminal on standard input; nothing when it is none, or does not know.
std::optional<Size> size();

}  // namespace terminal
}  // namespace veneer::cli
