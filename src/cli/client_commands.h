// The commands that talk to machines that run: ps, stop, kill, attach, monitor.
#pragma once

namespace veneer::cli {

struct ClientOptions;

/// Carries out one of them; the exit status: 0, or 1 with a message on standard error.
int run_client(const ClientOptions& options);

/// attach: the console of a machine here in the terminal, until it ends or Ctrl-A d.
int run_attach(const ClientOptions& options);

}  // namespace veneer::cli
