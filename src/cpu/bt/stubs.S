// Entering and leaving translated code, and the calls out of it.
//
// Register convention inside translated code (docs/engine.md): guest rax rcx rdx rbx rbp rsi rdi r8 r9 r12 r13 in
// their own host registers, guest rsp in host r11, guest r10 r11 r14 r15 in the vCPU block; host r14 r15 r10 are
// scratch T0 T1 T2; host rsp is the return stack; gs is the vCPU block; RFLAGS' arithmetic bits are the guest's.
// Vector and x87 registers are the guest's all the time: nothing here, and nothing called from here, touches them.

#define RIP 0x80
#define T0 0x98
#define T1 0xa0
#define T2 0xa8
#define HOST_RSP 0xb0
#define ARITH_FLAGS 0xb8
#define EXIT_KIND 0x128
#define EXIT_ARG 0x130
#define SELF 0x160
#define FN_MEMORY 0x170
#define FN_WRITEBACK 0x178
#define FN_CALLOUT 0x180
#define RCX_SAVE 0xc8
#define RETURN_SP 0x200
#define RETURN_BASE 0x208

#define DESCRIPTOR_SIZE_FIELD 4
#define DESCRIPTOR_AND_JUMP 13
#define PAGE_SHIFT 12

#define EXIT_KIND_LOOKUP 0
#define EXIT_KIND_LINK 1

        .text

.macro SAVE_GUEST
        mov     %rax, %gs:0x00
        mov     %rcx, %gs:0x08
        mov     %rdx, %gs:0x10
        mov     %rbx, %gs:0x18
        mov     %r11, %gs:0x20
        mov     %rbp, %gs:0x28
        mov     %rsi, %gs:0x30
        mov     %rdi, %gs:0x38
        mov     %r8,  %gs:0x40
        mov     %r9,  %gs:0x48
        mov     %r12, %gs:0x60
        mov     %r13, %gs:0x68
.endm

.macro LOAD_GUEST
        mov     %gs:0x00, %rax
        mov     %gs:0x08, %rcx
        mov     %gs:0x10, %rdx
        mov     %gs:0x18, %rbx
        mov     %gs:0x20, %r11
        mov     %gs:0x28, %rbp
        mov     %gs:0x30, %rsi
        mov     %gs:0x38, %rdi
        mov     %gs:0x40, %r8
        mov     %gs:0x48, %r9
        mov     %gs:0x60, %r12
        mov     %gs:0x68, %r13
.endm

// void veneer_bt_enter(const void* code, uint64_t t0): runs translated code until it exits.
        .globl  veneer_bt_enter
        .type   veneer_bt_enter, @function
veneer_bt_enter:
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rdi, %r15              // the code to jump to
        mov     %rsi, %r14
        mov     %rsp, %gs:HOST_RSP
        push    %gs:ARITH_FLAGS         // only arithmetic bits and bit 1 are set there
        popfq
        mov     %gs:RETURN_SP, %rsp
        LOAD_GUEST
        jmp     *%r15
        .size   veneer_bt_enter, . - veneer_bt_enter

// jump here: T0 = guest RIP that has no known translation
        .globl  veneer_bt_stub_lookup
veneer_bt_stub_lookup:
        mov     %r14, %gs:RIP
        movq    $EXIT_KIND_LOOKUP, %gs:EXIT_KIND
        movq    $0, %gs:EXIT_ARG
        jmp     veneer_bt_stub_exit

// call here: the same after a branch; a BranchNote follows the call
        .globl  veneer_bt_stub_branch
veneer_bt_stub_branch:
        mov     %r14, %gs:RIP
        movq    $EXIT_KIND_LOOKUP, %gs:EXIT_KIND
        pop     %gs:EXIT_ARG
        jmp     veneer_bt_stub_exit

// call here: the arena name of the LinkSite that wants to be linked follows the call
        .globl  veneer_bt_stub_link
veneer_bt_stub_link:
        pop     %gs:EXIT_ARG
        movq    $EXIT_KIND_LINK, %gs:EXIT_KIND

// jump here: rip, exit_kind, exit_arg are set
        .globl  veneer_bt_stub_exit
veneer_bt_stub_exit:
        SAVE_GUEST
        mov     %rsp, %gs:RETURN_SP
        mov     %gs:HOST_RSP, %rsp
        pushfq
        pop     %gs:ARITH_FLAGS
        cld
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret

// call here; 8 bytes of descriptor follow the call. Saves everything, calls function(self, descriptor).
// The function's answer: 0 go on behind the descriptor; 1 leave to the run loop; else go on `answer` bytes behind.
.macro CALL_OUT function
        SAVE_GUEST
        mov     %r14, %gs:T0
        mov     %r15, %gs:T1
        mov     %r10, %gs:T2
        mov     %rsp, %rbx              // the return stack; C++ gets its own
        mov     %gs:HOST_RSP, %rsp
        pushfq
        pop     %gs:ARITH_FLAGS
        cld
        mov     (%rbx), %rsi            // the descriptor
        mov     %gs:SELF, %rdi
        and     $-16, %rsp
        call    *%gs:\function
        cmp     $1, %rax
        je      veneer_bt_leave
        lea     8(%rax), %rax
        add     %rax, (%rbx)
        push    %gs:ARITH_FLAGS
        andq    $0x8d7, (%rsp)
        popfq
        mov     %rbx, %rsp
        mov     %gs:T0, %r14
        mov     %gs:T1, %r15
        mov     %gs:T2, %r10
        LOAD_GUEST
        ret
.endm

// The bottom of the return stack returns here, to guest address 0: T0 has it.
        .globl  veneer_bt_stub_bottom
veneer_bt_stub_bottom:
        mov     %gs:RETURN_BASE, %rsp
        jmp     veneer_bt_stub_lookup

        .globl  veneer_bt_stub_memory
veneer_bt_stub_memory:
        CALL_OUT FN_MEMORY

// The same for the range of an access group. One that leaves its page is not asked about: back behind the descriptor and
// the jump that follows it. Without flags.
        .globl  veneer_bt_stub_group
veneer_bt_stub_group:
        mov     (%rsp), %r15
        movzbl  DESCRIPTOR_SIZE_FIELD(%r15), %r10d
        mov     %rcx, %gs:RCX_SAVE
        mov     $64 - PAGE_SHIFT, %ecx
        shlx    %rcx, %r14, %r15
        shrx    %rcx, %r15, %r15        // the offset in the page
        lea     -1(%r15,%r10), %r10     // that of the last byte
        mov     $PAGE_SHIFT, %ecx
        shrx    %rcx, %r10, %rcx
        jrcxz   1f
        mov     %gs:RCX_SAVE, %rcx
        pop     %r15
        lea     DESCRIPTOR_AND_JUMP(%r15), %r15
        jmp     *%r15
1:      mov     %gs:RCX_SAVE, %rcx
        jmp     veneer_bt_stub_memory

        .globl  veneer_bt_stub_writeback
veneer_bt_stub_writeback:
        CALL_OUT FN_WRITEBACK

        .globl  veneer_bt_stub_callout
veneer_bt_stub_callout:
        CALL_OUT FN_CALLOUT

// Leaves translated code when the guest's state is in the block already.
veneer_bt_leave:
        lea     8(%rbx), %rbx
        mov     %rbx, %gs:RETURN_SP
        mov     %gs:HOST_RSP, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret

        .section .note.GNU-stack, "", @progbits
