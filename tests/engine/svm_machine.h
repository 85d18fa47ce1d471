// A hypervisor of two instructions on the test machine, and the VMCB of its guest.
#pragma once

#include <optional>

#include "cpu/bt/svm/vmcb.h"
#include "cpu/cpu_model.h"
#include "machine.h"

namespace veneer::engine_tests {

inline constexpr std::uint64_t vmcb_at = 0x500000, io_map_at = 0x510000, msr_map_at = 0x520000, hsave_at = 0x530000;
inline constexpr std::uint64_t guest_code_at = 0x600000, guest_stack_top = 0x610000;
inline constexpr std::uint64_t nested_tables_at = 0x700000;

// Intercept bits by the exit code's number.
using cpu::bt::EventField;
using cpu::bt::ExitCode;

GUEST_CODE(vmrun_and_halt, 64, "mov eax, 0x500000\nvmrun\nhlt");
inline constexpr std::uint64_t behind_vmrun = code_at + 5 + 3 + 1;  ///< RIP after its HLT

/// The host's processor with SVM; nothing when that is not AMD's.
inline std::optional<cpu::CpuidPolicy> svm_processor(const char* text = "host,+svm") {
  auto made = cpu::CpuidPolicy::make(cpu::parse_cpu(text).value(), 1, 2'000'000'000);
  if (!made) return std::nullopt;
  return std::move(made).value();
}

class SvmTest : public testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    if (!make_machine("host,+svm")) GTEST_SKIP() << "the host is not AMD's";
  }
  bool make_machine(const char* processor) {
    machine_.reset();
    cpuid_ = svm_processor(processor);
    if (!cpuid_) return false;
    machine_.emplace(GetParam(), *cpuid_);
    machine().long_mode();
    machine().state.efer |= cpu::EFER_SVME;
    machine().load(code_at, vmrun_and_halt);
    return true;
  }
  Machine& machine() { return *machine_; }

  /// A guest in 64-bit supervisor mode, with its host's page tables, IDT and TSS.
  void guest(Code code) {
    Machine& m = machine();
    m.load(guest_code_at, code);
    const cpu::ArchState& s = m.state;
    put_segment(0x400, s.segments[cpu::ES]);
    put_segment(0x410, s.segments[cpu::CS]);
    put_segment(0x420, s.segments[cpu::SS]);
    put_segment(0x430, s.segments[cpu::DS]);
    put_table(0x460, s.gdtr);
    put_table(0x480, s.idtr);
    m.put(vmcb_at + 0x4d0, s.efer);
    m.put(vmcb_at + 0x548, s.cr4);
    m.put(vmcb_at + 0x550, s.cr3);
    m.put(vmcb_at + 0x558, s.cr0);
    m.put(vmcb_at + 0x560, 0x400);
    m.put(vmcb_at + 0x568, 0xffff0ff0);
    m.put(vmcb_at + 0x570, cpu::RFLAGS_FIXED1);
    m.put(vmcb_at + 0x578, guest_code_at);
    m.put(vmcb_at + 0x5d8, guest_stack_top);
    m.put(vmcb_at + 0x5f8, 0x1234);
    m.put(vmcb_at + 0x668, 0x0007040600070406);
    m.put(vmcb_at + 0x40, io_map_at);
    m.put(vmcb_at + 0x48, msr_map_at);
    m.put(vmcb_at + 0x58, 1, 4);  // ASID
    intercept(ExitCode::VMRUN);
    intercept(ExitCode::HLT);
    intercept(ExitCode::SHUTDOWN);
  }
  void intercept(ExitCode code) {
    const auto bit = static_cast<std::uint64_t>(code);
    const std::uint64_t at = vmcb_at + bit / 32 * 4;
    machine().put(at, machine().get(at, 4) | 1u << bit % 32, 4);
  }
  void inject(unsigned vector, unsigned type, std::optional<std::uint32_t> error = {}) {
    machine().put(vmcb_at + 0xa8, vector | type << 8 | EventField::VALID | (error ? EventField::ERROR_VALID : 0) |
                                      std::uint64_t{error.value_or(0)} << 32);
  }
  /// 4 KiB pages of nested tables that map all RAM where it is; `page` excepted gets `entry`.
  void nested_paging(std::uint64_t page = ~std::uint64_t{0}, std::uint64_t entry = 0);

  /// Until the hypervisor halts behind its VMRUN: the exit code.
  ExitCode run() {
    const cpu::Exit exit = machine().run();
    EXPECT_EQ(exit.reason, cpu::ExitReason::Halted) << exit.message;
    EXPECT_EQ(machine().state.rip, behind_vmrun);
    return static_cast<ExitCode>(field(0x70));
  }
  std::uint64_t field(unsigned offset, unsigned size = 8) { return machine().get(vmcb_at + offset, size); }
  std::uint64_t info1() { return field(0x78); }
  std::uint64_t info2() { return field(0x80); }
  std::uint64_t guest_rip() { return field(0x578); }
  std::uint64_t guest_rax() { return field(0x5f8); }

 private:
  void put_segment(unsigned offset, const cpu::Segment& segment) {
    machine().put(vmcb_at + offset, segment.selector, 2);
    machine().put(vmcb_at + offset + 2, segment.attributes, 2);
    machine().put(vmcb_at + offset + 4, segment.limit, 4);
    machine().put(vmcb_at + offset + 8, segment.base);
  }
  void put_table(unsigned offset, const cpu::DescriptorTable& table) {
    machine().put(vmcb_at + offset + 4, table.limit, 4);
    machine().put(vmcb_at + offset + 8, table.base);
  }

  std::optional<cpu::CpuidPolicy> cpuid_;
  std::optional<Machine> machine_;
};

inline void SvmTest::nested_paging(std::uint64_t page, std::uint64_t entry) {
  constexpr std::uint64_t user = PTE_P | PTE_W | PTE_U;
  constexpr std::uint64_t level4 = nested_tables_at, level3 = level4 + page_size, level2 = level3 + page_size;
  Machine& m = machine();
  m.put(level4, level3 | user);
  m.put(level3, level2 | user);
  for (std::uint64_t large = 0; large < ram_bytes / (2 * MiB); large++) {
    const std::uint64_t table = level2 + (large + 1) * page_size;
    m.put(level2 + 8 * large, table | user);
    for (std::uint64_t i = 0; i < 512; i++) {
      const std::uint64_t at = large * 2 * MiB + i * page_size;
      m.put(table + 8 * i, at == page ? entry : at | user);
    }
  }
  m.put(vmcb_at + 0x90, cpu::bt::NP_ENABLE);
  m.put(vmcb_at + 0xb0, level4);
}

}  // namespace veneer::engine_tests
