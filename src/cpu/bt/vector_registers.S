// Stores and loads of single vector registers (vector_registers.h): void routine(void* memory), 16 bytes of code each.
        .text

// One table: `instruction prefix<n>` in either direction.
.macro STORES name, count, instruction, prefix
        .globl  \name
        .balign 16
\name:
        .altmacro
        .set    n, 0
        .rept   \count
        STORE   \instruction, \prefix, %n
        .set    n, n + 1
        .endr
        .noaltmacro
.endm
.macro STORE instruction, prefix, n
        .balign 16
        \instruction %\prefix\n, (%rdi)
        ret
.endm

.macro LOADS name, count, instruction, prefix
        .globl  \name
        .balign 16
\name:
        .altmacro
        .set    n, 0
        .rept   \count
        LOAD    \instruction, \prefix, %n
        .set    n, n + 1
        .endr
        .noaltmacro
.endm
.macro LOAD instruction, prefix, n
        .balign 16
        \instruction (%rdi), %\prefix\n
        ret
.endm

        STORES  veneer_bt_store_ymm, 16, vmovdqu, ymm
        LOADS   veneer_bt_load_ymm, 16, vmovdqu, ymm
        STORES  veneer_bt_store_zmm, 32, vmovdqu64, zmm
        LOADS   veneer_bt_load_zmm, 32, vmovdqu64, zmm
        STORES  veneer_bt_store_opmask, 8, kmovq, k
        LOADS   veneer_bt_load_opmask, 8, kmovq, k
        STORES  veneer_bt_store_mmx, 8, movq, mm

        .section .note.GNU-stack, "", @progbits
