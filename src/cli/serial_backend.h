// A serial backend: the host's end of the guest's serial port.
#pragma once

#include <chrono>
#include <memory>

#include "base/result.h"
#include "cli/guest_input.h"
#include "cli/monitor.h"
#include "cli/options.h"
#include "machine/char_sink.h"

namespace veneer::cli {

/// Order of calls: open, (machine is made with sink()), start, abandon, (machine has ended), finish.
class SerialBackend {
 public:
  virtual ~SerialBackend() = default;

  virtual machine::CharSink& sink() = 0;
  /// Begins to read from the host. Both must outlive finish().
  virtual void start(GuestInput& guest, MonitorTarget& monitor) = 0;
  /// From now on the guest never waits for the host's reader. Thread-safe.
  virtual void abandon() = 0;
  /// Ends the reading and writes out what is left, for as long as bytes leave within `patience`.
  virtual void finish(std::chrono::milliseconds patience) = 0;
};

Result<std::unique_ptr<SerialBackend>> open_serial(const SerialTarget& target);
/// The unix:PATH one: listens on a socket and serves one client at a time.
Result<std::unique_ptr<SerialBackend>> open_unix_serial(const std::string& path);

}  // namespace veneer::cli
