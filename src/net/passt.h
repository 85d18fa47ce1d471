// passt: a network in user space in a process of its own (https://passt.top), which this one starts or finds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/host_end.h"
#include "net/user.h"

namespace veneer::net {

struct PasstOptions {
  std::string socket = {};                 ///< path of one that runs; empty: one is started, and ends with this process
  std::vector<PortForward> forwards = {};  ///< with one that is started
  bool ipv6 = true;                        ///< the same
};

/// The words behind "passt" for one that is started with its end of the connection at descriptor `fd`.
std::vector<std::string> passt_arguments(const PasstOptions& options, int fd);

/// Errors are sentences for the user. Starts a process: before this one is confined.
Result<std::unique_ptr<HostEnd>> make_passt_end(const PasstOptions& options);

}  // namespace veneer::net
