// Link: the cable between a guest's card and an end in the host, and the thread that carries frames along it.
//
// Locks: the thread holds the board lock while it talks to the card (one batch at a time) and nothing while it talks to
// the host, so that system calls of the network cost the guest no time.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "net/card.h"
#include "net/host_end.h"

namespace veneer::net {

struct LinkCounters {
  std::uint64_t sent_frames = 0, sent_bytes = 0;          ///< from the guest
  std::uint64_t received_frames = 0, received_bytes = 0;  ///< by the guest
  std::uint64_t dropped_frames = 0;                       ///< for the guest, which had no room or no wish for them
};

class Link final : public CardPort {
 public:
  /// Asserts when the host gives no eventfd. `board_lock` outlives it.
  Link(std::unique_ptr<HostEnd> end, std::recursive_mutex& board_lock);
  /// Stops the thread; not with the board lock held.
  ~Link() override;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// The card, which has to be there until stop(). Once, before start().
  void plug(Card& card) { card_ = &card; }

  /// Starts the thread `_netN`; frames move once resume() was called. It has to be confined by rules of its own, so it
  /// starts before the main thread is (sandbox/sandbox.h).
  Result<void> start(unsigned index);
  void stop();

  /// The card has frames to send, or room again. Any thread.
  void wake() override;

  /// While paused nothing of the guest is touched, and the host's side is left alone. Board lock held. A link starts
  /// paused.
  void pause() { running_ = false; }
  void resume() {
    running_ = true;
    wake();
  }
  void forget_waiting() override { forget_ = true; }

  /// Board lock held.
  LinkCounters counters() const { return counters_; }
  std::string describe() const { return end_->describe(); }

 private:
  void run();
  struct Round;
  Round exchange();
  bool give_waiting();
  void enqueue(std::span<const std::byte> bytes, const Offload& offload);
  Frame& fresh();
  void release_front();
  void cut_front();

  std::unique_ptr<HostEnd> end_;
  std::recursive_mutex& board_lock_;
  Card* card_ = nullptr;
  Fd wake_fd_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> wake_pending_{false};

  bool running_ = false;  // guarded by board_lock_, as the next two
  bool forget_ = false;
  LinkCounters counters_;

  // Of the thread.
  std::vector<Frame> outgoing_;
  std::size_t outgoing_count_ = 0;
  std::deque<Frame> incoming_;
  std::size_t incoming_bytes_ = 0;
  std::uint64_t overflowed_ = 0;
  std::vector<Frame> spare_;
};

}  // namespace veneer::net
