// A local APIC: xAPIC registers in memory, x2APIC registers as MSRs, priorities, IPIs, timer.
//
// State: IRR, ISR, TMR, TPR, LDR, DFR, SVR, ESR, ICR, LVT, timer, IA32_APIC_BASE, pins, recorded NMI/INIT/SIPI.
// Missing: CMCI, SMI (accepted and dropped), focus processor checking, extended APIC space of AMD,
//   pin polarity (a line's level means asserted). The ID is read-only, as on current processors.
// Differs from the spec: IPIs arrive at once (delivery status is always idle); a register page that software moves
//   over RAM stays hidden behind it; the timer interrupts at most at 10 kHz.
// Spec: Intel SDM 3A chapter 11 (numbering of the December 2022 edition).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/clock.h"
#include "cpu/engine.h"
#include "devices/irq/apic_bus.h"
#include "devices/irq/ext_int_source.h"
#include "devices/irq/lapic_timer.h"
#include "devices/irq/storm_brake.h"
#include "devices/irq/vector_set.h"
#include "machine/device.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Threads: the Device calls, lint0(), lint1(), deliver() and the other register-level calls come with the board
/// lock held. The InterruptPort calls come from the vCPU's thread without it: the *_pending() ones read atomics,
/// the others take the board lock themselves.
class LocalApic final : public cpu::InterruptPort, public machine::Device {
 public:
  /// APIC `id` 0 is the bootstrap processor. `ext_int` (or null) is what a LINT0 in ExtINT mode acknowledges.
  LocalApic(unsigned id, ApicBus& bus, TimerService& timers, ExtIntSource* ext_int, LapicConfig config);
  ~LocalApic() override;
  LocalApic(const LocalApic&) = delete;
  LocalApic& operator=(const LocalApic&) = delete;

  /// `kick` is called when an interrupt, NMI, INIT or SIPI may have become deliverable: board lock held, from any
  /// thread. Set before the machine runs.
  void set_kick(std::function<void()> kick) { kick_ = std::move(kick); }

  /// Local interrupt pins: the 8259's INTR goes to LINT0 of the bootstrap processor, NMI sources to LINT1.
  machine::IrqLine& lint0() { return lint_[0]; }
  machine::IrqLine& lint1() { return lint_[1]; }

  /// What firmware leaves behind for a directly booted kernel on the bootstrap processor: enabled, LINT0 ExtINT, LINT1
  /// NMI (Intel MultiProcessor Specification 1.4, 3.6.2.2 virtual wire mode).
  void set_virtual_wire();

  // What the vCPU's thread asks, in this order. Lock-free.
  /// Anything that ends a HLT: interrupt, NMI, INIT or SIPI.
  bool wake_pending() const { return interrupt_pending() || signal_pending(); }
  /// Anything that ends a HLT with interrupts off: NMI, INIT, SIPI, unhalt().
  bool signal_pending() const { return signals_.load(std::memory_order_acquire) != 0; }
  /// An INIT arrived: the vCPU resets itself, calls take_init(), and an application processor then waits for SIPI.
  bool init_pending() const { return signals_.load(std::memory_order_acquire) & SignalInit; }
  /// Puts the APIC into its state after INIT (SDM 3A 11.4.7.3; the ID stays).
  void take_init();
  /// The page number of a SIPI that arrived after INIT (or power-up of an application processor); once.
  bool startup_pending() const { return signals_.load(std::memory_order_acquire) & SignalStartup; }
  std::optional<std::uint8_t> take_startup();

  // cpu::InterruptPort
  bool interrupt_pending() const override { return pending_.load(std::memory_order_acquire); }
  std::optional<std::uint8_t> acknowledge() override;
  bool nmi_pending() const override { return signals_.load(std::memory_order_acquire) & SignalNmi; }
  void take_nmi() override;
  void nmi_unblocked() override { in_nmi_.store(false, std::memory_order_release); }
  bool take_unhalt() override {
    return signals_.load(std::memory_order_acquire) & SignalUnhalt &&
           signals_.fetch_and(~SignalUnhalt, std::memory_order_acq_rel) & SignalUnhalt;
  }
  std::optional<std::uint64_t> read_msr(std::uint32_t index) override;
  bool write_msr(std::uint32_t index, std::uint64_t value) override;
  std::uint64_t cr8() const override { return tpr_.load(std::memory_order_relaxed) >> 4; }
  void set_cr8(std::uint64_t value) override;

  // machine::Device: the xAPIC page
  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override;
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

  // For ApicBus.
  bool matches(const ApicMessage& message) const;
  /// False when it does not take the message (disabled).
  bool deliver(const ApicMessage& message);
  /// Fixed and lowest-priority interrupts are taken.
  bool takes_fixed() const { return enabled() && software_enabled(); }
  std::uint8_t processor_priority() const;

