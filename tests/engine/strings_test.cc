// REP STOS and REP MOVS at every edge of what an engine may do at once: pages, counts, directions, faults, flags.
#include <algorithm>
#include <vector>

#include "machine.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

// Twice, since the first round finds its pages unknown. CF, PF, AF, ZF, SF, OF are all set before the second, and
// looked at behind it.
#define TWICE(operation)                                     \
  "mov rbx, rdi\nmov rbp, rcx\nmov r12, rsi\nrep " operation \
  "\nmov rdi, rbx\nmov rcx, rbp\nmov rsi, r12\npush 0x8d7\npopfq\nrep " operation "\npushfq\npop r15\nhlt"
GUEST_CODE(stosb_code, 64, TWICE("stosb"));
GUEST_CODE(stosw_code, 64, TWICE("stosw"));
GUEST_CODE(stosd_code, 64, TWICE("stosd"));
GUEST_CODE(stosq_code, 64, TWICE("stosq"));
GUEST_CODE(movsb_code, 64, TWICE("movsb"));
GUEST_CODE(movsw_code, 64, TWICE("movsw"));
GUEST_CODE(movsd_code, 64, TWICE("movsd"));
GUEST_CODE(movsq_code, 64, TWICE("movsq"));
GUEST_CODE(store_then_fault, 64, "mov [rdi], rax\npush 0x8d7\npopfq\nrep stosq");
GUEST_CODE(backward, 64, "mov [rdi], al\nmov al, [rsi]\nstd\nrep movsb\ncld\nhlt");

constexpr std::uint64_t far_at = data_at + 0x100000;
constexpr std::uint64_t guard_bytes = 64;

class Strings : public EngineTest {
 protected:
  std::vector<std::uint8_t> bytes_at(std::uint64_t physical, std::uint64_t count) {
    std::vector<std::uint8_t> bytes(count);
    for (std::uint64_t i = 0; i < count; i++) bytes[i] = static_cast<std::uint8_t>(m.get(physical + i, 1));
    return bytes;
  }
  void pattern(std::uint64_t physical, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; i++) m.put(physical + i, (i * 7 + i / 256) & 0xff, 1);
  }
  void run(Code code, std::uint64_t to, std::uint64_t from, std::uint64_t count) {
    program(code);
    m.state.gpr[RDI] = to;
    m.state.gpr[RSI] = from;
    m.state.gpr[RCX] = count;
    m.state.gpr[RAX] = 0x8877665544332211;
    EXPECT_EQ(m.run().reason, ExitReason::Halted);
  }
};

constexpr std::uint64_t some_counts[] = {0, 1, 2, 3, 7, 8, 63, 511, 512, 513, 1024, 4095, 4096, 4097};

TEST_P(Strings, Store) {
  const Code codes[] = {stosb_code, stosw_code, stosd_code, stosq_code};
  for (unsigned shift = 0; shift < 4; shift++) {
    for (const std::uint64_t count : some_counts) {
      for (const std::uint64_t offset : {0u, 1u, 8u, 2048u, 4088u, 4095u}) {
        const std::uint64_t bytes = count << shift, to = data_at + guard_bytes + offset;
        if (bytes > 9000) continue;
        SCOPED_TRACE(testing::Message() << "size " << (1u << shift) << " count " << count << " offset " << offset);
        pattern(to - guard_bytes, bytes + 2 * guard_bytes);
        auto expected = bytes_at(to - guard_bytes, bytes + 2 * guard_bytes);
        for (std::uint64_t i = 0; i < bytes; i++)
          expected[guard_bytes + i] = static_cast<std::uint8_t>(0x11 * (1 + i % (1u << shift)));
        run(codes[shift], to, 0, count);
        EXPECT_EQ(bytes_at(to - guard_bytes, bytes + 2 * guard_bytes), expected);
        EXPECT_EQ(reg(RDI), to + bytes);
        EXPECT_EQ(reg(RCX), 0u);
        EXPECT_EQ(reg(RAX), 0x8877665544332211u);
        EXPECT_EQ(reg(R15) & RFLAGS_ARITH, RFLAGS_ARITH);
      }
    }
  }
}

