// The thread's rounds: from the card, to the host, wait, from the host, to the card.
#include "net/link.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "base/assert.h"
#include "base/thread_start.h"
#include "net/offload.h"

namespace veneer::net {
namespace {

/// Taken from the card while the board lock is held once.
constexpr std::size_t batch_frames = 64;
constexpr std::size_t batch_bytes = 512 * 1024;
/// While more than that waits for the guest, the host is not asked for more (its senders feel it); datagrams that were
/// read already are dropped beyond the second.
constexpr std::size_t enough_incoming_bytes = 1024 * 1024;
constexpr std::size_t incoming_bytes_max = 4 * 1024 * 1024;
constexpr std::size_t spare_frames_max = 128;

}  // namespace

struct Link::Round {
  bool running;  ///< the machine is
  bool more;     ///< the card may have more to send
};

Link::Link(std::unique_ptr<HostEnd> end, std::recursive_mutex& board_lock)
    : end_(std::move(end)), board_lock_(board_lock), wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  VENEER_ASSERT(wake_fd_.valid());
  outgoing_.resize(batch_frames);
}

Link::~Link() { stop(); }

Result<void> Link::start(unsigned index) {
  VENEER_ASSERT(card_ != nullptr);
  // Signals for the process go to the thread that waits for them; the new thread inherits this mask.
  sigset_t all, old;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&all, fault);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  int error = 0;
  try {
    thread_ = std::thread([this, name = fmt::format("_net{}", index)] {
      begin_thread(end_->opens_files() ? ThreadKind::NetFiles : ThreadKind::Net, name.c_str());
      run();
    });
  } catch (const std::system_error& failure) {  // a container's process limit
    error = failure.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (error != 0) return Error::from_errno("starting a thread for the network", error);
  return {};
}

void Link::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_release);
  wake_pending_ = false;
  wake();
  thread_.join();
}

void Link::wake() {
  if (wake_pending_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Link::run() {
  std::vector<pollfd> watched;
  const FrameSink sink = [this](std::span<const std::byte> bytes, const Offload& offload) { enqueue(bytes, offload); };
  while (!stopping_.load(std::memory_order_acquire)) {
    wake_pending_ = false;
    const Round round = exchange();
    for (std::size_t i = 0; i < outgoing_count_; ++i) end_->send(outgoing_[i]);

    watched.assign(1, {wake_fd_.get(), POLLIN, 0});
    int timeout_ms = round.running && (round.more || end_->has_more()) ? 0 : -1;
    const bool ask_host = round.running && (incoming_bytes_ < enough_incoming_bytes || end_->has_more());
    if (ask_host) end_->prepare(watched, timeout_ms);
    const int ready = ::poll(watched.data(), watched.size(), timeout_ms);
    if (ready < 0 && errno != EINTR) break;
    if (watched.front().revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const auto got = ::read(wake_fd_.get(), &count, sizeof count);
    }
    if (ask_host) end_->handle(std::span(watched).subspan(1), sink);
  }
}

/// Between card and queues.
Link::Round Link::exchange() {
  const std::lock_guard hold(board_lock_);
  outgoing_count_ = 0;
  if (forget_) {
    while (!incoming_.empty()) release_front();
    forget_ = false;
  }
  counters_.dropped_frames += std::exchange(overflowed_, 0);
  if (!running_) return {.running = false, .more = false};
  give_waiting();
  std::size_t bytes = 0;
  while (outgoing_count_ < batch_frames && bytes < batch_bytes) {
    Frame& frame = outgoing_[outgoing_count_];
    if (!card_->take(frame)) break;
    ++outgoing_count_;
    bytes += frame.size();
  }
  counters_.sent_frames += outgoing_count_;
  counters_.sent_bytes += bytes;
  card_->announce();
  return {.running = true, .more = outgoing_count_ == batch_frames || bytes >= batch_bytes};
}

/// False when the card is full.
bool Link::give_waiting() {
  const CardAbilities abilities = card_->abilities();
  while (!incoming_.empty()) {
    Frame& frame = incoming_.front();
    const Offload& offload = frame.offload;
    if (offload.segmentation != Segmentation::None &&
        !(abilities.takes(offload.segmentation) && offload.needs_checksum)) {
      cut_front();
      continue;
    }
    if (offload.needs_checksum && !abilities.checksum) complete_checksum(frame);
    switch (card_->give(frame)) {
      case Given::Full:
        return false;
      case Given::Done:
        ++counters_.received_frames;
        counters_.received_bytes += frame.size();
        break;
      case Given::Dropped:
        ++counters_.dropped_frames;
        break;
    }
    release_front();
  }
  return true;
}

/// Puts the pieces of the first frame in its place.
void Link::cut_front() {
  std::vector<Frame> pieces;
  const bool possible = cut(incoming_.front(), [&pieces, this](const Frame& piece) {
    Frame copy = std::move(fresh());
    spare_.pop_back();
    copy.assign(piece.bytes());
    copy.offload = piece.offload;
    pieces.push_back(std::move(copy));
  });
  if (!possible) ++counters_.dropped_frames;
  release_front();
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    incoming_bytes_ += piece->size();
    incoming_.push_front(std::move(*piece));
  }
}

/// The last of spare_.
Frame& Link::fresh() {
  if (spare_.empty()) spare_.emplace_back();
  return spare_.back();
}

void Link::enqueue(std::span<const std::byte> bytes, const Offload& offload) {
  if (bytes.size() > frame_bytes_max) return;
  if (incoming_bytes_ + bytes.size() > incoming_bytes_max) {
    ++overflowed_;
    return;
  }
  Frame frame = std::move(fresh());
  spare_.pop_back();
  frame.assign(bytes);
  frame.offload = offload;
  incoming_bytes_ += bytes.size();
  incoming_.push_back(std::move(frame));
}

void Link::release_front() {
  incoming_bytes_ -= incoming_.front().size();
  if (spare_.size() < spare_frames_max) spare_.push_back(std::move(incoming_.front()));
  incoming_.pop_front();
}

}  // namespace veneer::net
