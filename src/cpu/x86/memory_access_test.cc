// Checks the table against the processor: every native instruction with a memory operand, run on the host, touches
// exactly the bytes that classify() and Zydis' operand size announce, and writes only if announced.
//
// This is what the translator's check in front of the access relies on: too small a size would let a guest reach
// past its memory.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <csetjmp>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "cpu/x86/encoding_sweep.h"
#include "cpu/x86/insn_table.h"

namespace veneer::cpu::x86 {
namespace {

constexpr std::size_t page = 4096;
constexpr int vector_general_protection = 13, vector_page_fault = 14;
constexpr greg_t error_code_write = 2;

/// What a page fault of the instruction said; `happened` is false if there was none (other traps do not count).
struct PageFault {
  bool happened = false;
  bool write = false;
  bool general_protection = false;  ///< instead: an alignment rule, or bad data
};

struct StubContext {
  std::uint64_t host_rsp;
  std::uint64_t rbx;
};

PageFault last_fault;
std::uint8_t* stub_exit;

/// Any trap of the instruction under test ends it.
void on_trap(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (registers[REG_TRAPNO] == vector_page_fault) {
    last_fault = {true, (registers[REG_ERR] & error_code_write) != 0, false};
  }
  if (registers[REG_TRAPNO] == vector_general_protection) last_fault = {false, false, true};
  registers[REG_RIP] = reinterpret_cast<greg_t>(stub_exit);
}

/// Runs one instruction with rbx as given, the other low registers zero, vectors and k1 all ones.
class Runner {
 public:
  Runner() {
    code_ = map(page, PROT_READ | PROT_WRITE | PROT_EXEC);
    data_ = map(3 * page, PROT_READ | PROT_WRITE);
    mprotect(data_, page, PROT_NONE);
    mprotect(data_ + 2 * page, page, PROT_NONE);
    alternate_stack_.resize(64 * 1024);
    stack_t stack{};
    stack.ss_sp = alternate_stack_.data();
    stack.ss_size = alternate_stack_.size();
    sigaltstack(&stack, &old_stack_);
    struct sigaction action {};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &action, &old_actions_[i]);
  }
  ~Runner() {
    for (std::size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &old_actions_[i], nullptr);
    sigaltstack(&old_stack_, nullptr);
    munmap(code_, page);
    munmap(data_, 3 * page);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  std::uint8_t* first_byte() const { return data_ + page; }
  std::uint8_t* end() const { return data_ + 2 * page; }
  void protect(int protection) { mprotect(data_ + page, page, protection); }

  PageFault run(const SweepItem& item, const std::uint8_t* address) {
    assemble(item);
    StubContext context{0, reinterpret_cast<std::uint64_t>(address)};
    last_fault = {};
    reinterpret_cast<void (*)(StubContext*)>(code_)(&context);
    return last_fault;
  }

 private:
  static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

  static std::uint8_t* map(std::size_t bytes, int protection) {
    void* address = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) std::abort();
    return static_cast<std::uint8_t*>(address);
  }

  void append(std::initializer_list<int> bytes) {
    for (const int byte : bytes) *next_++ = static_cast<std::uint8_t>(byte);
  }

  void assemble(const SweepItem& item) {
    next_ = code_;
    append({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57});  // push rbx, rbp, r12-r15
    append({0x49, 0x89, 0xff, 0x49, 0x89, 0x27});                          // mov r15, rdi; mov [r15], rsp
    for (int reg = 0; reg < 8; ++reg) {                                    // vpternlogd zmm, zmm, zmm, -1
      append({0x62, 0xf3, 0x7d & ~(reg << 3), 0x48, 0x25, 0xc0 | reg << 3 | reg, 0xff});
    }
    append({0xc4, 0xe1, 0xf4, 0x46, 0xc9});                                            // kxnorq k1, k1, k1
    append({0x49, 0x8b, 0x5f, 0x08});                                                  // mov rbx, [r15+8]
    append({0x31, 0xc0, 0x31, 0xc9, 0x31, 0xd2, 0x31, 0xed, 0x31, 0xf6, 0x31, 0xff});  // xor eax.. edi
    std::memcpy(next_, item.bytes.data(), item.instruction.length);
    next_ += item.instruction.length;
    stub_exit = next_;
    append({0x49, 0x8b, 0x27, 0xfc, 0xdb, 0xe3, 0xc5, 0xf8, 0x77});  // mov rsp, [r15]; cld; fninit; vzeroupper
    append({0x68, 0x80, 0x1f, 0, 0, 0x0f, 0xae, 0x14, 0x24, 0x58});  // push 0x1f80; ldmxcsr [rsp]; pop rax
    append({0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3});
  }

