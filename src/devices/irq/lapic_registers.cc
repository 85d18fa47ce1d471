// A local APIC: its registers in memory (xAPIC) and as MSRs (x2APIC).
#include <algorithm>
#include <mutex>

#include "base/bits.h"
#include "devices/irq/lapic.h"

namespace veneer::devices {
namespace {

constexpr std::uint32_t MSR_IA32_APIC_BASE = 0x1b;
constexpr std::uint32_t MSR_IA32_TSC_DEADLINE = 0x6e0;
constexpr std::uint32_t MSR_X2APIC_FIRST = 0x800;
constexpr std::uint32_t MSR_X2APIC_LAST = 0x8ff;

constexpr std::uint32_t lvt_masked = 1u << 16;
constexpr std::uint32_t esr_send_illegal_vector = 1u << 5;
constexpr std::uint32_t esr_illegal_register = 1u << 7;
constexpr std::uint8_t first_legal_vector = 16;

// Version 0x14, six LVT entries, EOI broadcast can be suppressed (SDM 3A 11.4.8).
constexpr std::uint32_t version = 0x14 | (5u << 16) | (1u << 24);

// Writable bits of the LVT entries, in order (SDM 3A figure 11-8).
constexpr std::uint32_t lvt_writable[] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
// Delivery status and remote IRR: there, but read-only.
constexpr std::uint32_t lvt_read_only = 0x5000;

// SDM 3A figure 11-28: what else is set in the x2APIC's ICR faults.
constexpr std::uint64_t icr_x2apic_reserved = Bits<31, 20>::mask | Bits<17, 16>::mask | bit(13);
constexpr std::uint64_t icr_delivery_status = bit(12);

enum class Shorthand : std::uint8_t { None, Self, AllIncludingSelf, AllExcludingSelf };

}  // namespace

std::uint32_t LocalApic::logical_id() const { return x2apic() ? ((id_ >> 4) << 16) | (1u << (id_ & 15)) : ldr_; }

std::uint32_t LocalApic::read_register(Reg reg) {
  const auto number = static_cast<unsigned>(reg);
  if (number >= static_cast<unsigned>(Reg::ISR) && number < static_cast<unsigned>(Reg::ISR) + 0x18) {
    const VectorSet& set = number < static_cast<unsigned>(Reg::TMR)   ? isr_
                           : number < static_cast<unsigned>(Reg::IRR) ? tmr_
                                                                      : irr_;
    return set.word(number & 7);
  }
  switch (reg) {
    case Reg::ID:
      return x2apic() ? id_ : id_ << 24;
    case Reg::VERSION:
      return version;
    case Reg::TPR:
      return tpr_.load(std::memory_order_relaxed);
    case Reg::APR:
      return processor_priority();
    case Reg::PPR:
      return processor_priority();
    case Reg::EOI:
      return 0;
    case Reg::RRD:
      return 0;
    case Reg::LDR:
      return logical_id();
    case Reg::DFR:
      return dfr_;
    case Reg::SVR:
      return svr_;
    case Reg::ESR:
      return esr_;
    case Reg::ICR_LOW:
      return static_cast<std::uint32_t>(icr_);
    case Reg::ICR_HIGH:
      return static_cast<std::uint32_t>(icr_ >> 32);
    case Reg::LVT_TIMER:
      return lvt_[LvtTimer];
    case Reg::LVT_THERMAL:
      return lvt_[LvtThermal];
    case Reg::LVT_PMC:
      return lvt_[LvtPmc];
    case Reg::LVT_LINT0:
      return lvt_[LvtLint0];
    case Reg::LVT_LINT1:
      return lvt_[LvtLint1];
    case Reg::LVT_ERROR:
      return lvt_[LvtError];
    case Reg::TIMER_INITIAL:
      return timer_.initial_count();
    case Reg::TIMER_CURRENT:
      return timer_.current_count();
    case Reg::TIMER_DIVIDE:
      return timer_.divide();
    default:
      record_error(esr_illegal_register);
      return 0;
  }
}

void LocalApic::write_register(Reg reg, std::uint32_t value) {
  switch (reg) {
    case Reg::TPR:
      tpr_.store(static_cast<std::uint8_t>(value), std::memory_order_relaxed);
      update();
      return;
    case Reg::EOI:
      end_of_interrupt();
      return;
    case Reg::LDR:
      ldr_ = value & 0xff000000;
      return;
    case Reg::DFR:
      dfr_ = value | 0x0fffffff;
      return;
    case Reg::SVR:
      write_svr(value);
      return;
    case Reg::ESR:
      esr_ = esr_pending_;  // SDM 3A 11.5.3: a write shows what came since the last, and starts anew
      esr_pending_ = 0;
      return;
    case Reg::ICR_LOW:
      write_icr((icr_ & ~byte_mask(4)) | value);
      return;
    case Reg::ICR_HIGH:
      icr_ = (icr_ & byte_mask(4)) | (std::uint64_t{value & 0xff000000} << 32);
      return;
    case Reg::LVT_TIMER:
      write_lvt(LvtTimer, value);
      return;
    case Reg::LVT_THERMAL:
      write_lvt(LvtThermal, value);
      return;
    case Reg::LVT_PMC:
      write_lvt(LvtPmc, value);
      return;
    case Reg::LVT_LINT0:
      write_lvt(LvtLint0, value);
      return;
    case Reg::LVT_LINT1:
      write_lvt(LvtLint1, value);
      return;
    case Reg::LVT_ERROR:
      write_lvt(LvtError, value);
      return;
    case Reg::TIMER_INITIAL:
      timer_.set_initial_count(value);
      return;
    case Reg::TIMER_DIVIDE:
      timer_.set_divide(value);
      return;
    case Reg::ID:
    case Reg::VERSION:
    case Reg::APR:
    case Reg::PPR:
    case Reg::RRD:
    case Reg::TIMER_CURRENT:
      return;  // read-only
    default:
      record_error(esr_illegal_register);
      return;
  }
}

void LocalApic::write_svr(std::uint32_t value) {
  svr_ = value & 0x11ff;
  if (!software_enabled())
    for (std::uint32_t& entry : lvt_) entry |= lvt_masked;  // SDM 3A 11.4.7.2
  update();
}

void LocalApic::write_lvt(Lvt entry, std::uint32_t value) {
  value = (value & lvt_writable[entry]) | (lvt_[entry] & lvt_read_only);
  if (!software_enabled()) value |= lvt_masked;
  lvt_[entry] = value;
  if (entry == LvtTimer)
    timer_.set_mode(static_cast<LapicTimer::Mode>(std::min<std::uint64_t>(Bits<18, 17>::get(value), 2)));
  constexpr std::uint32_t lvt_level = 1u << 15;
  if (entry == LvtLint0 || entry == LvtLint1) {
    Pin& pin = lint_[entry - LvtLint0];
    if (!(value & lvt_level)) lvt_[entry] &= ~std::uint32_t{1u << 14};
    if (pin.level && (value & lvt_level)) deliver_lvt(entry);
  }
  update();
}

void LocalApic::write_icr(std::uint64_t value) {
  icr_ = value & ~icr_delivery_status;
  ApicMessage message;
  message.vector = static_cast<std::uint8_t>(value);
  message.delivery_mode = static_cast<DeliveryMode>(Bits<10, 8>::get(value));
  message.destination_mode = (value & bit(11)) ? DestinationMode::Logical : DestinationMode::Physical;
  message.wide_destination = x2apic();
  message.destination = static_cast<std::uint32_t>(x2apic() ? value >> 32 : value >> 56);

  const bool fixed =
      message.delivery_mode == DeliveryMode::Fixed || message.delivery_mode == DeliveryMode::LowestPriority;
  if (fixed && message.vector < first_legal_vector) {
    record_error(esr_send_illegal_vector);
    return;
  }
  const bool asserts = (value & bit(14)) != 0;
  if (message.delivery_mode == DeliveryMode::Init && !asserts) return;  // INIT level de-assert: SDM 3A 11.6.1

  const auto shorthand = static_cast<Shorthand>(Bits<19, 18>::get(value));
  if (shorthand == Shorthand::Self) {
    if (fixed && takes_fixed()) accept(message.vector, TriggerMode::Edge);
    return;
  }
  if (shorthand != Shorthand::None) {
    message.destination_mode = DestinationMode::Physical;
    message.destination = 0xffffffff;
    message.wide_destination = true;
  }
  bus_.message(message, shorthand == Shorthand::AllExcludingSelf ? this : nullptr);
}

// --- the register page ---

std::uint64_t LocalApic::read(std::uint64_t offset, unsigned size_bytes) {
  if (!enabled() || x2apic()) return byte_mask(size_bytes);
  // Registers are 32 bits wide at multiples of 16; between them there is nothing (SDM 3A 11.4.1).
  if ((offset & 0xf) >= 4 || offset >= 0x1000) return 0;
  const std::uint64_t value = read_register(static_cast<Reg>(offset >> 4));
  return (value >> (8 * (offset & 3))) & byte_mask(size_bytes);
}

void LocalApic::write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (!enabled() || x2apic()) return;
  if ((offset & 0xf) != 0 || size_bytes < 4 || offset >= 0x1000) return;
  write_register(static_cast<Reg>(offset >> 4), static_cast<std::uint32_t>(value));
}

