// A tap descriptor (Linux Documentation/networking/tuntap.rst). Its frames carry the header of Virtio 1.2 5.1.6.
#include "net/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "net/offload.h"
#include "net/packet.h"

namespace veneer::net {
namespace {

/// In front of every frame (IFF_VNET_HDR); numbers in the guest's byte order, which is the host's (Virtio 1.2 5.1.6).
/// The kernel's own header of it is no C++.
struct VnetHeader {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t header_bytes = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t checksum_start = 0;
  std::uint16_t checksum_offset = 0;
};
static_assert(sizeof(VnetHeader) == 10);
constexpr std::uint8_t FLAG_NEEDS_CSUM = 1, FLAG_DATA_VALID = 2;
constexpr std::uint8_t GSO_NONE = 0, GSO_TCPV4 = 1, GSO_UDP = 3, GSO_TCPV6 = 4, GSO_ECN = 0x80;

/// Frames of one round, so that sending is not starved.
constexpr unsigned frames_at_once = 64;

std::uint8_t gso_type(Segmentation kind) {
  switch (kind) {
    case Segmentation::None:
      return GSO_NONE;
    case Segmentation::Tcp4:
      return GSO_TCPV4;
    case Segmentation::Tcp6:
      return GSO_TCPV6;
    case Segmentation::Udp:
      return GSO_UDP;
  }
  return GSO_NONE;
}

class TapEnd final : public HostEnd {
 public:
  TapEnd(Fd fd, std::string interface) : fd_(std::move(fd)), interface_(std::move(interface)) {}

  void send(Frame& frame) override {
    // The kernel takes checksums and TCP segments to do, but large datagrams no more since Linux 4.14.
    if (frame.offload.segmentation == Segmentation::Udp) {
      cut(frame, [this](const Frame& part) { write_out(part); });
      return;
    }
    write_out(frame);
  }

  void prepare(std::vector<pollfd>& watched, int&) override { watched.push_back({fd_.get(), POLLIN, 0}); }

  void handle(std::span<const pollfd> watched, const FrameSink& sink) override {
    if (watched.empty() || (watched.front().revents & POLLIN) == 0) return;
    for (unsigned i = 0; i < frames_at_once; ++i) {
      VnetHeader header;
      const std::span<std::byte> room = scratch_.resize(frame_bytes_max);
      const std::array<iovec, 2> parts = {{{&header, sizeof header}, {room.data(), room.size()}}};
      const ssize_t got = ::readv(fd_.get(), parts.data(), parts.size());
      if (got < static_cast<ssize_t>(sizeof header)) return;
      scratch_.shrink(static_cast<std::size_t>(got) - sizeof header);
      Offload offload;
      offload.needs_checksum = (header.flags & FLAG_NEEDS_CSUM) != 0;
      offload.checksum_good = (header.flags & FLAG_DATA_VALID) != 0;
      offload.checksum_start = header.checksum_start;
      offload.checksum_offset = header.checksum_offset;
      offload.segment_bytes = header.gso_size;
      const auto kind = static_cast<std::uint8_t>(header.gso_type & ~GSO_ECN);
      if (kind == GSO_TCPV4) offload.segmentation = Segmentation::Tcp4;
      if (kind == GSO_TCPV6) offload.segmentation = Segmentation::Tcp6;
      sink(scratch_.bytes(), offload);
    }
  }

  std::string describe() const override { return fmt::format("tap interface {}", interface_); }

 private:
  void write_out(const Frame& frame) {
    VnetHeader header;
    const Offload& offload = frame.offload;
    if (offload.needs_checksum) header.flags = FLAG_NEEDS_CSUM;
    header.checksum_start = offload.checksum_start;
    header.checksum_offset = offload.checksum_offset;
    header.gso_type = gso_type(offload.segmentation);
    if (offload.segmentation != Segmentation::None) {
      const auto packet = find_headers(frame.bytes(), Lengths::FromFrame);
      if (!packet) return;
      header.gso_size = offload.segment_bytes;
      header.header_bytes = static_cast<std::uint16_t>(packet->payload);
    }
    const std::span<const std::byte> bytes = frame.bytes();
    const std::array<iovec, 2> parts = {
        {{&header, sizeof header}, {const_cast<std::byte*>(bytes.data()), bytes.size()}}};
    // What the interface does not take (it is down, its queue is full) is lost, as on a wire.
    [[maybe_unused]] const ssize_t written = ::writev(fd_.get(), parts.data(), parts.size());
  }

  Fd fd_;
  const std::string interface_;
  Frame scratch_;
};

}  // namespace

Result<std::unique_ptr<HostEnd>> make_tap_end(const std::string& interface) {
  Fd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
      return Error("this host has no /dev/net/tun (module tun, or a container without it): use --net user");
    return Error::from_errno("opening /dev/net/tun", errno);
  }
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    const int error = errno;
    if (error == EPERM)
      return Error(
          fmt::format("tap interface {}: this user may not use it. As root: ip tuntap add dev {} mode tap user NAME; "
                      "or use --net user, which needs no rights",
                      interface, interface));
    if (error == EBUSY) return Error(fmt::format("tap interface {} is in use by another process", interface));
    if (error == EINVAL) return Error(fmt::format("{} is an interface of another kind, no tap", interface));
    return Error::from_errno(fmt::format("tap interface {}", interface), error);
  }
  // Without the offloads it still works: the kernel then does all before it hands a frame over.
  ::ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
  return std::unique_ptr<HostEnd>(std::make_unique<TapEnd>(std::move(fd), interface));
}

}  // namespace veneer::net
