// REP STOS and REP MOVS inside one plain page each: done where they stand, without C++.
//
// Called from 64-bit code in place of stub_callout, with the same record behind the call, and T0 = displacement of the
// write tags of the block's TLB table. What is not this plain (no count, DF, a page's edge, no such entry in the TLB)
// goes on to stub_callout as if it had been called. Registers as in stubs.S; host DF is clear in translated code.

#define DIRECTION 0x118
#define T0_SAVE 0x98
#define FLAGS_IMAGE 0xc0
#define RECORD_BYTES 8
// In a TlbTable, from a write tag.
#define TO_READ_TAG -0x80000
#define TO_ADDEND 0x80000

        .text

// Flags as the translator's images have them: AH by LAHF, AL by SETO. Keeps rax.
.macro SAVE_FLAGS
        mov     %rax, %gs:T0_SAVE
        lahf
        seto    %al
        mov     %ax, %gs:FLAGS_IMAGE
        mov     %gs:T0_SAVE, %rax
.endm
.macro RESTORE_FLAGS
        mov     %rax, %gs:T0_SAVE
        movzwl  %gs:FLAGS_IMAGE, %eax
        add     $0x7f, %al
        sahf
        mov     %gs:T0_SAVE, %rax
.endm

// Out unless `shift`-sized elements, rcx of them, upwards, are 1 to 4096 bytes. r10 = their bytes.
.macro COUNT_BYTES shift
        cmpq    $0, %gs:DIRECTION
        jne     9f
        lea     -1(%rcx), %r10
        cmp     $4096 >> \shift, %r10
        jae     9f
        lea     1(%r10), %r10
        shl     $\shift, %r10
.endm
// Out unless r10 bytes from `address` on are inside a page. Uses r15.
.macro IN_PAGE address
        mov     \address, %r15
        and     $4095, %r15d
        add     %r10, %r15
        cmp     $4096, %r15
        ja      9f
.endm
// Out unless the TLB lets accesses to the page of `address` go ahead. `entry` = its write tag's displacement; uses r10.
.macro LOOK_UP address, entry, to_tag
        rorx    $12, \address, %r10
        movzwl  %r10w, %r10d
        lea     (%r14,%r10,8), \entry
        mov     \address, %r10
        and     $-4096, %r10
        add     %gs:\to_tag(\entry), %r10
        jnz     9f
.endm

.macro STOS_STUB shift, operation
        .globl  veneer_bt_stub_stos_\shift
veneer_bt_stub_stos_\shift:
        SAVE_FLAGS
        COUNT_BYTES \shift
        IN_PAGE %rdi
        LOOK_UP %rdi, %r14, 0
        mov     %gs:TO_ADDEND(%r14), %r14
        add     %r14, %rdi
        rep \operation
        sub     %r14, %rdi
        jmp     8f
.endm

.macro MOVS_STUB shift, operation
        .globl  veneer_bt_stub_movs_\shift
veneer_bt_stub_movs_\shift:
        SAVE_FLAGS
        COUNT_BYTES \shift
        IN_PAGE %rsi
        IN_PAGE %rdi
        LOOK_UP %rdi, %r15, 0
        mov     %gs:TO_ADDEND(%r15), %r15
        LOOK_UP %rsi, %r14, TO_READ_TAG
        mov     %gs:TO_ADDEND(%r14), %r14
        add     %r15, %rdi
        add     %r14, %rsi
        rep \operation
        sub     %r15, %rdi
        sub     %r14, %rsi
        jmp     8f
.endm

        STOS_STUB 0, stosb
        STOS_STUB 1, stosw
        STOS_STUB 2, stosl
        STOS_STUB 3, stosq
        MOVS_STUB 0, movsb
        MOVS_STUB 1, movsw
        MOVS_STUB 2, movsl
        MOVS_STUB 3, movsq

// Done: back behind the record.
8:      addq    $RECORD_BYTES, (%rsp)
        RESTORE_FLAGS
        ret
9:      RESTORE_FLAGS
        jmp     veneer_bt_stub_callout

        .section .note.GNU-stack, "", @progbits