TEST_P(Strings, Move) {
  const Code codes[] = {movsb_code, movsw_code, movsd_code, movsq_code};
  for (unsigned shift = 0; shift < 4; shift++) {
    for (const std::uint64_t count : some_counts) {
      for (const auto& [to_offset, from_offset] : {std::pair{0u, 0u}, {1u, 4095u}, {4090u, 8u}, {2048u, 2047u}}) {
        const std::uint64_t bytes = count << shift, to = data_at + 0x1000 + to_offset, from = far_at + from_offset;
        if (bytes > 9000) continue;
        SCOPED_TRACE(testing::Message() << "size " << (1u << shift) << " count " << count << " to " << to_offset);
        pattern(from, bytes);
        for (std::uint64_t i = 0; i < bytes + 2 * guard_bytes; i++) m.put(to - guard_bytes + i, 0xee, 1);
        auto expected = bytes_at(to - guard_bytes, bytes + 2 * guard_bytes);
        const auto source = bytes_at(from, bytes);
        std::copy(source.begin(), source.end(), expected.begin() + guard_bytes);
        run(codes[shift], to, from, count);
        EXPECT_EQ(bytes_at(to - guard_bytes, bytes + 2 * guard_bytes), expected);
        EXPECT_EQ(reg(RDI), to + bytes);
        EXPECT_EQ(reg(RSI), from + bytes);
        EXPECT_EQ(reg(RCX), 0u);
        EXPECT_EQ(reg(R15) & RFLAGS_ARITH, RFLAGS_ARITH);
      }
    }
  }
}

TEST_P(Strings, AnOverlappingMoveRepeatsItsBeginning) {
  pattern(data_at, 16);
  const auto first = bytes_at(data_at, 3);
  run(movsb_code, data_at + 3, data_at, 300);
  const auto all = bytes_at(data_at, 303);
  for (std::size_t i = 0; i < all.size(); i++) EXPECT_EQ(all[i], first[i % 3]) << i;
}

TEST_P(Strings, Backward) {
  pattern(far_at, 100);
  program(backward);
  m.state.gpr[RSI] = far_at + 99;
  m.state.gpr[RDI] = data_at + 99;
  m.state.gpr[RCX] = 100;
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(bytes_at(data_at, 100), bytes_at(far_at, 100));
  EXPECT_EQ(reg(RDI), data_at - 1);
}

/// Runs off a page that may be written: what was done stays, the registers say how far it came.
TEST_P(Strings, AFaultBehindAPage) {
  constexpr std::uint64_t window = 0x600000000000;
  m.map(window, data_at, PTE_W);
  for (const bool readable : {false, true}) {
    if (readable) m.map(window + 0x1000, data_at + 0x1000, 0);
    program(store_then_fault);
    m.state.gpr[RDI] = window + 0x1000 - 5 * 8;
    m.state.gpr[RCX] = 12;
    m.state.gpr[RAX] = ~std::uint64_t{0};
    const auto taken = m.run_to_exception();
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->vector, unsigned{VECTOR_PF});
    EXPECT_EQ(taken->error, std::optional{readable ? 3u : 2u});
    EXPECT_EQ(m.state.cr2, window + 0x1000);
    EXPECT_EQ(reg(RDI), window + 0x1000);
    EXPECT_EQ(reg(RCX), 7u);
    EXPECT_EQ(taken->rflags & RFLAGS_ARITH, RFLAGS_ARITH);
  }
}

TEST_P(Strings, FromAPageThatIsNotThere) {
  program(movsb_code);
  m.state.gpr[RDI] = data_at;
  m.state.gpr[RSI] = unmapped_at + 10;
  m.state.gpr[RCX] = 20;
  const auto taken = m.run_to_exception();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->vector, unsigned{VECTOR_PF});
  EXPECT_EQ(m.state.cr2, unmapped_at + 10);
  EXPECT_EQ(reg(RCX), 20u);
}

// Stores NOPs over an ADD that ran before, in the same page: the third call must not see the old code.
GUEST_CODE(over_its_code, 64, R"(
  lea rbx, [rip + 3f]
  xor edx, edx
  call rbx
  call rbx
  mov rdi, rbx
  mov ecx, 6
  mov al, 0x90
  rep stosb
  call rbx
  hlt
3:
  add edx, 0x100
  ret
)");

TEST_P(Strings, OverTranslatedCode) {
  program(over_its_code);
  EXPECT_EQ(m.run().reason, ExitReason::Halted);
  EXPECT_EQ(reg(RDX), 0x200u);
}

ENGINE_SUITE(Strings);

}  // namespace
}  // namespace veneer::engine_tests
