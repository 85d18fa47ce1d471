// A local APIC: accepting, prioritising and acknowledging interrupts.
#include "devices/irq/lapic.h"

#include <mutex>
#include <utility>

#include "base/bits.h"
#include "base/log.h"

namespace veneer::devices {
namespace {

constexpr std::uint32_t lvt_masked = 1u << 16;
constexpr std::uint32_t lvt_level = 1u << 15;
constexpr std::uint32_t lvt_remote_irr = 1u << 14;
constexpr std::uint32_t esr_receive_illegal_vector = 1u << 6;
constexpr std::uint8_t first_legal_vector = 16;
constexpr std::uint64_t default_base = 0xfee00000;

DeliveryMode lvt_mode(std::uint32_t entry) { return static_cast<DeliveryMode>(Bits<10, 8>::get(entry)); }

}  // namespace

LocalApic::LocalApic(unsigned id, ApicBus& bus, TimerService& timers, ExtIntSource* ext_int, LapicConfig config)
    : id_(id),
      bus_(bus),
      ext_int_(ext_int),
      physical_bits_(config.physical_bits),
      present_(config.present),
      offers_x2apic_(config.x2apic),
      timer_(timers, config, [this] { deliver_lvt(LvtTimer); }),
      brake_(lvt_count, timers, [this] { ask_again(); }) {
  lint_[0].apic = this;
  lint_[1].apic = this;
  lint_[1].entry = LvtLint1;
  std::lock_guard guard(bus_.lock());
  bus_.attach(*this);
  reset();
}

LocalApic::~LocalApic() {
  std::lock_guard guard(bus_.lock());
  bus_.detach(*this);
}

void LocalApic::reset() {
  apic_base_ = default_base | (present_ ? ApicBaseEnable : std::uint64_t{0});
  if (id_ == 0) apic_base_ |= ApicBaseBsp;
  signals_.store(0, std::memory_order_release);
  in_nmi_.store(false, std::memory_order_release);
  waiting_for_startup_ = id_ != 0;
  startup_vector_ = 0;
  reset_registers();
}

void LocalApic::reset_registers() {
  irr_ = {};
  isr_ = {};
  tmr_ = {};
  tpr_.store(0, std::memory_order_relaxed);
  ldr_ = 0;
  dfr_ = 0xffffffff;
  svr_ = 0xff;
  esr_ = esr_pending_ = 0;
  icr_ = 0;
  lvt_.fill(lvt_masked);
  ext_int_message_ = false;
  timer_.reset();
  brake_.reset();
  update();
}

void LocalApic::set_virtual_wire() {
  svr_ = 0x1ff;
  lvt_[LvtLint0] = static_cast<std::uint32_t>(DeliveryMode::ExtInt) << 8;
  lvt_[LvtLint1] = static_cast<std::uint32_t>(DeliveryMode::Nmi) << 8;
  update();
}

// --- what other chips send ---

bool LocalApic::matches(const ApicMessage& message) const {
  if (!enabled()) return false;
  const std::uint32_t broadcast = message.wide_destination ? 0xffffffff : 0xff;
  if (message.destination == broadcast) return true;
  if (message.destination_mode == DestinationMode::Logical) return logical_match(message);
  return message.destination == id_;
}

bool LocalApic::logical_match(const ApicMessage& message) const {
  const std::uint32_t mda = message.destination;
  if (x2apic()) {  // SDM 3A 11.12.10.1
    const std::uint32_t ldr = logical_id();
    return (mda >> 16) == (ldr >> 16) && (mda & ldr & 0xffff) != 0;
  }
  const std::uint32_t ldr = ldr_ >> 24;
  if (dfr_ >> 28 == 0xf) return (mda & ldr) != 0;  // flat model, SDM 3A 11.6.2.2
  const std::uint32_t cluster = (mda >> 4) & 0xf;
  return (cluster == 0xf || cluster == ldr >> 4) && (mda & ldr & 0xf) != 0;
}

bool LocalApic::deliver(const ApicMessage& message) {
  VENEER_TRACE(Irq, "lapic {}: message mode {} vector {:#x}", id_, static_cast<unsigned>(message.delivery_mode),
               message.vector);
  switch (message.delivery_mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      if (!takes_fixed()) return false;
      accept(message.vector, message.trigger_mode);
      return true;
    case DeliveryMode::Nmi:
      deliver_nmi();
      return true;
    case DeliveryMode::Init:
      signals_.fetch_and(~SignalStartup, std::memory_order_acq_rel);
      waiting_for_startup_ = !bootstrap();
      signal(SignalInit);
      return true;
    case DeliveryMode::Startup:
      if (!waiting_for_startup_) return true;  // SDM 3A 8.4.4.1: the second SIPI of a pair finds nobody waiting
      waiting_for_startup_ = false;
      startup_vector_ = message.vector;
      signal(SignalStartup);
      return true;
    case DeliveryMode::ExtInt:
      ext_int_message_ = true;
      update();
      return true;
    case DeliveryMode::Smi:
      return true;
  }
  return false;  // reserved mode
}

void LocalApic::set_pin(Pin& pin, bool level) {
  const bool rose = level && !pin.level;
  pin.level = level;
  if (!enabled()) {  // SDM 3A 11.4.3: the pins are INTR and NMI then
    if (pin.entry == LvtLint1 && rose) deliver_nmi();
    update();
    return;
  }
  const std::uint32_t entry = lvt_[pin.entry];
  if (lvt_mode(entry) == DeliveryMode::ExtInt)
    update();
  else if (rose || (level && (entry & lvt_level)))
    deliver_lvt(pin.entry);
}

void LocalApic::deliver_lvt(Lvt entry) {
  const std::uint32_t value = lvt_[entry];
  if (value & lvt_masked) return;
  const bool is_pin = entry == LvtLint0 || entry == LvtLint1;
  const bool has_mode = entry != LvtTimer && entry != LvtError;
  switch (has_mode ? lvt_mode(value) : DeliveryMode::Fixed) {
    case DeliveryMode::Fixed: {
      const bool level = is_pin && (value & lvt_level);
      if (level && (value & lvt_remote_irr)) return;
      if (level) lvt_[entry] |= lvt_remote_irr;
      accept(static_cast<std::uint8_t>(value), level ? TriggerMode::Level : TriggerMode::Edge);
      return;
    }
    case DeliveryMode::Nmi:
      deliver_nmi();
      return;
    case DeliveryMode::Init:
      deliver({.delivery_mode = DeliveryMode::Init});
      return;
    case DeliveryMode::ExtInt:
      update();
      return;
    default:
      return;
  }
}

/// The level-triggered pins whose line is up, after a pause of the brake.
void LocalApic::ask_again() {
  for (const Pin& pin : lint_) {
    const std::uint32_t entry = lvt_[pin.entry];
    if (pin.level && (entry & lvt_level) && lvt_mode(entry) == DeliveryMode::Fixed) deliver_lvt(pin.entry);
  }
}

void LocalApic::accept(std::uint8_t vector, TriggerMode trigger) {
  if (vector < first_legal_vector) {
    record_error(esr_receive_illegal_vector);
    return;
  }
  irr_.set(vector);
  tmr_.assign(vector, trigger == TriggerMode::Level);
  update();
}

void LocalApic::record_error(std::uint32_t esr_bit) {
  if (esr_pending_ & esr_bit) return;  // also ends the circle of an error LVT with an illegal vector
  esr_pending_ |= esr_bit;
  deliver_lvt(LvtError);
}

void LocalApic::signal(std::uint32_t what) {
  signals_.fetch_or(what, std::memory_order_acq_rel);
  if (kick_) kick_();
}

// --- priorities ---

std::uint8_t LocalApic::processor_priority() const {
  // SDM 3A 11.8.3.1
  const std::uint8_t tpr = tpr_.load(std::memory_order_relaxed);
  const int in_service = isr_.highest();
  if (in_service < 0 || (tpr >> 4) >= (in_service >> 4)) return tpr;
  return static_cast<std::uint8_t>(in_service & 0xf0);
}

bool LocalApic::ext_int_pending() const {
  if (!ext_int_ || !ext_int_->pending()) return false;
  if (!enabled()) return lint_[0].level;
  const std::uint32_t lint0 = lvt_[LvtLint0];
  if (lint_[0].level && !(lint0 & lvt_masked) && lvt_mode(lint0) == DeliveryMode::ExtInt) return true;
  return ext_int_message_;
}

void LocalApic::update() {
  const bool local = enabled() && (irr_.highest() >> 4) > (processor_priority() >> 4);
  const bool now = local || ext_int_pending();
  const bool before = pending_.exchange(now, std::memory_order_acq_rel);
  if (now && !before && kick_) kick_();
}

std::optional<std::uint8_t> LocalApic::acknowledge() {
  std::lock_guard guard(bus_.lock());
  if (ext_int_pending()) {
    ext_int_message_ = false;
    const std::uint8_t vector = ext_int_->acknowledge();
    update();
    return vector;
  }
  const int requested = irr_.highest();
  if (!enabled() || requested < 0 || (requested >> 4) <= (processor_priority() >> 4)) return std::nullopt;
  const auto vector = static_cast<std::uint8_t>(requested);
  irr_.clear(vector);
  isr_.set(vector);
  update();
  return vector;
}

void LocalApic::end_of_interrupt() {
  const int in_service = isr_.highest();
  if (in_service < 0) return;
  const auto vector = static_cast<std::uint8_t>(in_service);
  isr_.clear(vector);
  if (tmr_.test(vector)) {
    constexpr std::uint32_t svr_suppress_broadcast = 1u << 12;
    if (!(svr_ & svr_suppress_broadcast)) bus_.end_of_interrupt(vector);
    for (const Pin& pin : lint_) {
      std::uint32_t& entry = lvt_[pin.entry];
      if (!(entry & lvt_remote_irr) || (entry & 0xff) != vector) continue;
      entry &= ~lvt_remote_irr;
      if (brake_.ended(pin.entry, pin.level) && pin.level) deliver_lvt(pin.entry);
    }
  }
  update();
}

void LocalApic::set_cr8(std::uint64_t value) {
  std::lock_guard guard(bus_.lock());
  tpr_.store(static_cast<std::uint8_t>((value & 0xf) << 4), std::memory_order_relaxed);
  update();
}

// --- NMI, INIT, SIPI ---

/// One NMI waits while another is served. Of two that come before the first is served none is lost either: hardware
/// takes the first at once.
void LocalApic::deliver_nmi() {
  const bool waits = signals_.load(std::memory_order_acquire) & SignalNmi;
  signal(waits && !in_nmi_.load(std::memory_order_acquire) ? SignalNmi | SignalSecondNmi : SignalNmi);
}

void LocalApic::take_nmi() {
  std::lock_guard guard(bus_.lock());
  const bool second = signals_.fetch_and(~SignalSecondNmi, std::memory_order_acq_rel) & SignalSecondNmi;
  if (!second) signals_.fetch_and(~SignalNmi, std::memory_order_acq_rel);
  in_nmi_.store(true, std::memory_order_release);
}

void LocalApic::take_init() {
  std::lock_guard guard(bus_.lock());
  signals_.fetch_and(~(SignalInit | SignalNmi | SignalSecondNmi | SignalUnhalt), std::memory_order_acq_rel);
  in_nmi_.store(false, std::memory_order_release);
  reset_registers();
}

std::optional<std::uint8_t> LocalApic::take_startup() {
  std::lock_guard guard(bus_.lock());
  if (!(signals_.fetch_and(~SignalStartup, std::memory_order_acq_rel) & SignalStartup)) return std::nullopt;
  return startup_vector_;
}

void LocalApic::tsc_changed() {
  std::lock_guard guard(bus_.lock());
  timer_.tsc_changed();
}

// --- snapshots ---

void LocalApic::save(machine::SnapshotWriter& out) const {
  out.section("lapic");
  out.put(apic_base_);
  out.put(irr_);
  out.put(isr_);
  out.put(tmr_);
  out.put(tpr_.load(std::memory_order_relaxed));
  for (const std::uint32_t value : {ldr_, dfr_, svr_, esr_, esr_pending_}) out.put(value);
  out.put(icr_);
  out.put(lvt_);
  out.put(signals_.load(std::memory_order_relaxed));
  out.put(startup_vector_);
  out.put(static_cast<std::uint8_t>(in_nmi_.load(std::memory_order_relaxed)));
  for (const bool flag : {waiting_for_startup_, ext_int_message_, lint_[0].level, lint_[1].level})
    out.put(static_cast<std::uint8_t>(flag));
  timer_.save(out);
}

void LocalApic::restore(machine::SnapshotReader& in) {
  in.section("lapic");
  in.get(apic_base_);
  in.get(irr_);
  in.get(isr_);
  in.get(tmr_);
  tpr_.store(in.get<std::uint8_t>(), std::memory_order_relaxed);
  for (std::uint32_t* value : {&ldr_, &dfr_, &svr_, &esr_, &esr_pending_}) in.get(*value);
  in.get(icr_);
  in.get(lvt_);
  signals_.store(in.get<std::uint32_t>() & (SignalNmi | SignalSecondNmi | SignalInit | SignalStartup | SignalUnhalt),
                 std::memory_order_release);
  in.get(startup_vector_);
  in_nmi_.store(in.get<std::uint8_t>() != 0, std::memory_order_release);
  for (bool* flag : {&waiting_for_startup_, &ext_int_message_, &lint_[0].level, &lint_[1].level})
    *flag = in.get<std::uint8_t>() != 0;
  timer_.restore(in);
  brake_.restored();
  update();
}

}  // namespace veneer::devices
