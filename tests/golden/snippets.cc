// The snippets: about what compilers and kernels write, one mechanism each.
#include "snippets.h"

namespace veneer::golden {
namespace {

GUEST_CODE(registers, 64, "mov rax, rdi; add rax, rsi; lea rcx, [rax+rdx*4+8]; mov r10, rcx; xor r14d, r10d; ret");
GUEST_CODE(load_store, 64, "mov rax, [rdi]; mov [rsi+rcx*8], rax; ret");
GUEST_CODE(access_group, 64,
           "mov rax, [rdi+8]; add rax, [rdi+16]; mov rcx, [rdi+24]; mov [rsi], rax; mov [rsi+8], rcx; ret");
GUEST_CODE(function, 64,
           "push rbp; mov rbp, rsp; push rbx; sub rsp, 24; mov [rbp-24], edi; mov ebx, [rbp-24]; call .+0x100");
GUEST_CODE(epilogue, 64, "add rsp, 24; pop rbx; pop rbp; ret");
GUEST_CODE(compare_loop, 64, "1: add rax, [rdi]; add rdi, 8; cmp rdi, rsi; jne 1b; ret");
GUEST_CODE(flags_across_load, 64,
           "cmp edi, esi; mov eax, [rdx]; cmovl eax, ecx; sub edi, 4; mov [rdx+8], edi; jb .+0x40; ret");
GUEST_CODE(carry_chain, 64,
           "mov rax, [rsi]; adc rax, [rdx]; mov [rdi], rax; mov rax, [rsi+8]; adc rax, [rdx+8]; mov [rdi+8], rax; ret");
GUEST_CODE(string_copy, 64, "mov rcx, rdx; rep movsb; ret");
GUEST_CODE(indirect_jump, 64, "movsxd rax, dword ptr [rdx+rax*4]; add rax, rdx; jmp rax");
GUEST_CODE(indirect_call, 64, "mov rax, [rdi]; call [rax+24]");
GUEST_CODE(daxpy_sse, 64,
           "1: movupd xmm1, [rsi+rax]; mulpd xmm1, xmm0; addpd xmm1, [rdi+rax]; movupd [rdi+rax], xmm1; add rax, 16; "
           "cmp rax, rdx; jne 1b; ret");
GUEST_CODE(avx512_masked, 64, "vmovdqu32 zmm1{k1}{z}, [rsi]; vpaddd zmm1, zmm1, zmm2; vmovdqu32 [rdi]{k1}, zmm1; ret");
GUEST_CODE(x87_chain, 64, "fld qword ptr [rdi]; fmul qword ptr [rsi]; fadd st(0), st(1); fstp qword ptr [rdi]; ret");
GUEST_CODE(locked, 64, "mov eax, 1; lock xadd [rdi], eax; lock cmpxchg [rsi], ecx; sete al; ret");
GUEST_CODE(system_call, 64, "mov eax, 1; syscall");
GUEST_CODE(save_flags, 64, "pushfq; cli; mov rax, [rdi]; inc qword ptr [rdi]; popfq; ret");
GUEST_CODE(rip_relative, 64,
           "mov rax, [rip+0x123]; mov rcx, [rip+0x200]; lea rdx, [rip+0x300]; mov [rip+0x2000], rax; ret");
GUEST_CODE(thread_local_storage, 64, "mov rax, fs:[0x28]; mov rcx, gs:[rdi+0x10]; sub rax, fs:[0x28]; jne .+0x20; ret");
GUEST_CODE(code_32, 32, "push ebp; mov ebp, esp; mov eax, [ebp+8]; add eax, [0x12345678]; inc eax; leave; ret");
GUEST_CODE(division, 64, "mov rax, rdi; cqo; idiv rsi; mov [rcx], rdx; ret");
GUEST_CODE(bit_test, 64, "bt [rdi], esi; jc .+0x30; bts rax, 5; popcnt rcx, rax; ret");
GUEST_CODE(self_jump, 64, "1: pause; jmp 1b");
GUEST_CODE(shift_by_cl, 64, "shl rax, cl; sar edx, cl; mov [rdi], rax; jz .+0x20; ret");
GUEST_CODE(conditions, 64,
           "test rdi, rdi; sete al; movzx eax, al; cmovne rax, rsi; cmp byte ptr [rdx], 0; setg cl; ret");
GUEST_CODE(high_bytes, 64, "movzx eax, byte ptr [rdi]; add al, ah; mov [rsp+8], ah; ret");

}  // namespace

const std::vector<Snippet>& snippets() {
  static const std::vector<Snippet> all = {
      {"registers", "moves and arithmetic in registers, one of them kept in memory", Where::User64, false, registers},
      {"load_store", "one load and one store: two checks, flags unknown", Where::User64, false, load_store},
      {"access_group", "members of two structures: a check each", Where::User64, false, access_group},
      {"function", "a function's beginning and a call into its page", Where::User64, false, function},
      {"epilogue", "pops and a return", Where::User64, false, epilogue},
      {"compare_loop", "a loop that ends in CMP and Jcc", Where::User64, false, compare_loop},
      {"flags_across_load", "flags that live across memory accesses", Where::User64, false, flags_across_load},
      {"carry_chain", "ADC reads the carry behind checks", Where::User64, false, carry_chain},
      {"string_copy", "REP MOVSB", Where::User64, false, string_copy},
      {"indirect_jump", "a switch: load from a table, jump to a register", Where::User64, false, indirect_jump},
      {"indirect_call", "a virtual call", Where::User64, false, indirect_call},
      {"daxpy_sse", "a vectorised loop", Where::User64, false, daxpy_sse},
      {"avx512_masked", "loads and stores under an opmask", Where::User64, true, avx512_masked},
      {"x87_chain", "x87 with memory operands", Where::User64, false, x87_chain},
      {"locked", "LOCK XADD and LOCK CMPXCHG", Where::User64, false, locked},
      {"system_call", "SYSCALL", Where::User64, false, system_call},
      {"save_flags", "a kernel's spin_lock_irqsave", Where::Kernel64, false, save_flags},
      {"rip_relative", "constants of the program, in this page and beyond", Where::User64, false, rip_relative},
      {"thread_local_storage", "FS and GS with bases", Where::User64, false, thread_local_storage},
      {"code_32", "32-bit code with flat segments", Where::User32, false, code_32},
      {"division", "IDIV may fault natively", Where::User64, false, division},
      {"bit_test", "BT with a register index into memory", Where::User64, false, bit_test},
      {"self_jump", "a spin loop: one poll a round", Where::User64, false, self_jump},
      {"shift_by_cl", "shifts that may leave the flags alone", Where::User64, false, shift_by_cl},
      {"conditions", "SETcc and CMOVcc", Where::User64, false, conditions},
      {"high_bytes", "AH beside a register that needs REX", Where::User64, false, high_bytes},
  };
  return all;
}

}  // namespace veneer::golden
