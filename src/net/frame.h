// Frame: one Ethernet frame on its way between a guest's card and the host, with what was left to do on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

namespace veneer::net {

inline constexpr std::size_t ethernet_header_bytes = 14;
/// What the wire of our networks carries behind the Ethernet header; larger packets travel with a Segmentation.
inline constexpr std::size_t mtu_bytes = 1500;
/// The largest frame that anybody may hand over: an IP packet of 64 KiB, its Ethernet header and a VLAN tag.
inline constexpr std::size_t frame_bytes_max = 65535 + ethernet_header_bytes + 4;

/// A packet that is too large for the wire and stands for several.
enum class Segmentation : std::uint8_t {
  None,
  Tcp4,  ///< to be cut into TCP segments over IPv4
  Tcp6,  ///< the same over IPv6
  Udp,   ///< a datagram over IPv4, to be cut into IP fragments
};

/// What is not done yet, or need not be done, on a frame.
struct Offload {
  bool needs_checksum = false;        ///< the sum over checksum_start to the end is to be put at checksum_offset
  bool checksum_good = false;         ///< nobody has to look: the frame never was on a wire
  std::uint16_t checksum_start = 0;   ///< from the frame's start
  std::uint16_t checksum_offset = 0;  ///< from checksum_start
  Segmentation segmentation = Segmentation::None;
  std::uint16_t segment_bytes = 0;  ///< payload of each segment, with a segmentation
};

/// The bytes of a frame in memory of its own, which is kept when the frame is used again.
class Frame {
 public:
  Frame() = default;
  Frame(Frame&& other) noexcept
      : offload(other.offload),
        data_(std::move(other.data_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Frame& operator=(Frame&& other) noexcept {
    offload = other.offload;
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  Offload offload;

  std::span<std::byte> bytes() { return {data_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::size_t size() const { return size_; }

  /// Makes room; what was in it before is lost. At most frame_bytes_max.
  std::span<std::byte> resize(std::size_t size_bytes) {
    if (size_bytes > capacity_) {
      capacity_ = size_bytes <= 2048 ? 2048 : frame_bytes_max;
      data_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
    }
    size_ = size_bytes;
    return bytes();
  }
  /// Cuts it off.
  void shrink(std::size_t size_bytes) {
    if (size_bytes < size_) size_ = size_bytes;
  }
  void assign(std::span<const std::byte> content) {
    resize(content.size());
    if (!content.empty()) std::memcpy(data_.get(), content.data(), content.size());
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace veneer::net
