// The other end of the control socket: one request, one answer.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "host/run_directory.h"

namespace veneer::host {

class ControlClient {
 public:
  static Result<ControlClient> connect(const RunningMachine& machine);

  /// Sends a request, with a descriptor if one is given, and waits for its answer. A refusal ("ok": false) is an Error.
  Result<nlohmann::json> ask(const nlohmann::json& request, std::chrono::milliseconds limit, int descriptor = -1);

  /// After "attach": the socket, and what came behind the answer.
  Fd take_socket() { return std::move(socket_); }
  std::string take_rest() { return std::move(rest_); }

 private:
  ControlClient(Fd socket, std::string name) : socket_(std::move(socket)), name_(std::move(name)) {}
  Result<std::string> read_line(std::chrono::milliseconds limit);

  Fd socket_;
  std::string name_;
  std::string rest_;
};

}  // namespace veneer::host
