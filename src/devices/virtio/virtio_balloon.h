// The virtio memory balloon: memory that the guest gives up because it is asked to, and free pages that it reports
// unasked.
//
// State: agreed features, the size asked for and the one there is, the buffer that waits to ask for statistics. Work
// that goes on by a timer begins again at a restore.
// Missing: FREE_PAGE_HINT (there is no live migration), PAGE_POISON: a guest that fills its free pages with a pattern
// does not report them.
// Differs from the spec: queues are numbered as Linux numbers them, without gaps for those that were not agreed; of one
// request's page numbers the first 1024 count, the other pages stay with the guest's process.
// Spec: Virtio 1.2, 5.5.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "devices/virtio/virtio_balloon_defs.h"
#include "devices/virtio/virtio_device.h"

namespace veneer::devices {

class VirtioBalloon final : public VirtioDevice {
 public:
  /// Of the balloon, whatever the guest's pages are (5.5.6).
  static constexpr std::uint64_t unit_bytes = 4096;
  static constexpr std::size_t units_per_request_max = 1024;
  /// Giving memory back takes the host about 1 us a page, under the board lock: so much at once, then others have a
  /// turn.
  static constexpr std::uint64_t step_bytes = 8 * MiB, pause_ns = 1'000'000;

  enum class Reports : std::uint8_t { Discard, Keep };
  /// What the guest reports as free goes back to the host, or is kept for it (--prealloc). `memory` is the guest's,
  /// with no IOMMU in between: pages of a balloon are physical, and Linux' driver refuses VIRTIO_F_ACCESS_PLATFORM.
  VirtioBalloon(machine::GuestMemory& memory, TimerService& timers, Reports reports = Reports::Discard);

  /// How much the guest is asked to give up; it does so when and as far as it can. Board lock held, as for all below.
  void set_target(std::uint64_t bytes);
  std::uint64_t target_bytes() const { return target_ * unit_bytes; }
  /// What the guest says that it has given up.
  std::uint64_t actual_bytes() const { return actual_ * unit_bytes; }
  bool driver_present() const { return started_; }

  struct Counters {
    std::uint64_t inflated_bytes = 0;  ///< given back to the host because they are in the balloon
    std::uint64_t reported_bytes = 0;  ///< given back to the host because the guest reported them as free
    std::uint64_t reports = 0;
  };
  const Counters& counters() const { return counters_; }

  /// Asks the driver for new statistics; `answered` is called when they are there, or will never be. False (and no
  /// call) when it takes no questions, or has not answered the last one.
  bool ask_statistics(std::function<void()> answered);
  /// The driver's last answer, by tag (BALLOON_S_...).
  using Statistics = std::array<std::optional<std::uint64_t>, balloon_statistics_count>;
  const Statistics& statistics() const { return statistics_; }

  // VirtioDevice
  std::uint16_t type() const override { return VIRTIO_TYPE_BALLOON; }
  std::uint32_t pci_class() const override { return 0x00ff00; }  // no class fits
  std::uint64_t features() const override;
  unsigned queue_count() const override { return 4; }
  std::uint16_t queue_size_max(unsigned) const override { return 128; }
  std::uint8_t read_config(unsigned offset) override;
  void write_config(unsigned offset, std::uint8_t value) override;
  void start(std::uint64_t features) override;
  void notify(unsigned index, VirtQueue& queue) override;
  void reset() override;
  void settle() override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;

 private:
  static constexpr unsigned INFLATE_QUEUE = 0, DEFLATE_QUEUE = 1, STATISTICS_QUEUE = 2;
  bool agreed(unsigned feature) const { return (agreed_features_ >> feature) & 1; }
  unsigned reporting_queue() const { return agreed(BALLOON_F_STATS_VQ) ? 3 : 2; }
  /// The driver's ranges, and how far they are given back.
  struct Report {
    VirtChain chain;
    std::size_t segment = 0;
    std::uint64_t offset = 0;
  };

  void work();
  bool begin_report();
  void go_on(std::uint64_t& budget);
  bool take_request(unsigned index, std::uint64_t& budget);
  void inflate(const VirtChain& chain);
  void take_statistics(VirtQueue& queue);
  void read_statistics(const VirtChain& chain);
  void statistics_answered();

  machine::GuestMemory& memory_;
  TimerService& timers_;
  const Reports reports_;
  std::unique_ptr<Timer> timer_;  // goes on with the work
  std::optional<Report> report_;  // the one that work() is at
  bool started_ = false;
  std::uint64_t agreed_features_ = 0;
  std::uint32_t target_ = 0, actual_ = 0;          // configuration: num_pages, actual
  std::optional<std::uint16_t> statistics_chain_;  // giving it back asks for new ones (5.5.6.3)
  Statistics statistics_;
  std::function<void()> answered_;
  Counters counters_;
  std::vector<std::uint32_t> units_;
};

}  // namespace veneer::devices
