# What the small kernels of these tests share: start, serial output, an IDT with a handler, random numbers.
#
# The kernel's own code starts at `main`, with an empty IDT. It may call:
#   puts       prints the zero-terminated text at RSI             hex        prints RAX and a space
#   say "..."  prints a line (macro)                              quit N     ends by port 0xf4 (macro): status 2N + 1
#   load_idt   IDT of 256 gates; an exception prints a line and quits with 20, unless `hook` holds an address
#   random     RAX = the next random number; the sequence starts at the symbol SEED
# A hook is entered with RSP at [vector, error code, RIP, CS, RFLAGS, RSP, SS] and all other registers as they were;
# `resume` drops vector and error code and returns. puts, hex and random keep all registers but RAX.

.macro quit status
    mov al, \status
    out 0xf4, al
    mov al, 0xfe            # no debug exit: reset by the 8042
    out 0x64, al
    cli
99: hlt
    jmp 99b
.endm

.macro say text
    push rsi
    lea rsi, [rip + 98f]
    call puts
    pop rsi
    jmp 97f
98: .asciz "\text\n"
97:
.endm

.macro resume
    add rsp, 16
    iretq
.endm

_start:
    lea rsp, [rip + stack_top]
    call main
    quit 0

puts:
    push rax
    push rdx
    push rsi
    mov edx, 0x3f8
1:  lodsb
    test al, al
    jz 2f
    out dx, al
    jmp 1b
2:  pop rsi
    pop rdx
    pop rax
    ret

hex:
    push rdx
    push rcx
    push rbx
    mov rbx, rax
    mov edx, 0x3f8
    mov ecx, 16
1:  rol rbx, 4
    mov al, bl
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 2f
    add al, 'a' - '9' - 1
2:  out dx, al
    loop 1b
    mov al, ' '
    out dx, al
    pop rbx
    pop rcx
    pop rdx
    ret

# xorshift64: good enough to choose by.
random:
    push rdx
    mov rax, [rip + random_state]
    mov rdx, rax
    shl rdx, 13
    xor rax, rdx
    mov rdx, rax
    shr rdx, 7
    xor rax, rdx
    mov rdx, rax
    shl rdx, 17
    xor rax, rdx
    mov [rip + random_state], rax
    pop rdx
    ret

load_idt:
    push rax
    push rbx
    push rcx
    push rdi
    lea rdi, [rip + idt]
    lea rbx, [rip + gates]
    mov ecx, 256
1:  mov rax, rbx
    mov [rdi], ax
    mov word ptr [rdi + 2], 0x10       # the boot protocol's code segment
    mov word ptr [rdi + 4], 0x8e00     # interrupt gate, present
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    mov dword ptr [rdi + 12], 0
    add rdi, 16
    add rbx, 16
    loop 1b
    lidt [rip + idt_pointer]
    pop rdi
    pop rcx
    pop rbx
    pop rax
    ret

    .balign 16
gates:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    nop
    .else
    push 0                             # two bytes
    .endif
    push vector
    jmp common_gate
    .set vector, vector + 1
    .endr
    .balign 16

common_gate:
    cmp qword ptr [rip + hook], 0
    jne 1f
    push rax
    push rsi
    lea rsi, [rip + exception_text]
    call puts
    mov rax, [rsp + 16]
    call hex
    mov rax, [rsp + 24]
    call hex
    mov rax, [rsp + 32]
    call hex
    mov rax, cr2
    call hex
    lea rsi, [rip + newline_text]
    call puts
    quit 20
1:  jmp qword ptr [rip + hook]

exception_text: .asciz "EXCEPTION "
newline_text:   .asciz "\n"
    .balign 16
hook:         .quad 0
random_state: .quad SEED
idt_pointer:  .word 4095
              .quad idt
    .balign 16
    .set idt, LOAD_ADDRESS + 0x100000
    .set stack_top, LOAD_ADDRESS + 0x110000
main:
