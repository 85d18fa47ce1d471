# Hostile kernel: the start of each processor, the gates of interrupts, and the way back from whatever went wrong.
#
# Linked at 16 MiB (tiny_kernel.py). A processor's own page of things is found by its stack: RSP & -64 KiB, which holds
# for the stacks of the interrupt stack table too.
.intel_syntax noprefix
.code64
.globl _start, trampoline, trampoline_end, gates, go_to_steps, good_gdt, good_gdt_pointer
.set AREA, 0x2000000
.set AREA_BYTES, 0x10000
.set DEADLINE, 0                    # struct Processor in kernel.h
.set TAKEN, 8

_start:
    lea rsp, [AREA + AREA_BYTES - 64]
    lea rdi, [rip + bss_begin]
    lea rcx, [rip + bss_end]
    sub rcx, rdi
    xor eax, eax
    cld
    rep stosb
    jmp first_processor

# Copied to 8000h; the other processors start here in real mode.
trampoline:
.code16
    cli
    xor ax, ax
    mov ds, ax
    .byte 0x66                      # all 32 bits of its base
    lgdt cs:[low_gdt_pointer - trampoline]
    mov eax, cr4
    or eax, 0x620
    mov cr4, eax
    mov eax, cs:[trampoline_root - trampoline]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901
    wrmsr
    mov eax, 0x80010033
    mov cr0, eax
    .byte 0x66, 0xea                # far jump to 64-bit code
    .long other_start
    .word 8
    .balign 8
low_gdt_pointer:
    .word 31
    .long good_gdt
.globl trampoline_root
trampoline_root: .long 0
trampoline_end:
.code64

other_start:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov edi, 0xfee00020
    mov edi, [rdi]
    shr edi, 24
    mov eax, edi
    shl eax, 16
    lea rsp, [rax + AREA + AREA_BYTES - 64]
    jmp other_processor

# RDI: where to, with everything of this processor's put right by then. NMIs are let in again.
go_to_steps:
    mov rax, rsp
    and rax, -AREA_BYTES
    lea rsp, [rax + AREA_BYTES - 64]
    push 0x10
    lea rcx, [rsp + 8]
    push rcx
    push 0x202
    push 8
    push rdi
    iretq

    .balign 16
gates:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    nop
    .else
    push 0
    .endif
    push vector
    .if vector == 2
    jmp nmi
    .elseif vector < 32
    jmp exception
    .else
    jmp interrupt
    .endif
    .set vector, vector + 1
    .endr

    .balign 16
exception:
    mov rdi, [rsp]
    mov rax, rsp
    and rax, -AREA_BYTES
    lea rsp, [rax + AREA_BYTES - 64]
    jmp recover

interrupt:
    push rax
    mov eax, 0xfee000b0
    mov dword ptr [rax], 0
    jmp 1f
nmi:
    push rax
1:  push rcx
    push rdx
    mov rcx, rsp
    and rcx, -AREA_BYTES
    inc qword ptr [rcx + TAKEN]
    rdtsc
    shl rdx, 32
    or rax, rdx
    cmp rax, [rcx + DEADLINE]
    pop rdx
    pop rcx
    pop rax
    ja exception                    # this step takes too long
    add rsp, 16
    iretq

    .balign 16
good_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff     # 8 code, 10 data, 18 user code, 32 bits
    .quad 0x00cff3000000ffff, 0x00affb000000ffff                            # 20 user data, 28 user code
good_gdt_pointer: .word 47
    .quad good_gdt
    .section .note.GNU-stack,"",@progbits
