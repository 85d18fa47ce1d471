// Bytes between the guest's terminal and the host's.
#include "devices/virtio/virtio_console.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/bits.h"

namespace veneer::devices {
namespace {

/// 5.3.4.
struct Config {
  std::uint16_t cols;
  std::uint16_t rows;
  std::uint32_t max_nr_ports;
  std::uint32_t emerg_wr;
};
static_assert(sizeof(Config) == 12 && offsetof(Config, emerg_wr) == 8);

}  // namespace

std::uint64_t VirtioConsole::features() const { return bit(CONSOLE_F_SIZE) | bit(CONSOLE_F_EMERG_WRITE); }

void VirtioConsole::set_size(std::uint16_t columns, std::uint16_t rows) {
  if (columns == columns_ && rows == rows_) return;
  columns_ = columns;
  rows_ = rows;
  transport().config_changed();
}

std::uint8_t VirtioConsole::read_config(unsigned offset) {
  const Config config{columns_, rows_, 1, 0};
  std::array<std::uint8_t, sizeof config> bytes{};
  std::memcpy(bytes.data(), &config, sizeof config);
  return offset < bytes.size() ? bytes[offset] : std::uint8_t{0};
}

/// 5.3.6.1: a character for those who have no queue, at any time; the field's upper bytes mean nothing.
void VirtioConsole::write_config(unsigned offset, std::uint8_t value) {
  if (offset == offsetof(Config, emerg_wr)) out_.write(std::span(&value, 1));
}

/// What was typed before there was a driver waits on the host's side, and comes now.
void VirtioConsole::start(std::uint64_t features) {
  agreed_features_ = features;
  started_ = true;
  size_untold_ = columns_ != 0;
  if (room_callback_) room_callback_();
}

void VirtioConsole::notify(unsigned index, VirtQueue& queue) {
  if (index == RECEIVE_QUEUE) return deliver(queue);
  transmit(queue);
}

// ---- To the guest ---------------------------------------------------------------------------------------------------

void VirtioConsole::receive(std::span<const std::uint8_t> data) {
  data = data.first(std::min(data.size(), receive_room()));
  if (data.empty()) return;
  input_.insert(input_.end(), data.begin(), data.end());
  deliver(transport().queue(RECEIVE_QUEUE));
  transport().queue_used(RECEIVE_QUEUE);
}

/// 5.3.6: a buffer goes back as soon as there is anything in it.
void VirtioConsole::deliver(VirtQueue& queue) {
  const std::size_t waiting = input_.size();
  VirtChain chain;
  while (!input_.empty() && queue.pop(chain)) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(chain.writable_bytes, input_.size()));
    buffer_.assign(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(count));
    const std::size_t written = copy_to_chain(memory_, chain, 0, std::as_bytes(std::span(buffer_)));
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(written));
    queue.push(chain.head, static_cast<std::uint32_t>(written));
  }
  if (input_.size() < waiting && room_callback_) room_callback_();
}

// ---- From the guest -------------------------------------------------------------------------------------------------

void VirtioConsole::transmit(VirtQueue& queue) {
  // Linux looks at the size only when it changes, and once it has a terminal to give it to: that prints something.
  if (std::exchange(size_untold_, false)) transport().config_changed();
  VirtChain chain;
  while (queue.pop(chain)) {
    buffer_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(chain.readable_bytes, output_bytes_max)));
    const std::size_t count = copy_from_chain(memory_, chain, 0, std::as_writable_bytes(std::span(buffer_)));
    if (count != 0) out_.write(std::span<const std::uint8_t>(buffer_).first(count));
    queue.push(chain.head, 0);
  }
}

// ---- State ----------------------------------------------------------------------------------------------------------

/// What the old driver did not take is lost with it; the next one's start() asks for more. The terminal stays as it is.
void VirtioConsole::reset() {
  started_ = size_untold_ = false;
  agreed_features_ = 0;
  input_.clear();
}

void VirtioConsole::save(machine::SnapshotWriter& out) const {
  out.section("virtio-console");
  out.put(static_cast<std::uint8_t>(started_));
  out.put(agreed_features_);
  out.put(columns_);
  out.put(rows_);
  out.put(static_cast<std::uint8_t>(size_untold_));
  out.put(static_cast<std::uint16_t>(input_.size()));
  for (const std::uint8_t byte : input_) out.put(byte);
}

void VirtioConsole::restore(machine::SnapshotReader& in) {
  in.section("virtio-console");
  started_ = in.get<std::uint8_t>() != 0;
  in.get(agreed_features_);
  in.get(columns_);
  in.get(rows_);
  size_untold_ = in.get<std::uint8_t>() != 0;
  const auto count = in.get<std::uint16_t>();
  if (count > input_bytes_max) {
    in.fail();
    return reset();
  }
  input_.assign(count, 0);
  for (std::uint8_t& byte : input_) in.get(byte);
  if (room_callback_) room_callback_();
}

}  // namespace veneer::devices
