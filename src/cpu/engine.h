// The engine interface: what runs guest code, what it may ask of the machine, and why it stops.
//
// Every engine (bt, kvm, ...) passes the same contract suite (tests/engine/). Threads: a Vcpu belongs to the thread
// that calls run(); kick() and request_exit() may be called from anywhere, also from a signal handler.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "cpu/cpuid.h"
#include "cpu/state.h"
#include "machine/guest_memory.h"

namespace veneer::cpu {

/// The local APIC as its processor sees it. One per vCPU; implemented by devices/irq/lapic.
class InterruptPort {
 public:
  virtual ~InterruptPort() = default;

  /// True when acknowledge() would give a vector now (priority considered; IF is the engine's business).
  /// Cheap; no lock; from the vCPU thread.
  virtual bool interrupt_pending() const = 0;
  /// INTA: takes the highest-priority pending interrupt (LAPIC, or 8259 through ExtINT). May be spurious.
  virtual std::optional<std::uint8_t> acknowledge() = 0;
  /// True once for each NMI that arrived.
  virtual bool nmi_pending() const = 0;
  virtual void take_nmi() = 0;
  /// IRET lets NMIs in again.
  virtual void nmi_unblocked() {}
  /// True once after Board::unhalt() for this vCPU: a HLT is over although no interrupt came. No lock.
  virtual bool take_unhalt() { return false; }

  /// IA32_APIC_BASE, x2APIC MSRs 0x800-0x8ff and IA32_TSC_DEADLINE (0x6e0, in guest TSC units).
  /// nullopt / false: #GP(0).
  virtual std::optional<std::uint64_t> read_msr(std::uint32_t index) = 0;
  virtual bool write_msr(std::uint32_t index, std::uint64_t value) = 0;
  /// CR8 is the task priority's upper nibble.
  virtual std::uint64_t cr8() const = 0;
  virtual void set_cr8(std::uint64_t value) = 0;
};

/// What an engine may ask of the machine: the sockets of the board a processor is plugged into.
/// Thread-safe; implementations take the board lock themselves.
class Board {
 public:
  virtual ~Board() = default;
  /// Port access of 1, 2 or 4 bytes.
  virtual std::uint32_t read_port(std::uint16_t port, unsigned size_bytes) = 0;
  virtual void write_port(std::uint16_t port, unsigned size_bytes, std::uint32_t value) = 0;
  /// Memory access of 1, 2, 4 or 8 bytes where GuestMemory has no slot (or a write to ROM).
  virtual std::uint64_t read_mmio(GuestPhys address, unsigned size_bytes) = 0;
  virtual void write_mmio(GuestPhys address, unsigned size_bytes, std::uint64_t value) = 0;
  virtual InterruptPort& interrupts(unsigned vcpu) = 0;

  // Paravirtual calls of guests (KVM's hypercalls), for machines that offer them.
  /// Ends a HLT of the processor with this APIC id, the one it is in or the next.
  virtual void unhalt(std::uint32_t apic_id) { static_cast<void>(apic_id); }
  /// Sends what `command` says, as the low half of an ICR, from vCPU `from` to one APIC id. 1 if that exists, else 0.
  virtual int send_ipi(unsigned from, std::uint32_t apic_id, std::uint32_t command) {
    static_cast<void>(from), static_cast<void>(apic_id), static_cast<void>(command);
    return 0;
  }
  /// FERR#: an unmasked x87 exception was met with CR0.NE clear; the processor waits for an interrupt (SDM 1 D.2.1).
  /// A board that connects nothing to this pin does nothing.
  virtual void coprocessor_error() {}
};

/// Why Vcpu::run() came back. A closed set.
enum class ExitReason : std::uint8_t {
  Halted,       ///< HLT: call run() again after interrupt_pending(), nmi_pending(), unhalt() or request_exit()
  Interrupted,  ///< request_exit() was honoured; the state is at an instruction boundary
  Shutdown,     ///< triple fault
  Debug,        ///< a single step is done, or a debugger breakpoint was reached
  Failed,       ///< the host failed (out of memory, ...): see message
};

struct Exit {
  ExitReason reason = ExitReason::Interrupted;
  std::string message;             ///< for Failed, and details of Shutdown
  bool interrupts_enabled = true;  ///< for Halted: RFLAGS.IF; without it only NMI, INIT and unhalt() end the HLT
};

/// Counters of one concern, in the order in which they are shown. Names are lower case with underscores.
struct CounterGroup {
  std::string name;
  std::vector<std::pair<std::string, std::uint64_t>> values;
};

/// One virtual CPU of an engine.
class Vcpu {
 public:
  virtual ~Vcpu() = default;

