// Server: listens for a gdb and carries packets between its socket and a Session.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/fd.h"
#include "base/result.h"
#include "debug/gdb/packet.h"
#include "debug/gdb/session.h"
#include "debug/gdb/target.h"

namespace veneer::debug::gdb {

/// One client at a time, on the thread "_gdb".
class Server {
 public:
  /// Listens on a numeric address. Port 0 takes any free one; see port(). `target` must outlive the server.
  static Result<std::unique_ptr<Server>> listen(Target& target, const std::string& host, std::uint16_t port);
  /// Ends the thread; a connected gdb is told that the machine has ended with `exit_status`.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void start();
  /// What a connected gdb is told when the server ends.
  void set_exit_status(int status) { exit_status_ = status; }
  /// A vCPU hit a breakpoint or finished a step. Any thread; returns at once.
  void vcpu_stopped(unsigned vcpu);
  std::uint16_t port() const { return port_; }

 private:
  Server(Target& target, Fd listener, std::uint16_t port);
  void run();
  void accept_client();
  void drop_client();
  void receive();
  void handle_input(std::string_view input);
  void report_stops();
  void send_reply(std::string_view text);
  void send_bytes(std::string_view bytes);

  Target& target_;
  Fd listener_;
  std::uint16_t port_ = 0;
  Fd wake_;

  // Used by the thread only.
  Fd client_;
  std::unique_ptr<Session> session_;
  PacketReader reader_;
  std::string last_reply_;
  bool client_lost_ = false;

  std::atomic<int> exit_status_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;            // a leaf lock
  std::deque<unsigned> stops_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace veneer::debug::gdb