// --- MSRs ---

std::optional<std::uint64_t> LocalApic::read_msr(std::uint32_t index) {
  std::lock_guard guard(bus_.lock());
  if (index == MSR_IA32_APIC_BASE) return apic_base_;
  if (index == MSR_IA32_TSC_DEADLINE) return timer_.tsc_deadline();
  if (index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST || !x2apic()) return std::nullopt;
  return read_x2apic(index - MSR_X2APIC_FIRST);
}

bool LocalApic::write_msr(std::uint32_t index, std::uint64_t value) {
  std::lock_guard guard(bus_.lock());
  if (index == MSR_IA32_APIC_BASE) return write_apic_base(value);
  if (index == MSR_IA32_TSC_DEADLINE) {
    timer_.set_tsc_deadline(value);
    return true;
  }
  if (index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST || !x2apic()) return false;
  return write_x2apic(index - MSR_X2APIC_FIRST, value);
}

std::optional<std::uint64_t> LocalApic::read_x2apic(std::uint32_t number) {
  if (number >= 0x10 && number < 0x28) return read_register(static_cast<Reg>(number));
  switch (static_cast<Reg>(number)) {
    case Reg::ICR_LOW:
      return icr_;
    case Reg::ID:
    case Reg::VERSION:
    case Reg::TPR:
    case Reg::PPR:
    case Reg::LDR:
    case Reg::SVR:
    case Reg::ESR:
    case Reg::LVT_TIMER:
    case Reg::LVT_THERMAL:
    case Reg::LVT_PMC:
    case Reg::LVT_LINT0:
    case Reg::LVT_LINT1:
    case Reg::LVT_ERROR:
    case Reg::TIMER_INITIAL:
    case Reg::TIMER_CURRENT:
    case Reg::TIMER_DIVIDE:
      return read_register(static_cast<Reg>(number));
    default:
      return std::nullopt;  // not there, or write-only
  }
}

