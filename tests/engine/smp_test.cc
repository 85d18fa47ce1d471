// Several vCPUs: locked operands, memory order, code that one writes and another runs, page tables that change.
//
// The kernels run without a common clock: each walks through the same rows of memory at its own pace, so that
// most rows are met by one alone and some by several at once. What is forbidden must not be seen in any.
#include <cstring>

#include "processors.h"

namespace veneer::engine_tests {
namespace {

using namespace cpu;

class Smp : public Processors {
 protected:
  void all_run(Code code, unsigned count = 3) {
    m.load(code_at, code);
    m.long_mode();
    run(std::vector<Start>(count, Start{code_at}));
  }
  /// Rows of 64 bytes, zero; `rows` is also what the kernels below know.
  static constexpr std::uint64_t rows = 20'000;
  std::uint64_t row(std::uint64_t at, std::uint64_t number) { return m.get(at + number * 64); }
  void pair(Code first, Code second) {
    m.load(code_at, first);
    m.load(code_at + page_size, second);
    m.long_mode();
    run({{code_at}, {code_at + page_size}});
  }
};

// ---- locked operands

GUEST_CODE(increments, 64, R"(
  mov ebx, 0x200000
  mov ecx, 50000
1: lock inc qword ptr [rbx]
  mov eax, 1
  lock xadd [rbx + 8], rax
  mov eax, 1
  lock add [rbx + 16], eax
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Smp, LockedIncrementsAddUp) {
  all_run(increments);
  EXPECT_EQ(m.get(data_at), 150'000u);
  EXPECT_EQ(m.get(data_at + 8), 150'000u);
  EXPECT_EQ(m.get(data_at + 16, 4), 150'000u);
}

GUEST_CODE(crossing_increments, 64, R"(
  mov ebx, 0x200ffc
  mov ecx, 1000
1: lock inc qword ptr [rbx]
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Smp, LockedIncrementsAcrossPagesAddUp) {
  // The carry goes into the second page.
  m.put(data_at + 0xffc, 0xffffff00u);
  all_run(crossing_increments);
  EXPECT_EQ(m.get(data_at + 0xffc), 0xffffff00u + std::uint64_t{3000});
}

GUEST_CODE(crossing_spin_lock, 64, R"(
  mov ebx, 0x200ffe
  mov esi, 0x200000
  mov ecx, 300
1: mov eax, 1
  xchg [rbx], eax
  test eax, eax
  jz 2f
  pause
  jmp 1b
2: inc qword ptr [rsi]
  mov dword ptr [rbx], 0
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Smp, ASpinLockAcrossPages) {
  all_run(crossing_spin_lock);
  EXPECT_EQ(m.get(data_at), 900u);
}

GUEST_CODE(increments_beside_code, 64, R"(
  lea rbx, [rip + 9f]
  mov ecx, 3000
1: lock inc qword ptr [rbx]
  mov eax, 1
  lock xadd [rbx + 8], rax
  dec ecx
  jnz 1b
  hlt
  .balign 64
9: .quad 0, 0
)");

TEST_P(Smp, LockedIncrementsOnAPageWithCode) {
  all_run(increments_beside_code);
  const std::uint64_t at = code_at + increments_beside_code.size() - 16;
  EXPECT_EQ(m.get(at), 9'000u);
  EXPECT_EQ(m.get(at + 8), 9'000u);
}

GUEST_CODE(pairs_of_16_bytes, 64, R"(
  mov esi, 0x200000
  mov r8d, 20000
1: mov rax, [rsi]
  mov rdx, [rsi + 8]
2: lea rbx, [rax + 1]
  lea rcx, [rdx + 3]
  lock cmpxchg16b [rsi]
  jnz 2b
  dec r8d
  jnz 1b
  hlt
)");

TEST_P(Smp, CompareAndExchangeOf16Bytes) {
  all_run(pairs_of_16_bytes);
  EXPECT_EQ(m.get(data_at), 60'000u);
  EXPECT_EQ(m.get(data_at + 8), 180'000u);
}

// ---- memory order (SDM 3A 8.2.3)

GUEST_CODE(store_x_load_y, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
1: mov qword ptr [rbx], 1
  mfence
  mov rax, [rbx + 8]
  mov [rbx + 16], rax
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
)");
GUEST_CODE(store_y_load_x, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
1: mov qword ptr [rbx + 8], 1
  mfence
  mov rax, [rbx]
  mov [rbx + 24], rax
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Smp, FencedStoresAreSeenByOneOfTwo) {
  pair(store_x_load_y, store_y_load_x);
  unsigned neither = 0;
  for (std::uint64_t i = 0; i < rows; i++) neither += row(data_at + 16, i) == 0 && row(data_at + 24, i) == 0;
  EXPECT_EQ(neither, 0u);
}

GUEST_CODE(store_data_then_flag, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
1: mov qword ptr [rbx], 1
  mov qword ptr [rbx + 32], 1
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
)");
GUEST_CODE(load_flag_then_data, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
  xor r8d, r8d
1: mov rax, [rbx + 32]
  mov rdx, [rbx]
  cmp rax, rdx          # flag without data: forbidden
  jbe 2f
  inc r8
2: add rbx, 64
  dec ecx
  jnz 1b
  mov rsi, r8
  hlt
)");

TEST_P(Smp, AMessageFollowsItsData) {
  pair(store_data_then_flag, load_flag_then_data);
  EXPECT_EQ(result(1, RSI), 0u);
}

GUEST_CODE(load_x_store_y, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
1: mov rax, [rbx]
  mov qword ptr [rbx + 8], 1
  mov [rbx + 16], rax
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
)");
GUEST_CODE(load_y_store_x, 64, R"(
  mov ebx, 0x200000
  mov ecx, 20000
1: mov rax, [rbx + 8]
  mov qword ptr [rbx], 1
  mov [rbx + 24], rax
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
)");

TEST_P(Smp, LoadsAreNotReorderedBehindStores) {
  pair(load_x_store_y, load_y_store_x);
  unsigned both = 0;
  for (std::uint64_t i = 0; i < rows; i++) both += row(data_at + 16, i) == 1 && row(data_at + 24, i) == 1;
  EXPECT_EQ(both, 0u);
}

GUEST_CODE(independent_writes, 64, R"(
  mov ebx, 0x200000
  lea rbx, [rbx + rdi * 8]
  mov ecx, 20000
  cmp edi, 2
  jae 2f
1: mov qword ptr [rbx], 1
  add rbx, 64
  dec ecx
  jnz 1b
  hlt
2: mov ebx, 0x200000
  mov edx, edi
  and edx, 1            # vCPU 2 reads x then y, vCPU 3 y then x
  mov esi, edx
  xor esi, 1
3: mov rax, [rbx + rdx * 8]
  mov r8, [rbx + rsi * 8]
  shl rax, 1
  or rax, r8            # 2: the first one only
  mov [rbx + rdi * 8 + 16], rax
  add rbx, 64
  dec ecx
  jnz 3b
  hlt
)");

TEST_P(Smp, TwoReadersAgreeOnTheOrderOfTwoWrites) {
  all_run(independent_writes, 4);
  unsigned disagree = 0;
  for (std::uint64_t i = 0; i < rows; i++) disagree += row(data_at + 32, i) == 2 && row(data_at + 40, i) == 2;
  EXPECT_EQ(disagree, 0u);
}

// ---- code

GUEST_CODE(write_functions, 64, R"(
  mov ebx, 0x300000
  mov ebp, 0x200000
  mov ecx, 1
1: mov byte ptr [rbx], 0xb8       # mov eax, ecx; ret
  mov [rbx + 1], ecx
  mov byte ptr [rbx + 5], 0xc3
  mov [rbp], rcx                  # here is number rcx
2: pause
  cmp [rbp + 64], rcx             # wait until it was called
  jne 2b
  add rbx, 0x1000
  cmp ebx, 0x308000
  jne 3f
  mov ebx, 0x300000
3: inc ecx
  cmp ecx, 400
  jne 1b
  hlt
)");
GUEST_CODE(call_functions, 64, R"(
  mov esi, 0x300000
  mov ebp, 0x200000
  mov r12d, 1
  xor r13d, r13d
1: pause
  cmp [rbp], r12
  jne 1b
  xor eax, eax
  cpuid                           # serialises (SDM 3A 8.1.3)
  call rsi
  cmp eax, r12d
  je 2f
  inc r13d
2: mov [rbp + 64], r12
  add rsi, 0x1000
  cmp esi, 0x308000
  jne 3f
  mov esi, 0x300000
3: inc r12d
  cmp r12d, 400
  jne 1b
  hlt
)");

TEST_P(Smp, CodeThatAnotherWrote) {
  pair(write_functions, call_functions);
  EXPECT_EQ(result(1, R13), 0u);
}

GUEST_CODE(patch_a_constant, 64, R"(
  mov ebx, 0x300000
  mov ecx, 1
1: mov [rbx + 4], ecx             # an aligned constant of code that runs
  inc ecx
  cmp ecx, 3000
  jne 1b
  mov dword ptr [rbx + 4], 0x7fffffff
  hlt
)");
GUEST_CODE(run_the_constant, 64, R"(
  mov esi, 0x300000
  xor ebp, ebp
  xor r13d, r13d
1: xor eax, eax
  cpuid
  call rsi
  cmp eax, ebp                    # constants only grow
  jae 2f
  inc r13d
2: mov ebp, eax
  cmp eax, 0x7fffffff
  jne 1b
  hlt
)");

TEST_P(Smp, ConstantsInRunningCodeChange) {
  // nop; nop; nop; mov eax, 0; ret: the constant is at offset 4
  m.put(0x300000, 0xb8909090u, 4);
  m.put(0x300004, 0);
  m.put(0x300008, 0xc3, 1);
  pair(patch_a_constant, run_the_constant);
  EXPECT_EQ(result(1, R13), 0u);
}

GUEST_CODE(own_pages_of_code, 64, R"(
  mov r12d, 300
  lea r9, [rdi + 1]
  shl r9, 20
  add r9, 0x200000                # a megabyte of its own
1: xor ecx, ecx
2: mov rbx, r9
  mov eax, ecx
  and eax, 63
  shl eax, 12
  add rbx, rax
  mov byte ptr [rbx], 0xb8
  mov [rbx + 1], ecx
  mov byte ptr [rbx + 5], 0xc3
  call rbx
  cmp eax, ecx
  je 3f
  inc r13d
3: inc ecx
  cmp ecx, 80
  jne 2b
  dec r12d
  jnz 1b
  hlt
)");

TEST_P(Smp, EachWritesAndRunsItsOwn) {
  all_run(own_pages_of_code, 3);
  for (unsigned i = 0; i < 3; i++) EXPECT_EQ(result(i, R13), 0u) << i;
}

// ---- page tables

GUEST_CODE(take_the_page_away, 64, R"(
  mov rbx, 0x1111111111111111     # replaced: the entry's address
  mov r8, 0x2222222222222222      # and what it was
  mov ecx, 20000
  xor r13d, r13d
1: xor eax, eax
  xchg [rbx], rax
  mov edx, 20
2: dec edx
  jnz 2b
  cmp qword ptr [rbx], 0          # an entry taken away stays away
  je 3f
  inc r13d
3: mov [rbx], r8
  dec ecx
  jnz 1b
  mov qword ptr [0x280000], 1
  hlt
)");
GUEST_CODE(touch_the_page, 64, R"(
  mov rbx, 0x600000000000
1: invlpg [rbx]
  mov byte ptr [rbx], 5
  cmp qword ptr [0x280000], 0
  je 1b
  hlt
)");
GUEST_CODE(try_again, 64, R"(
  add rsp, 8
  iretq
)");

TEST_P(Smp, AccessedBitsAreNotSetInAnEntryThatIsGone) {
  constexpr std::uint64_t address = 0x600000000000;
  m.map(address, data_at, PTE_W);
  const std::uint64_t entry = m.entry_of(address);
  m.load(code_at + 2 * page_size, try_again);
  m.gate(VECTOR_PF, code_at + 2 * page_size);
  std::vector<std::uint8_t> code(take_the_page_away.begin(), take_the_page_away.end());
  const std::uint64_t value = m.get(entry);
  std::memcpy(code.data() + 2, &entry, 8);
  std::memcpy(code.data() + 12, &value, 8);
  pair(code, touch_the_page);
  EXPECT_EQ(result(0, R13), 0u);
}

INSTANTIATE_TEST_SUITE_P(Engine, Smp, testing::ValuesIn(patient_engine_kinds()),
                         [](const auto& kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace veneer::engine_tests