  unsigned id() const { return id_; }
  bool bootstrap() const { return (apic_base_ & ApicBaseBsp) != 0; }
  /// Where the register page is (IA32_APIC_BASE bits 12 and up). Board lock held.
  std::uint64_t page_address() const { return apic_base_ & ~std::uint64_t{0xfff}; }
  bool enabled() const { return (apic_base_ & ApicBaseEnable) != 0; }
  bool x2apic() const { return (apic_base_ & ApicBaseX2) != 0; }
  std::uint64_t apic_base() const { return apic_base_; }
  /// Ends a HLT of this vCPU, the one it is in or the next (KVM_HC_KICK_CPU). Board lock held.
  void unhalt() { signal(SignalUnhalt); }
  /// The vCPU's TSC jumped: an armed TSC deadline is worked out anew. Takes the board lock.
  void tsc_changed();

 private:
  /// Register numbers: offset in the page / 16 = MSR index - 0x800 (SDM 3A tables 11-1 and 11-6).
  enum class Reg : std::uint8_t {
    ID = 0x02,
    VERSION = 0x03,
    TPR = 0x08,
    APR = 0x09,
    PPR = 0x0a,
    EOI = 0x0b,
    RRD = 0x0c,
    LDR = 0x0d,
    DFR = 0x0e,
    SVR = 0x0f,
    ISR = 0x10,
    TMR = 0x18,
    IRR = 0x20,
    ESR = 0x28,
    LVT_CMCI = 0x2f,
    ICR_LOW = 0x30,
    ICR_HIGH = 0x31,
    LVT_TIMER = 0x32,
    LVT_THERMAL = 0x33,
    LVT_PMC = 0x34,
    LVT_LINT0 = 0x35,
    LVT_LINT1 = 0x36,
    LVT_ERROR = 0x37,
    TIMER_INITIAL = 0x38,
    TIMER_CURRENT = 0x39,
    TIMER_DIVIDE = 0x3e,
    SELF_IPI = 0x3f,
  };
  enum : std::uint64_t { ApicBaseBsp = 1u << 8, ApicBaseX2 = 1u << 10, ApicBaseEnable = 1u << 11 };
  enum : std::uint32_t { SignalNmi = 1, SignalInit = 2, SignalStartup = 4, SignalUnhalt = 8, SignalSecondNmi = 16 };
  /// LVT entries in register order.
  enum Lvt : unsigned { LvtTimer, LvtThermal, LvtPmc, LvtLint0, LvtLint1, LvtError, lvt_count };

  struct Pin final : machine::IrqLine {
    LocalApic* apic = nullptr;
    Lvt entry = LvtLint0;
    bool level = false;
    void set(bool value) override { apic->set_pin(*this, value); }
  };

  // lapic.cc: delivery and priorities
  void set_pin(Pin& pin, bool level);
  void deliver_lvt(Lvt entry);
  void ask_again();
  void deliver_nmi();
  void accept(std::uint8_t vector, TriggerMode trigger);
  void end_of_interrupt();
  bool ext_int_pending() const;
  void signal(std::uint32_t what);
  void update();
  void reset_registers();
  void record_error(std::uint32_t esr_bit);
  bool software_enabled() const { return (svr_ & 0x100) != 0; }

  // lapic_registers.cc: what software sees
  std::uint32_t read_register(Reg reg);
  void write_register(Reg reg, std::uint32_t value);
  void write_lvt(Lvt entry, std::uint32_t value);
  void write_svr(std::uint32_t value);
  void write_icr(std::uint64_t value);
  std::uint32_t logical_id() const;
  bool logical_match(const ApicMessage& message) const;
  std::optional<std::uint64_t> read_x2apic(std::uint32_t number);
  bool write_x2apic(std::uint32_t number, std::uint64_t value);
  bool write_apic_base(std::uint64_t value);

  const unsigned id_;
  ApicBus& bus_;
  ExtIntSource* const ext_int_;
  const unsigned physical_bits_;
  const bool present_, offers_x2apic_;
  std::function<void()> kick_;
  std::array<Pin, 2> lint_;
  LapicTimer timer_;
  StormBrake brake_;  ///< of the pins

  // Read without the lock.
  std::atomic<bool> pending_{false};
  std::atomic<std::uint32_t> signals_{0};
  std::atomic<std::uint8_t> tpr_{0};
  std::atomic<bool> in_nmi_{false};

  // Guarded by the board lock.
  std::uint64_t apic_base_ = 0;
  VectorSet irr_, isr_, tmr_;
  std::uint32_t ldr_ = 0, dfr_ = 0xffffffff, svr_ = 0xff;
  std::uint32_t esr_ = 0;          ///< as software reads it
  std::uint32_t esr_pending_ = 0;  ///< errors since the last write to ESR
  std::uint64_t icr_ = 0;
  std::array<std::uint32_t, lvt_count> lvt_{};
  std::uint8_t startup_vector_ = 0;
  bool waiting_for_startup_ = false;
  bool ext_int_message_ = false;  ///< an ExtINT message (not a pin) waits
};

}  // namespace veneer::devices