bool LocalApic::write_x2apic(std::uint32_t number, std::uint64_t value) {
  const auto reg = static_cast<Reg>(number);
  if (reg == Reg::ICR_LOW) {
    if (value & icr_x2apic_reserved) return false;
    write_icr(value);
    return true;
  }
  std::uint64_t allowed = 0;
  switch (reg) {
    case Reg::TPR:
      allowed = 0xff;
      break;
    case Reg::EOI:
      allowed = 0;
      break;
    case Reg::SVR:
      allowed = 0x13ff;
      break;
    case Reg::ESR:
      allowed = 0;
      break;
    case Reg::LVT_TIMER:
      allowed = lvt_writable[LvtTimer] | lvt_read_only;
      break;
    case Reg::LVT_THERMAL:
      allowed = lvt_writable[LvtThermal] | lvt_read_only;
      break;
    case Reg::LVT_PMC:
      allowed = lvt_writable[LvtPmc] | lvt_read_only;
      break;
    case Reg::LVT_LINT0:
      allowed = lvt_writable[LvtLint0] | lvt_read_only;
      break;
    case Reg::LVT_LINT1:
      allowed = lvt_writable[LvtLint1] | lvt_read_only;
      break;
    case Reg::LVT_ERROR:
      allowed = lvt_writable[LvtError] | lvt_read_only;
      break;
    case Reg::TIMER_INITIAL:
      allowed = 0xffffffff;
      break;
    case Reg::TIMER_DIVIDE:
      allowed = 0xb;
      break;
    case Reg::SELF_IPI:
      allowed = 0xff;
      break;
    default:
      return false;  // not there, or read-only
  }
  if (value & ~allowed) return false;
  if (reg != Reg::SELF_IPI) {
    write_register(reg, static_cast<std::uint32_t>(value));
  } else if (takes_fixed()) {
    accept(static_cast<std::uint8_t>(value), TriggerMode::Edge);
  }
  return true;
}

bool LocalApic::write_apic_base(std::uint64_t value) {
  const std::uint64_t address_mask = byte_mask(8) >> (64 - physical_bits_) & ~std::uint64_t{0xfff};
  if (value & ~(address_mask | ApicBaseBsp | ApicBaseX2 | ApicBaseEnable)) return false;
  const bool enable = (value & ApicBaseEnable) != 0;
  const bool x2 = (value & ApicBaseX2) != 0;
  if (x2 && !offers_x2apic_) return false;
  // SDM 3A figure 11-27: the only ways between the states.
  if (x2 && !enable) return false;
  if (x2 && !enabled()) return false;
  if (x2apic() && enable && !x2) return false;
  const bool was_enabled = enabled();
  apic_base_ = value;
  if (was_enabled && !enable) reset_registers();
  update();
  return true;
}

}  // namespace veneer::devices
