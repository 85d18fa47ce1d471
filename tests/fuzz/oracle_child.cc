// The oracle's child: enters each case by returning from a signal handler, and gets it back in the next signal.
//
// Cases may leave AC, NT, DF or TF set and have their own FS base: the handler's entry puts the flags right, and
// nothing here touches thread-local storage before the child's own FS base is back.
#include <asm/ldt.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "oracle_shared.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

namespace veneer::fuzz {
namespace {

constexpr std::uint8_t INT3 = 0xcc;
constexpr std::size_t max_frame_vectors = 16 * 1024;

struct ChildState {
  OracleShared* shared;
  const PatternPool* pool;
  std::uint64_t components;
  std::uint8_t* code_alias;  ///< the code pages, writable
  std::uint64_t fs_base;
  bool running;
  std::uint32_t old_code_offset, old_code_size;
  gregset_t host_registers;
  std::size_t vectors_bytes;
  alignas(64) std::uint8_t host_vectors[max_frame_vectors];
};
ChildState child;

std::uint64_t read_fs_base() {
  std::uint64_t value;
  asm volatile("rdfsbase %0" : "=r"(value));
  return value;
}
std::uint64_t read_gs_base() {
  std::uint64_t value;
  asm volatile("rdgsbase %0" : "=r"(value));
  return value;
}
void write_fs_base(std::uint64_t value) { asm volatile("wrfsbase %0" : : "r"(value) : "memory"); }
void write_gs_base(std::uint64_t value) { asm volatile("wrgsbase %0" : : "r"(value) : "memory"); }

// mcontext_t's register order for our GPR numbers.
constexpr int greg_of[cpu::gpr_count] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                         REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

constexpr unsigned sw_reserved_at = 464, sw_reserved_bytes = 48, xstate_bv_at = 512;

void store(const ucontext_t& frame, std::uint64_t fs_base, Outcome& out) {
  const auto& registers = frame.uc_mcontext.gregs;
  for (unsigned i = 0; i < cpu::gpr_count; i++) out.image.gpr[i] = static_cast<std::uint64_t>(registers[greg_of[i]]);
  out.image.rip = static_cast<std::uint64_t>(registers[REG_RIP]);
  out.image.rflags = static_cast<std::uint64_t>(registers[REG_EFL]);
  out.image.fs_base = fs_base;
  out.image.gs_base = read_gs_base();
  const auto selectors = static_cast<std::uint64_t>(registers[REG_CSGSFS]);
  out.image.cs = static_cast<std::uint16_t>(selectors);
  out.image.ss = static_cast<std::uint16_t>(selectors >> 48);
  out.vector = static_cast<std::uint8_t>(registers[REG_TRAPNO]);
  out.error = static_cast<std::uint32_t>(registers[REG_ERR]);
  out.cr2 = static_cast<std::uint64_t>(registers[REG_CR2]);
  std::memcpy(out.image.xsave.data(), frame.uc_mcontext.fpregs, std::min(child.vectors_bytes, out.image.xsave.size()));
  std::memset(out.image.xsave.data() + sw_reserved_at, 0, sw_reserved_bytes);
  for (std::size_t i = 0; i < data_pages.size(); i++)
    std::memcpy(out.memory[i], reinterpret_cast<void*>(data_pages[i].address), page_bytes);
  out.ending = Ending::Exception;
}

void load(const Case& in, ucontext_t& frame) {
  std::memset(child.code_alias + child.old_code_offset, INT3, child.old_code_size);
  std::memcpy(child.code_alias + in.code_offset, in.code, in.code_size);
  child.old_code_offset = in.code_offset;
  child.old_code_size = in.code_size;
  std::uint32_t start = in.memory_start;
  for (const DataPage& page : data_pages) {
    if (page.writable) child.pool->fill(start, {reinterpret_cast<std::uint8_t*>(page.address), page_bytes});
    start += page_bytes;
  }
  auto& registers = frame.uc_mcontext.gregs;
  registers[REG_CSGSFS] = code_selector(in.width) | static_cast<greg_t>(data_selector(in.width)) << 48;
  const std::uint32_t data = data_selector(in.width);
  asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(data));
  for (unsigned i = 0; i < cpu::gpr_count; i++) registers[greg_of[i]] = static_cast<greg_t>(in.start.gpr[i]);
  registers[REG_RIP] = static_cast<greg_t>(in.start.rip);
  registers[REG_EFL] = static_cast<greg_t>(in.start.rflags);
  auto* vectors = reinterpret_cast<std::uint8_t*>(frame.uc_mcontext.fpregs);
  const std::size_t size = std::min(child.vectors_bytes, in.start.xsave.size());
  std::uint64_t used_before, used;
  std::memcpy(&used_before, vectors + xstate_bv_at, 8);
  std::memcpy(&used, in.start.xsave.data() + xstate_bv_at, 8);
  std::memcpy(vectors, in.start.xsave.data(), sw_reserved_at);
  for (unsigned i = 2; i < 8; i++) {
    const ComponentPlace place = component_place(i);
    if ((child.components >> i) & 1)
      std::memcpy(vectors + place.offset, in.start.xsave.data() + place.offset,
                  std::min<std::size_t>(place.size, size));
  }
  used |= used_before & ~child.components;  // PKRU stays the child's
  std::memcpy(vectors + xstate_bv_at, &used, 8);
  write_gs_base(in.start.gs_base);
}

extern "C" void veneer_fuzz_oracle_signal(int, siginfo_t*, void* context) {
  const std::uint64_t fs_base = read_fs_base();
  write_fs_base(child.fs_base);
  auto& frame = *static_cast<ucontext_t*>(context);
  OracleShared& shared = *child.shared;
  if (child.running) {
    store(frame, fs_base, shared.slots[shared.next].output);
    shared.next++;
  } else {
    std::memcpy(child.host_registers, frame.uc_mcontext.gregs, sizeof child.host_registers);
    std::memcpy(child.host_vectors, frame.uc_mcontext.fpregs, child.vectors_bytes);
    child.running = true;
  }
  if (shared.next < shared.count) {
    const Case& in = shared.slots[shared.next].input;
    load(in, frame);
    write_fs_base(in.start.fs_base);
    return;
  }
  child.running = false;
  std::memcpy(frame.uc_mcontext.gregs, child.host_registers, sizeof child.host_registers);
  std::memcpy(frame.uc_mcontext.fpregs, child.host_vectors, child.vectors_bytes);
  constexpr greg_t ud2_bytes = 2;
  frame.uc_mcontext.gregs[REG_RIP] += ud2_bytes;
}

asm(R"(
.text
.type veneer_fuzz_oracle_entry, @function
veneer_fuzz_oracle_entry:
  pushq $0x202
  popfq
  jmp veneer_fuzz_oracle_signal
)");
extern "C" void veneer_fuzz_oracle_entry(int, siginfo_t*, void*);

void* map_fixed(std::uint64_t address, std::uint64_t bytes, int protection, int fd) {
  const int flags = MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  void* memory = ::mmap(reinterpret_cast<void*>(address), bytes, protection, flags, fd, 0);
  if (memory == MAP_FAILED) ::_exit(2);
  return memory;
}

void map_case_memory() {
  const int fd = ::memfd_create("fuzz_code", MFD_CLOEXEC);
  constexpr std::uint64_t bytes = code_pages * page_bytes;
  if (fd < 0 || ::ftruncate(fd, bytes) != 0) ::_exit(2);
  void* alias = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (alias == MAP_FAILED) ::_exit(2);
  child.code_alias = static_cast<std::uint8_t*>(alias);
  std::memset(alias, INT3, bytes);
  map_fixed(code_base, bytes, PROT_READ | PROT_EXEC, fd);
  for (const DataPage& page : data_pages) {
    void* memory = map_fixed(page.address, page_bytes, PROT_READ | PROT_WRITE, -1);
    child.pool->fill(0, {static_cast<std::uint8_t*>(memory), page_bytes});
    if (!page.writable) ::mprotect(memory, page_bytes, PROT_READ);
  }
}

/// Segments for 16-bit code: base at the case's code and data.
void make_local_descriptors() {
  const auto set = [](unsigned entry, std::uint64_t base, unsigned contents, unsigned pages) {
    user_desc d{};
    d.entry_number = entry;
    d.base_addr = static_cast<unsigned>(base);
    d.limit = pages ? 0xfffff : 0xffff;
    d.contents = contents & 3;
    d.limit_in_pages = pages & 1;
    d.useable = 1;
    ::syscall(SYS_modify_ldt, 0x11, &d, sizeof d);
  };
  constexpr unsigned data_contents = 0, code_contents = 2;
  set(ldt_code16_selector >> 3, code_base, code_contents, 0);
  set(ldt_data16_selector >> 3, low_data, data_contents, 1);
}

void install_handler() {
  const std::size_t size = std::max<std::size_t>(128 * 1024, ::getauxval(AT_MINSIGSTKSZ) * 4);
  stack_t stack{};
  stack.ss_size = size;
  stack.ss_sp = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack.ss_sp == MAP_FAILED || ::sigaltstack(&stack, nullptr) != 0) ::_exit(2);
  struct sigaction action {};
  action.sa_sigaction = veneer_fuzz_oracle_entry;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigfillset(&action.sa_mask);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) ::sigaction(signal, &action, nullptr);
}

/// A case that runs astray may meet a SYSCALL instruction: only what the child itself needs gets through. Where
/// seccomp is not allowed the child does without.
void give_up_system_calls() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/// Bytes of vector state in a signal frame (struct _fpx_sw_bytes: magic1, extended_size, xfeatures, xstate_size).
std::size_t frame_vectors_bytes() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0xd), "c"(0));
  return std::min<std::size_t>(b, max_frame_vectors);
}

}  // namespace

void oracle_child(OracleShared& shared, const PatternPool& pool, std::uint64_t components) {
  child.shared = &shared;
  child.pool = &pool;
  child.components = components;
  child.fs_base = read_fs_base();
  child.vectors_bytes = frame_vectors_bytes();
  (void)component_place(0);
  map_case_memory();
  make_local_descriptors();
  install_handler();
  give_up_system_calls();
  for (;;) {
    const std::uint32_t rung = shared.doorbell;
    if (shared.answered == rung) {
      constexpr std::uint64_t a_while_ms = 1000;
      wait_while(shared.doorbell, rung, a_while_ms);
      continue;
    }
    asm volatile("ud2" : : : "memory");
    shared.answered = rung;
    wake(shared.answered);
  }
}

}  // namespace veneer::fuzz
