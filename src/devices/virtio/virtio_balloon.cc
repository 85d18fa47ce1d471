// Pages that come and go, and the guest's statistics.
#include "devices/virtio/virtio_balloon.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "base/bits.h"

namespace veneer::devices {
namespace {

/// 5.5.4, as far as there are features for it.
struct Config {
  std::uint32_t num_pages;
  std::uint32_t actual;
};
static_assert(sizeof(Config) == 8);

/// 5.5.6.3: a tag and its value, without padding.
constexpr std::size_t statistic_bytes = 10;
/// More than there are tags; a driver may send some twice.
constexpr std::size_t statistics_max = 64;

}  // namespace

VirtioBalloon::VirtioBalloon(machine::GuestMemory& memory, TimerService& timers, Reports reports)
    : memory_(memory), timers_(timers), reports_(reports), timer_(timers.make_timer([this] { work(); })) {}

std::uint64_t VirtioBalloon::features() const {
  return bit(BALLOON_F_STATS_VQ) | bit(BALLOON_F_DEFLATE_ON_OOM) | bit(BALLOON_F_PAGE_REPORTING);
}

void VirtioBalloon::set_target(std::uint64_t bytes) {
  const auto units = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(bytes / unit_bytes, std::numeric_limits<std::uint32_t>::max()));
  if (std::exchange(target_, units) != units) transport().config_changed();
}

std::uint8_t VirtioBalloon::read_config(unsigned offset) {
  const Config config{target_, actual_};
  std::array<std::uint8_t, sizeof config> bytes{};
  std::memcpy(bytes.data(), &config, sizeof config);
  return offset < bytes.size() ? bytes[offset] : std::uint8_t{0};
}

/// Only `actual` is the driver's (5.5.5).
void VirtioBalloon::write_config(unsigned offset, std::uint8_t value) {
  if (offset < offsetof(Config, actual) || offset >= sizeof(Config)) return;
  const auto shift = static_cast<unsigned>(8 * (offset - offsetof(Config, actual)));
  actual_ = (actual_ & ~(std::uint32_t{0xff} << shift)) | std::uint32_t{value} << shift;
}

/// Linux fills the statistics queue before it sets DRIVER_OK, and notifies then, too early: so this is the time to
/// look.
void VirtioBalloon::start(std::uint64_t features) {
  agreed_features_ = features;
  started_ = true;
  if (!agreed(BALLOON_F_STATS_VQ)) return;
  take_statistics(transport().queue(STATISTICS_QUEUE));
  transport().queue_used(STATISTICS_QUEUE);
}

void VirtioBalloon::notify(unsigned index, VirtQueue& queue) {
  if (index == STATISTICS_QUEUE && agreed(BALLOON_F_STATS_VQ)) return take_statistics(queue);
  work();
}

// ---- Pages ----------------------------------------------------------------------------------------------------------

/// Requests are carried out at once, and large ones step by step.
void VirtioBalloon::work() {
  std::uint64_t budget = step_bytes;
  while (budget != 0) {
    if (report_ || begin_report())
      go_on(budget);
    else if (!take_request(INFLATE_QUEUE, budget) && !take_request(DEFLATE_QUEUE, budget))
      return;
  }
  timer_->arm(timers_.clock().now_ns() + pause_ns);
}

bool VirtioBalloon::begin_report() {
  Report report;
  if (!agreed(BALLOON_F_PAGE_REPORTING)) return false;
  if (!transport().queue(reporting_queue()).pop(report.chain)) {
    transport().queue_used(reporting_queue());  // it may have broken
    return false;
  }
  report_ = std::move(report);
  return true;
}

/// 5.5.6.7. The pages are the driver's again when it has the chain back, and hold what they did or zeros.
void VirtioBalloon::go_on(std::uint64_t& budget) {
  const std::vector<VirtSegment>& segments = report_->chain.writable;
  while (reports_ == Reports::Discard && report_->segment < segments.size()) {
    if (budget == 0) return;
    const VirtSegment& segment = segments[report_->segment];
    const std::uint64_t bytes = std::min(budget, segment.bytes - report_->offset);
    counters_.reported_bytes += memory_.discard(segment.address + report_->offset, bytes);
    report_->offset += bytes;
    budget -= bytes;
    if (report_->offset != segment.bytes) continue;
    ++report_->segment;
    report_->offset = 0;
  }
  ++counters_.reports;
  transport().queue(reporting_queue()).push(report_->chain.head, 0);
  transport().queue_used(reporting_queue());
  report_.reset();
  budget -= std::min(budget, unit_bytes);
}

