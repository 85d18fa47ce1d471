// The test machine: memory, a fake board, one vCPU of the engine under test, and tables for long mode.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "engines.h"
#include "fake_board.h"
#include "guest_code.h"

namespace veneer::engine_tests {

// Physical layout. All RAM is mapped where it lies for the supervisor; user pages are mapped where a test wants them.
inline constexpr std::uint64_t ram_bytes = 16 * MiB;
inline constexpr std::uint64_t gdt_at = 0x1000;
inline constexpr std::uint64_t tss_at = 0x1800, tss_bytes = 104;
inline constexpr std::uint64_t idt_at = 0x2000;
inline constexpr std::uint64_t handlers_at = 0x3000;  ///< 16 bytes for each vector, HLT
inline constexpr std::uint64_t kernel_stack_top = 0x9000;
inline constexpr std::uint64_t ist1_top = 0xa000;
inline constexpr std::uint64_t page_tables_at = 0x10000;
inline constexpr std::uint64_t code_at = 0x100000;
inline constexpr std::uint64_t data_at = 0x200000;
inline constexpr std::uint64_t rom_at = 0xff000000, rom_bytes = 64 * KiB;
inline constexpr std::uint64_t mmio_at = 0xfe000000;  ///< nothing but the board answers; mapped, uncached
inline constexpr std::uint64_t unmapped_at = 0x7000'0000'0000;

// Selectors (the order SYSCALL and SYSRET want).
inline constexpr std::uint16_t kernel_code = 0x08, kernel_data = 0x10, user_code32 = 0x1b, user_data = 0x23,
                               user_code = 0x2b, kernel_code32 = 0x30, tss_selector = 0x40;

// Page-table entry bits (SDM 3A 4.5)
inline constexpr std::uint64_t PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PCD = 0x10, PTE_A = 0x20, PTE_D = 0x40,
                               PTE_PS = 0x80, PTE_G = 0x100, PTE_NX = std::uint64_t{1} << 63;

/// An exception or interrupt whose handler is one of the default ones.
struct Taken {
  unsigned vector;
  std::optional<std::uint32_t> error;
  std::uint64_t rip, cs, rflags, rsp, ss;
};

class Machine {
 public:
  explicit Machine(const EngineKind& kind);
  /// With a processor of its own; `cpuid` outlives the machine.
  Machine(const EngineKind& kind, const cpu::CpuidPolicy& cpuid);
  ~Machine();

  machine::GuestMemory& memory() { return memory_; }
  cpu::Vcpu& vcpu() { return *vcpu_; }
  cpu::Engine& engine() { return *engine_; }

  void load(std::uint64_t physical, Code code);
  void put(std::uint64_t physical, std::uint64_t value, unsigned size = 8);
  std::uint64_t get(std::uint64_t physical, unsigned size = 8);

  /// One 4 KiB page of the long-mode tables. `flags` are entry bits beside P.
  void map(std::uint64_t address, std::uint64_t physical, std::uint64_t flags);
  /// Physical address of the entry that maps `address` at `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB).
  std::uint64_t entry_of(std::uint64_t address, unsigned level = 1);
  /// A gate of the IDT. `dpl` 3 lets user code INT it.
  void gate(unsigned vector, std::uint64_t handler, unsigned dpl = 0, unsigned ist = 0);

  /// What the next run starts from; kept up to date by run() and step().
  cpu::ArchState state;
  /// 64-bit supervisor code at code_at, interrupts off.
  void long_mode();
  /// The same at CPL 3 (the code page is mapped for the user), stack at the end of a user page.
  void user_mode();

  /// Runs from `state` until the vCPU comes back; by then `state` is its state. Fails the test after some seconds.
  cpu::Exit run();
  cpu::Exit step();
  /// run() must end in a default handler: what it saw. nullopt when it did not.
  std::optional<Taken> run_to_exception();
  /// Goes on where the vCPU stands, without set_state().
  cpu::Exit go_on();

  FakeBoard board;

 private:
  void build_tables();
  std::uint64_t* entry(std::uint64_t table, std::uint64_t index);

  machine::GuestMemory memory_;
  std::unique_ptr<cpu::Engine> engine_;
  std::unique_ptr<cpu::Vcpu> vcpu_;
  std::uint64_t next_table_ = page_tables_at;
};

/// User pages: code is visible at user_code_at too, data at user_data_at, both RAM of their own.
inline constexpr std::uint64_t user_code_at = 0x40000000, user_data_at = 0x50000000;
inline constexpr std::uint64_t user_code_physical = 0x300000, user_data_physical = 0x400000;
inline constexpr unsigned user_pages = 4;

/// Base of all suites.
class EngineTest : public testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    // "Engine/Suite" and "Test/engine".
    const testing::TestInfo& info = *testing::UnitTest::GetInstance()->current_test_info();
    std::string name = info.test_suite_name();
    name = name.substr(name.find('/') + 1) + '.' + info.name();
    if (const char* reason = known_failure(name.substr(0, name.find('/')))) GTEST_SKIP() << reason;
  }
  /// Loads 64-bit supervisor code and makes it the start.
  void program(Code code) {
    m.load(code_at, code);
    m.long_mode();
  }
  /// Loads 64-bit user code and makes it the start.
  void user_program(Code code) {
    m.load(user_code_physical, code);
    m.user_mode();
  }
  std::uint64_t reg(cpu::Gpr which) const { return m.state.gpr[which]; }

  Machine m{GetParam()};
};

}  // namespace veneer::engine_tests
