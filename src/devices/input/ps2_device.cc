// The output queue of a PS/2 device.
#include "devices/input/ps2_device.h"

namespace veneer::devices {

std::uint8_t Ps2Device::take() {
  const std::uint8_t byte = queue_[head_];
  head_ = static_cast<std::uint8_t>((head_ + 1) % queue_bytes);
  if (--count_ == 0) output_taken();
  return byte;
}

void Ps2Device::give_back(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > queue_bytes - count_) return;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    head_ = static_cast<std::uint8_t>((head_ + queue_bytes - 1) % queue_bytes);
    queue_[head_] = bytes[i];
    ++count_;
  }
}

void Ps2Device::put(std::uint8_t byte) {
  queue_[(head_ + count_) % queue_bytes] = byte;
  ++count_;
}

bool Ps2Device::send(std::span<const std::uint8_t> bytes) {
  if (bytes.size() > queue_bytes - count_) return false;
  for (const std::uint8_t byte : bytes) put(byte);
  if (listener_) listener_();
  return true;
}

void Ps2Device::save(machine::SnapshotWriter& out) const {
  out.put(count_);
  for (unsigned i = 0; i < count_; ++i) out.put(queue_[(head_ + i) % queue_bytes]);
}

void Ps2Device::restore(machine::SnapshotReader& in) {
  clear_output();
  const auto count = in.get<std::uint8_t>();
  if (count > queue_bytes) return in.fail();
  for (unsigned i = 0; i < count; ++i) put(in.get<std::uint8_t>());
}

}  // namespace veneer::devices