  /// Runs guest code until an Exit. Interrupts are taken from Board::interrupts() while running.
  /// Returns Halted as soon as HLT is executed and nothing deliverable is pending.
  virtual Exit run() = 0;
  /// Runs exactly one instruction (with its exceptions and any pending interrupt before it), then Debug.
  virtual Exit step() = 0;

  /// "An interrupt may have become pending": makes run() look soon. Async-signal-safe, from any thread.
  virtual void kick() noexcept = 0;
  /// Makes run() return Interrupted soon (also when it is called later). Async-signal-safe, from any thread.
  virtual void request_exit() noexcept = 0;

  /// With EngineOptions::deterministic, before each run(): it ends (Interrupted) soon after so many instructions, 16 to
  /// `most_turn_instructions`. The TSC is `tsc` at its start and counts instructions.
  virtual void begin_turn(std::uint64_t instructions, std::uint64_t tsc) {
    static_cast<void>(instructions), static_cast<void>(tsc);
  }
  /// Instructions since begin_turn(). Any thread; only the vCPU's own sees them exact.
  virtual std::uint64_t turn_instructions() const { return 0; }
  static constexpr std::uint64_t most_turn_instructions = 1 << 20;

  /// The whole state; only while run() is not running.
  virtual void get_state(ArchState& out) const = 0;
  virtual void set_state(const ArchState& in) = 0;
  /// Adds to ArchState::tsc_offset and leaves all else alone, the TLB too: after a pause. Only while run() is not
  /// running.
  virtual void move_tsc(std::uint64_t change) {
    ArchState state;
    get_state(state);
    state.tsc_offset += change;
    set_state(state);
  }

  /// Guest-virtual to guest-physical as the current paging mode translates a supervisor read, without side effects.
  virtual std::optional<GuestPhys> translate(GuestVirt address) const = 0;

  /// This vCPU has had next to nothing to do for a while: host memory goes back that it can do without, to be filled
  /// again by what is used again. `all`: so have all vCPUs of the engine, and what they share goes too. True when there
  /// was something to give. Only while run() is not running; others may be running.
  virtual bool give_back_memory(bool all) {
    static_cast<void>(all);
    return false;
  }

  /// Debugger breakpoints on instruction addresses: run() returns Debug before executing there.
  virtual void set_breakpoint(GuestVirt address, bool enabled) = 0;

  /// Text for the monitor: counters of the translator, the TLB's contents; empty when the engine has none.
  virtual std::string info_jit() const { return {}; }
  virtual std::string info_tlb() const { return {}; }
  /// What this vCPU counted (--stats). While it runs, values may be slightly old.
  virtual std::vector<CounterGroup> counters() const { return {}; }
};

/// When a deterministic machine is switched on: seconds since 1970.
inline constexpr std::uint64_t deterministic_wall_s = 1'767'225'600;

/// Settings that do not change guest-visible behaviour, `deterministic` excepted.
struct EngineOptions {
  unsigned max_block_instructions = 64;  ///< 1 gives single-instruction blocks
  /// Room for translated code, half as much again goes to tables; 0 chooses by the size of guest RAM.
  std::uint64_t code_cache_bytes = 0;
  bool shadow = false;  ///< run each block twice and compare (docs/shadow.md)
  /// Shadow mode: how often each block is compared before it may run at full speed; 0: every time it runs.
  unsigned shadow_checks = 0;
  /// All vCPUs on one thread, by turns whose lengths come from the seed; time is counted in instructions (docs/smp.md).
  bool deterministic = false;
  std::uint64_t seed = 0;
  bool perf_map = false;      ///< give translated code names in profiles: /tmp/perf-PID.map
  bool measure_time = false;  ///< count the time in translated code, slow paths, callouts, translation
  /// For tests: steps between vCPUs are delayed at random, by up to so many microseconds.
  unsigned protocol_delay_us = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const char* name() const = 0;
  /// What the engine counted for all vCPUs together (--stats).
  virtual std::vector<CounterGroup> counters() const { return {}; }
  /// Makes vCPU `index` in power-up state. `memory`, `board` and `cpuid` outlive the engine.
  virtual Result<std::unique_ptr<Vcpu>> make_vcpu(unsigned index) = 0;
};

/// The binary-translation engine (cpu/bt).
Result<std::unique_ptr<Engine>> make_bt_engine(machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid,
                                               const EngineOptions& options);

}  // namespace veneer::cpu
