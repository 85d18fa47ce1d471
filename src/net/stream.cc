// Framing, and what waits for the socket in both directions.
#include "net/stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/log.h"
#include "net/mss.h"
#include "net/offload.h"
#include "net/packet.h"

namespace veneer::net {
namespace {

constexpr std::size_t length_bytes = 4;
/// One read brings many frames; and one always has room.
constexpr std::size_t input_bytes = 4 * (frame_bytes_max + length_bytes);
/// What waits for the other end; more is lost, as in the queue of a card.
constexpr std::size_t output_bytes_max = 1 << 20;

class StreamEnd final : public HostEnd {
 public:
  StreamEnd(Fd socket, std::string name) : socket_(std::move(socket)), name_(std::move(name)), input_(input_bytes) {}

  void send(Frame& frame) override {
    if (!socket_.valid()) return;
    if (frame.offload.segmentation != Segmentation::None) {
      if (!make_whole(frame)) return;
    } else if (frame.offload.needs_checksum) {
      complete_checksum(frame);
    }
    raise_mss(frame.bytes());
    std::array<std::byte, length_bytes> length{};
    store_be16(length, 0, static_cast<std::uint16_t>(frame.size() >> 16));
    store_be16(length, 2, static_cast<std::uint16_t>(frame.size() & 0xffff));
    std::size_t done = 0;
    if (output_.empty()) {
      std::array<iovec, 2> parts = {{{length.data(), length.size()}, {frame.bytes().data(), frame.size()}}};
      done = write_out(parts);
    } else if (output_.size() + frame.size() > output_bytes_max) {
      return;
    }
    keep(length, done);
    keep(frame.bytes(), done > length_bytes ? done - length_bytes : 0);
  }

  void prepare(std::vector<pollfd>& watched, int&) override {
    if (!socket_.valid()) return;
    watched.push_back({socket_.get(), static_cast<short>(output_.empty() ? POLLIN : POLLIN | POLLOUT), 0});
  }

  void handle(std::span<const pollfd> watched, const FrameSink& sink) override {
    if (watched.empty() || !socket_.valid()) return;
    if ((watched.front().revents & POLLOUT) != 0) flush();
    if ((watched.front().revents & (POLLIN | POLLHUP | POLLERR)) != 0) receive(sink);
  }

  std::string describe() const override { return name_; }

 private:
  /// How much of it went; what did not has to be kept.
  std::size_t write_out(std::span<iovec> parts) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno != EAGAIN && errno != EINTR) cut_off(errno);
    return 0;
  }
  void keep(std::span<const std::byte> bytes, std::size_t done) {
    if (done < bytes.size() && socket_.valid())
      output_.insert(output_.end(), bytes.begin() + static_cast<std::ptrdiff_t>(done), bytes.end());
  }
  void flush() {
    std::array<iovec, 1> parts = {{{output_.data(), output_.size()}}};
    const std::size_t sent = write_out(parts);
    output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(sent));
  }

  void receive(const FrameSink& sink) {
    const ssize_t got = ::recv(socket_.get(), input_.data() + filled_, input_.size() - filled_, MSG_DONTWAIT);
    if (got == 0) return cut_off(0);
    if (got < 0) {
      if (errno != EAGAIN && errno != EINTR) cut_off(errno);
      return;
    }
    filled_ += static_cast<std::size_t>(got);
    const std::span<const std::byte> all(input_.data(), filled_);
    std::size_t at = 0;
    while (filled_ - at >= length_bytes) {
      const std::size_t size = load_be32(all, at);
      if (size > frame_bytes_max) return cut_off(EPROTO);
      if (filled_ - at - length_bytes < size) break;
      deliver(all.subspan(at + length_bytes, size), sink);
      at += length_bytes + size;
    }
    std::memmove(input_.data(), input_.data() + at, filled_ - at);
    filled_ -= at;
  }

  void deliver(std::span<const std::byte> bytes, const FrameSink& sink) {
    if (bytes.size() < ethernet_header_bytes) return;
    scratch_.assign(bytes);
    scratch_.offload = {};
    if (mark_large(scratch_)) sink(scratch_.bytes(), scratch_.offload);
  }

  void cut_off(int error) {
    log_error("network: {} {}: this card's cable leads nowhere from now on", name_,
              error == EPROTO ? "does not speak the protocol (lengths, then frames)"
              : error == 0    ? "closed the connection"
                              : fmt::format("failed ({})", std::strerror(error)));
    socket_.reset();
    output_.clear();
    filled_ = 0;
  }

  Fd socket_;
  const std::string name_;
  std::vector<std::byte> input_, output_;
  std::size_t filled_ = 0;
  Frame scratch_;
};

}  // namespace

Result<std::unique_ptr<HostEnd>> make_stream_end(Fd socket, const std::string& name) {
  return std::unique_ptr<HostEnd>(std::make_unique<StreamEnd>(std::move(socket), name));
}

}  // namespace veneer::net
