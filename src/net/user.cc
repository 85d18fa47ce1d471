// libslirp behind the HostEnd interface.
//
// Large packets: libslirp handles IP packets of up to 64 KiB when its MTU says so and the guest's MSS option does not
// forbid it. So the guest's option is raised on the way (raise_mss), TCP data travels in pieces of up to 32 KiB, and
// the link cuts them if the guest's card cannot take such (offload.h).
#include "net/user.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <slirp/libslirp.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <list>
#include <system_error>

#include "base/log.h"
#include "net/mss.h"
#include "net/offload.h"

namespace veneer::net {
namespace {

constexpr std::size_t slirp_mtu = 65521;  // IF_MTU_MAX of libslirp

in6_addr address(const Ipv6& value) {
  in6_addr out{};
  std::copy(value.begin(), value.end(), out.s6_addr);
  return out;
}

sockaddr_in socket_address(Ipv4 value, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(value);
  out.sin_port = htons(port);
  return out;
}

sockaddr_in6 socket_address(const Ipv6& value, std::uint16_t port) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  out.sin6_addr = address(value);
  out.sin6_port = htons(port);
  return out;
}

in_addr address(Ipv4 value) {
  in_addr out{};
  out.s_addr = htonl(value);
  return out;
}

std::int64_t monotonic_ns() {
  timespec ts{};
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return std::int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

LogLimiter& complaints() {
  static LogLimiter limiter;
  return limiter;
}

/// glib's own way to log opens files for the time zone, which the sandbox stops. libslirp brings glib along; its
/// headers are not needed for this one function.
void log_for_glib(const char*, int, const char* message, void*) { log_guest(complaints(), "network: {}", message); }
void take_over_glib_log() {
  using Handler = void (*)(const char*, int, const char*, void*);
  using SetHandler = Handler (*)(Handler, void*);
  if (void* found = ::dlsym(RTLD_DEFAULT, "g_log_set_default_handler"))
    reinterpret_cast<SetHandler>(found)(log_for_glib, nullptr);
}

class UserEnd final : public HostEnd {
 public:
  UserEnd(const UserOptions& options, const std::string& name, const MacAddress& mac)
      : options_(options), name_(name), mac_(mac), name_server_(user_name_server, host_name_server()) {
    take_over_glib_log();
    SlirpConfig config{};
    config.version = 3;
    config.restricted = options.isolated ? 1 : 0;
    config.in_enabled = true;
    config.vnetwork = address(user_network);
    config.vnetmask = address(0xffff'ff00);
    config.vhost = address(user_gateway);
    config.vdhcp_start = address(user_guest);
    config.vnameserver = address(user_name_server);
    config.in6_enabled = options.ipv6;
    config.vprefix_addr6 = address(user_network6);
    config.vprefix_len = 64;
    config.vhost6 = address(user_router6);
    config.vnameserver6 = address(user_name_server6);
    config.vhostname = name_.c_str();
    if (!options_.tftp_directory.empty()) config.tftp_path = options_.tftp_directory.c_str();
    if (!options_.bootfile.empty()) config.bootfile = options_.bootfile.c_str();
    config.if_mtu = config.if_mru = slirp_mtu;
    slirp_ = ::slirp_new(&config, &callbacks, this);
  }
  ~UserEnd() override {
    if (slirp_ != nullptr) ::slirp_cleanup(slirp_);
  }
  UserEnd(const UserEnd&) = delete;
  UserEnd& operator=(const UserEnd&) = delete;

  Result<void> open_ports() {
    if (slirp_ == nullptr) return Error("libslirp could not start a network");
    for (const PortForward& forward : options_.forwards) {
      if (open_port(forward)) continue;
      const int error = errno;
      const std::string what = fmt::format("listening on {}", format_forward_source(forward));
      if (error == EADDRINUSE)
        return Error(fmt::format("{}: the port is in use: choose another one for hostfwd, or end what has it", what));
      if (error == EACCES)
        return Error(fmt::format("{}: ports below 1024 need rights: choose a higher one for hostfwd", what));
      if (error == EADDRNOTAVAIL) return Error(fmt::format("{}: this host has no such address", what));
      return Error::from_errno(what, error);
    }
    return {};
  }

  void send(Frame& frame) override {
    if (frame.offload.segmentation != Segmentation::None) {
      if (!make_whole(frame)) return;
    } else if (frame.offload.needs_checksum) {
      complete_checksum(frame);
    }
    name_server_.outward(frame.bytes());
    raise_mss(frame.bytes());
    ::slirp_input(slirp_, reinterpret_cast<const std::uint8_t*>(frame.bytes().data()), static_cast<int>(frame.size()));
  }

  void prepare(std::vector<pollfd>& watched, int& timeout_ms) override {
    auto slirp_timeout = timeout_ms < 0 ? ~std::uint32_t{0} : static_cast<std::uint32_t>(timeout_ms);
    watched_ = &watched;
    first_ = watched.size();
    ::slirp_pollfds_fill(
        slirp_, &slirp_timeout,
        [](int fd, int events, void* self) { return static_cast<UserEnd*>(self)->watch(fd, events); }, this);
    watched_ = nullptr;
    for (const Timer& timer : timers_) {
      if (timer.expires_ms < 0) continue;
      const std::int64_t left = std::max<std::int64_t>(timer.expires_ms - monotonic_ns() / 1'000'000, 0);
      slirp_timeout = static_cast<std::uint32_t>(std::min<std::int64_t>(left, slirp_timeout));
    }
    timeout_ms = slirp_timeout > 0x7fff'ffff ? -1 : static_cast<int>(slirp_timeout);
  }

  void handle(std::span<const pollfd> watched, const FrameSink& sink) override {
    happened_ = watched;
    sink_ = &sink;
    flush();
    ::slirp_pollfds_poll(
        slirp_, 0, [](int index, void* self) { return static_cast<UserEnd*>(self)->happened(index); }, this);
    for (Timer& timer : timers_) {
      if (timer.expires_ms < 0 || timer.expires_ms > monotonic_ns() / 1'000'000) continue;
      timer.expires_ms = -1;
      timer.callback(timer.opaque);
    }
    sink_ = nullptr;
  }

  bool has_more() const override { return early_count_ > 0; }

  std::string describe() const override {
    std::string out = fmt::format("user, {}/24, gateway {}, name server {}", format_ipv4(user_network),
                                  format_ipv4(user_gateway), format_ipv4(user_name_server));
    if (options_.ipv6) out += fmt::format(", {}/64, router {}", format_ipv6(user_network6), format_ipv6(user_router6));
    if (options_.isolated) out += ", isolated";
    if (!options_.tftp_directory.empty()) out += fmt::format(", TFTP serves {}", options_.tftp_directory);
    if (!options_.bootfile.empty()) out += fmt::format(", guests boot {}", options_.bootfile);
    for (const PortForward& forward : options_.forwards)
      out += fmt::format(
          ", {} leads to {}:{}", format_forward_source(forward),
          forward.ipv6 ? fmt::format("[{}]", format_ipv6(guest6_of(forward))) : format_ipv4(guest_of(forward)),
          forward.guest_port);
    return out;
  }

  bool opens_files() const override { return !options_.tftp_directory.empty(); }

 private:
  struct Timer {
    SlirpTimerCb callback;
    void* opaque;
    std::int64_t expires_ms;  // -1: not armed
  };

  Ipv4 guest_of(const PortForward& forward) const {
    return forward.guest_address != 0 ? forward.guest_address : user_guest;
  }
  Ipv6 guest6_of(const PortForward& forward) const {
    return forward.guest_address6 != Ipv6{} ? forward.guest_address6 : ipv6_of_card(user_network6, mac_);
  }

  /// False with errno set.
  bool open_port(const PortForward& forward) {
    int flags = forward.udp ? SLIRP_HOSTFWD_UDP : 0;
    if (!forward.ipv6) {
      const sockaddr_in from = socket_address(forward.host_address, forward.host_port),
                        to = socket_address(guest_of(forward), forward.guest_port);
      return ::slirp_add_hostxfwd(slirp_, reinterpret_cast<const sockaddr*>(&from), sizeof from,
                                  reinterpret_cast<const sockaddr*>(&to), sizeof to, flags) == 0;
    }
    flags |= SLIRP_HOSTFWD_V6ONLY;  // so that the same port of IPv4 can lead elsewhere
    const sockaddr_in6 from = socket_address(forward.host_address6, forward.host_port),
                       to = socket_address(guest6_of(forward), forward.guest_port);
    return ::slirp_add_hostxfwd(slirp_, reinterpret_cast<const sockaddr*>(&from), sizeof from,
                                reinterpret_cast<const sockaddr*>(&to), sizeof to, flags) == 0;
  }

  int watch(int fd, int events) {
    short wanted = 0;
    if (events & SLIRP_POLL_IN) wanted |= POLLIN;
    if (events & SLIRP_POLL_OUT) wanted |= POLLOUT;
    if (events & SLIRP_POLL_PRI) wanted |= POLLPRI;
    if (events & SLIRP_POLL_ERR) wanted |= POLLERR;
    if (events & SLIRP_POLL_HUP) wanted |= POLLHUP;
    watched_->push_back({fd, wanted, 0});
    return static_cast<int>(watched_->size() - 1 - first_);
  }

  int happened(int index) const {
    const short found = happened_[static_cast<std::size_t>(index)].revents;
    int events = 0;
    if (found & POLLIN) events |= SLIRP_POLL_IN;
    if (found & POLLOUT) events |= SLIRP_POLL_OUT;
    if (found & POLLPRI) events |= SLIRP_POLL_PRI;
    if (found & POLLERR) events |= SLIRP_POLL_ERR;
    if (found & POLLHUP) events |= SLIRP_POLL_HUP;
    return events;
  }

  /// A frame from libslirp, whose checksums are all done.
  void deliver(std::span<const std::byte> bytes) {
    if (bytes.size() > frame_bytes_max) return;
    if (early_count_ == early_.size() && sink_ == nullptr) early_.emplace_back();
    Frame& frame = sink_ != nullptr ? scratch_ : early_[early_count_++];
    frame.assign(bytes);
    frame.offload = {.checksum_good = true};
    name_server_.inward(frame.bytes());
    if (!mark_large(frame)) {
      if (sink_ == nullptr) --early_count_;
      return;
    }
    if (sink_ != nullptr) (*sink_)(frame.bytes(), frame.offload);
  }

  /// What libslirp answered at once while it was given a frame.
  void flush() {
    for (std::size_t i = 0; i < early_count_; ++i) (*sink_)(early_[i].bytes(), early_[i].offload);
    early_count_ = 0;
  }

  static UserEnd& of(void* opaque) { return *static_cast<UserEnd*>(opaque); }
  static const SlirpCb callbacks;

  const UserOptions options_;
  const std::string name_;
  const MacAddress mac_;
  NameServer name_server_;
  Slirp* slirp_ = nullptr;
  std::list<Timer> timers_;
  std::vector<pollfd>* watched_ = nullptr;  // during prepare()
  std::size_t first_ = 0;
  std::span<const pollfd> happened_;
  const FrameSink* sink_ = nullptr;  // during handle()
  Frame scratch_;
  std::vector<Frame> early_;
  std::size_t early_count_ = 0;
};

const SlirpCb UserEnd::callbacks = {
    .send_packet = [](const void* bytes, std::size_t size, void* self) -> ssize_t {
      of(self).deliver({static_cast<const std::byte*>(bytes), size});
      return static_cast<ssize_t>(size);
    },
    .guest_error = [](const char* message, void*) { log_guest(complaints(), "network: {}", message); },
    .clock_get_ns = [](void*) { return monotonic_ns(); },
    .timer_new = [](SlirpTimerCb callback, void* opaque, void* self) -> void* {
      return &of(self).timers_.emplace_back(Timer{callback, opaque, -1});
    },
    .timer_free =
        [](void* timer, void* self) {
          of(self).timers_.remove_if([timer](const Timer& other) { return &other == timer; });
        },
    .timer_mod = [](void* timer, std::int64_t expires_ms,
                    void*) { static_cast<Timer*>(timer)->expires_ms = expires_ms; },
    .register_poll_fd = [](int, void*) {},
    .unregister_poll_fd = [](int, void*) {},
    .notify = [](void*) {},  // the link looks again after every frame
    .init_completed = nullptr,
    .timer_new_opaque = nullptr,
};

}  // namespace

std::string format_forward_source(const PortForward& forward) {
  return fmt::format(
      "{}:{}:{}", forward.udp ? "udp" : "tcp",
      forward.ipv6 ? fmt::format("[{}]", format_ipv6(forward.host_address6)) : format_ipv4(forward.host_address),
      forward.host_port);
}

Result<std::unique_ptr<HostEnd>> make_user_end(const UserOptions& options, const std::string& name,
                                               const MacAddress& mac) {
  if (!options.tftp_directory.empty()) {
    std::error_code error;
    if (!std::filesystem::is_directory(options.tftp_directory, error))
      return Error(fmt::format("tftp={} is no directory{}", options.tftp_directory,
                               error ? ": " + error.message() : std::string()));
    if (!options.bootfile.empty() && options.bootfile.find("://") == std::string::npos &&
        !std::filesystem::exists(options.tftp_directory + "/" + options.bootfile, error))
      log_warning("there is no {} in {} now: guests that boot from this network will not find it", options.bootfile,
                  options.tftp_directory);
  }
  auto end = std::make_unique<UserEnd>(options, name, mac);
  TRY_VOID(end->open_ports());
  return std::unique_ptr<HostEnd>(std::move(end));
}

}  // namespace veneer::net
