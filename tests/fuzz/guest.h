// The engine's side: a guest in long mode that runs cases at CPL 3 and catches every exception in a small kernel.
#pragma once

#include <atomic>
#include <memory>

#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "image.h"
#include "machine/guest_memory.h"
#include "values.h"

namespace veneer::fuzz {

/// A board with nothing on it.
class EmptyBoard final : public cpu::Board, public cpu::InterruptPort {
 public:
  std::uint32_t read_port(std::uint16_t, unsigned) override { return ~0u; }
  void write_port(std::uint16_t, unsigned, std::uint32_t) override {}
  std::uint64_t read_mmio(GuestPhys, unsigned) override { return ~std::uint64_t{0}; }
  void write_mmio(GuestPhys, unsigned, std::uint64_t) override {}
  cpu::InterruptPort& interrupts(unsigned) override { return *this; }

  bool interrupt_pending() const override { return false; }
  std::optional<std::uint8_t> acknowledge() override { return std::nullopt; }
  bool nmi_pending() const override { return false; }
  void take_nmi() override {}
  std::optional<std::uint64_t> read_msr(std::uint32_t) override { return std::nullopt; }
  bool write_msr(std::uint32_t, std::uint64_t) override { return false; }
  std::uint64_t cr8() const override { return 0; }
  void set_cr8(std::uint64_t) override {}
};

/// How a guest runs a case.
enum class GuestMode : std::uint8_t {
  Blocks,        ///< blocks as long as they come
  Instructions,  ///< blocks of one instruction
  Steps,         ///< Vcpu::step() again and again
};
inline constexpr const char* guest_mode_names[] = {"blocks", "instructions", "steps"};

class Guest {
 public:
  Guest(const PatternPool& pool, const cpu::CpuidPolicy& policy, GuestMode mode)
      : pool_(pool), policy_(policy), mode_(mode) {}
  Result<void> create();

  void run(const Case& in, Outcome& out);
  /// From a watchdog's thread: ends the running case, which then counts as a hang.
  void give_up() { vcpu_->request_exit(); }
  GuestMode mode() const { return mode_; }

 private:
  void build_tables();
  void put(std::uint64_t physical, const void* data, std::size_t size);
  void put_u64(std::uint64_t physical, std::uint64_t value) { put(physical, &value, sizeof value); }
  void map(std::uint64_t address, std::uint64_t physical, std::uint64_t flags);
  void start_state(const Case& in, cpu::ArchState& state) const;
  bool read_exception(const cpu::ArchState& state, Outcome& out);
  void load(const Case& in);
  cpu::Exit run_loaded(const Case& in);

  const PatternPool& pool_;
  const cpu::CpuidPolicy& policy_;
  GuestMode mode_;
  machine::GuestMemory memory_;
  EmptyBoard board_;
  std::unique_ptr<cpu::Engine> engine_;
  std::unique_ptr<cpu::Vcpu> vcpu_;
  cpu::ArchState state_;
  std::uint64_t next_table_ = 0;
  std::uint32_t old_code_offset_ = 0, old_code_size_ = 0;
};

}  // namespace veneer::fuzz