/// What comes out of the balloon is memory again when it is touched.
bool VirtioBalloon::take_request(unsigned index, std::uint64_t& budget) {
  VirtQueue& queue = transport().queue(index);
  VirtChain chain;
  const bool found = queue.pop(chain);
  if (found) {
    if (index == INFLATE_QUEUE) inflate(chain);
    queue.push(chain.head, 0);
    budget -= std::min(budget, unit_bytes * std::max<std::uint64_t>(1, index == INFLATE_QUEUE ? units_.size() : 1));
  }
  transport().queue_used(index);
  return found;
}

/// 5.5.6.1. Page numbers may be anything: what is no RAM of the guest's discard() passes over.
void VirtioBalloon::inflate(const VirtChain& chain) {
  units_.resize(static_cast<std::size_t>(
      std::min<std::uint64_t>(chain.readable_bytes / sizeof(units_[0]), units_per_request_max)));
  const std::size_t bytes = copy_from_chain(memory_, chain, 0, std::as_writable_bytes(std::span(units_)));
  units_.resize(bytes / sizeof(units_[0]));
  std::sort(units_.begin(), units_.end());
  for (auto first = units_.begin(); first != units_.end();) {
    auto last = first;  // of pages that follow each other: they go at once
    while (last + 1 != units_.end() && last[1] - *last <= 1) ++last;
    counters_.inflated_bytes += memory_.discard(GuestPhys{*first * unit_bytes}, (*last - *first + 1) * unit_bytes);
    first = last + 1;
  }
}

// ---- Statistics (5.5.6.3) -------------------------------------------------------------------------------------------

/// The driver keeps one buffer in this queue. What comes beside it goes back at once.
void VirtioBalloon::take_statistics(VirtQueue& queue) {
  VirtChain chain;
  while (queue.pop(chain)) {
    if (statistics_chain_) queue.push(*statistics_chain_, 0);
    statistics_chain_ = chain.head;
    read_statistics(chain);
    statistics_answered();
  }
}

void VirtioBalloon::read_statistics(const VirtChain& chain) {
  std::array<std::byte, statistic_bytes * statistics_max> bytes{};
  const std::size_t size = copy_from_chain(
      memory_, chain, 0,
      std::span(bytes).first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), chain.readable_bytes))));
  if (size < statistic_bytes) return;  // the first one may be empty
  statistics_ = {};
  for (std::size_t at = 0; at + statistic_bytes <= size; at += statistic_bytes) {
    std::uint16_t tag = 0;
    std::uint64_t value = 0;
    std::memcpy(&tag, bytes.data() + at, sizeof tag);
    std::memcpy(&value, bytes.data() + at + sizeof tag, sizeof value);
    if (tag < statistics_.size()) statistics_[tag] = value;
  }
}

bool VirtioBalloon::ask_statistics(std::function<void()> answered) {
  if (!started_ || !statistics_chain_) return false;
  answered_ = std::move(answered);
  transport().queue(STATISTICS_QUEUE).push(*std::exchange(statistics_chain_, std::nullopt), 0);
  transport().queue_used(STATISTICS_QUEUE);
  return true;
}

void VirtioBalloon::statistics_answered() {
  if (const auto answered = std::exchange(answered_, nullptr)) answered();
}

// ---- State ----------------------------------------------------------------------------------------------------------

/// The size asked for stays: a guest that starts anew is asked again.
void VirtioBalloon::reset() {
  started_ = false;
  agreed_features_ = 0;
  actual_ = 0;
  report_.reset();
  timer_->cancel();
  statistics_chain_.reset();
  statistics_ = {};
  statistics_answered();
}

/// A report that is begun goes back into its ring, to be done again from its beginning: finishing it here would raise
/// an interrupt, for which it is too late.
void VirtioBalloon::settle() {
  if (!report_) return;
  report_.reset();
  transport().queue(reporting_queue()).put_back(1);
  timer_->arm(timers_.clock().now_ns() + pause_ns);
}

void VirtioBalloon::save(machine::SnapshotWriter& out) const {
  out.section("virtio-balloon");
  out.put(static_cast<std::uint8_t>(started_));
  out.put(agreed_features_);
  out.put(target_);
  out.put(actual_);
  out.put(static_cast<std::uint8_t>(statistics_chain_.has_value()));
  out.put(statistics_chain_.value_or(0));
}

void VirtioBalloon::restore(machine::SnapshotReader& in) {
  in.section("virtio-balloon");
  started_ = in.get<std::uint8_t>() != 0;
  in.get(agreed_features_);
  in.get(target_);
  in.get(actual_);
  const bool waiting = in.get<std::uint8_t>() != 0;
  const auto head = in.get<std::uint16_t>();
  report_.reset();
  timer_->cancel();
  if (started_) timer_->arm(timers_.clock().now_ns());  // there may be work that was not begun
  statistics_chain_ = waiting ? std::optional(head) : std::nullopt;
  statistics_ = {};
  statistics_answered();
  if (waiting && head >= queue_size_max(STATISTICS_QUEUE)) {
    in.fail();
    reset();
  }
}

}  // namespace veneer::devices