  std::uint8_t* code_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::uint8_t* next_ = nullptr;
  std::vector<std::uint8_t> alternate_stack_;
  stack_t old_stack_{};
  struct sigaction old_actions_[std::size(signals)]{};
};

std::string describe(const SweepItem& item) {
  std::string text = ZydisMnemonicGetString(item.instruction.mnemonic);
  for (unsigned i = 0; i < item.instruction.length; ++i) {
    constexpr char digits[] = "0123456789abcdef";
    text += i == 0 ? " " : "";
    text += digits[item.bytes[i] >> 4];
    text += digits[item.bytes[i] & 15];
  }
  return text;
}

class MemoryAccess : public testing::Test {
 protected:
  static constexpr std::uint8_t rm_rbx = 3;

  void SetUp() override {
    if (!policy_.has(7, 0, CpuidPolicy::Register::Ebx, 30)) GTEST_SKIP() << "host without AVX512BW";
  }

  /// Every native instruction with an ordinary memory operand [rbx].
  template <typename Visit>
  void each(Visit visit) {
    unsigned visited = 0;
    const FeatureGate gate(policy_);
    const ZydisDecoder decoder = make_decoder(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, policy_);
    sweep_encodings(decoder, rm_rbx, [&](const SweepItem& item) {
      const Row row = classify(item.instruction, item.operands.data());
      if (row.treatment != Treatment::Native || !gate.offered(item.instruction)) return;
      const int memory = memory_operand(item.instruction, item.operands.data());
      if (memory < 0) return;
      switch (row.form) {
        case AddressForm::ModRm:
        case AddressForm::ElementMask:
        case AddressForm::Compress:
          break;
        default:
          return;
      }
      ++visited;
      visit(item, row, item.operands[static_cast<std::size_t>(memory)].size / 8u);
    });
    EXPECT_GT(visited, 10'000u);
  }

  CpuidPolicy policy_ = CpuidPolicy::host(1, 2'000'000'000);
  Runner runner_;
};

TEST_F(MemoryAccess, StaysInsideTheOperand) {
  std::set<std::string> reach_past_the_end;
  each([&](const SweepItem& item, const Row&, std::size_t size) {
    if (runner_.run(item, runner_.end() - size).happened) reach_past_the_end.insert(describe(item));
  });
  EXPECT_EQ(reach_past_the_end, std::set<std::string>{});
}

TEST_F(MemoryAccess, StartsAtTheOperand) {
  std::set<std::string> reach_before_the_start;
  each([&](const SweepItem& item, const Row&, std::size_t) {
    if (runner_.run(item, runner_.first_byte()).happened) reach_before_the_start.insert(describe(item));
  });
  EXPECT_EQ(reach_before_the_start, std::set<std::string>{});
}

TEST_F(MemoryAccess, CoversTheOperand) {
  std::set<std::string> smaller_than_announced;
  each([&](const SweepItem& item, const Row&, std::size_t size) {
    if (size == 1) return;
    const PageFault fault = runner_.run(item, runner_.end() - size + 1);
    if (!fault.happened && !fault.general_protection) smaller_than_announced.insert(describe(item));
  });
  EXPECT_EQ(smaller_than_announced, std::set<std::string>{});
}

TEST_F(MemoryAccess, ReadersDoNotWrite) {
  runner_.protect(PROT_READ);
  std::set<std::string> unannounced_writers;
  each([&](const SweepItem& item, const Row& row, std::size_t size) {
    if (row.access != MemAccess::Read) return;
    if (runner_.run(item, runner_.end() - size).happened) unannounced_writers.insert(describe(item));
  });
  EXPECT_EQ(unannounced_writers, std::set<std::string>{});
}

TEST_F(MemoryAccess, WritersWrite) {
  runner_.protect(PROT_READ);
  std::set<std::string> announced_but_silent;
  each([&](const SweepItem& item, const Row& row, std::size_t size) {
    if (row.access == MemAccess::Read) return;
    const PageFault fault = runner_.run(item, runner_.end() - size);
    if (!fault.happened || !fault.write) announced_but_silent.insert(describe(item));
  });
  EXPECT_EQ(announced_but_silent, std::set<std::string>{});
}

}  // namespace
}  // namespace veneer::cpu::x86
