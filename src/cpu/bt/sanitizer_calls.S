// The sanitizers' runtime, called from register-only code. Only in builds with a sanitizer.
//
// It uses vector registers, and register-only code runs while the guest's are live (docs/engine.md, "The two
// kinds of C++"). The linker sends every call of the routines below here (--wrap, CMakeLists.txt reads this list):
// where the guest's registers are not live on this thread it goes on at once, else it saves and restores them. So the
// sanitizer sees all C++ of the engine; what it cannot see is translated code. What only reports a finding and ends the
// process is not among them, nor is ASan's detect_stack_use_after_return=1, which is off by default and stays so.

#define VECTOR_STATE 0xe6               /* XCR0: SSE, AVX, opmask, upper ZMM; the runtime has no use for x87 */
#define XSAVE_BYTES 2752                /* up to 2,688 with AVX-512 in the standard format */
#define XSAVE_HEADER 512

        .section .tbss, "awT", @nobits
        .globl  veneer_vectors_live
        .type   veneer_vectors_live, @object
        .size   veneer_vectors_live, 1
veneer_vectors_live:
        .zero   1

        .section .rodata
default_mxcsr:
        .long   0x1f80

        .text

// The runtime's routine is in rax; the caller's arguments and return address are as it left them.
        .type   with_vectors_kept, @function
with_vectors_kept:
        .cfi_startproc
        push    %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        mov     %rsp, %rbp
        .cfi_def_cfa_register %rbp
        sub     $XSAVE_BYTES, %rsp
        and     $-64, %rsp
        mov     %rax, %r11
        mov     %rdx, %r10
        .irp    n, 0, 8, 16, 24, 32, 40, 48, 56
        movq    $0, XSAVE_HEADER + \n(%rsp)
        .endr
        mov     $VECTOR_STATE, %eax
        xor     %edx, %edx
        xsave64 (%rsp)
        ldmxcsr default_mxcsr(%rip)
        vzeroupper
        mov     %r10, %rdx
        call    *%r11
        mov     %rax, %r11
        mov     %rdx, %r10
        mov     $VECTOR_STATE, %eax
        xor     %edx, %edx
        xrstor64 (%rsp)
        mov     %r11, %rax
        mov     %r10, %rdx
        leave
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   with_vectors_kept, . - with_vectors_kept

.macro BEGIN name
        .globl  __wrap_\name
        .type   __wrap_\name, @function
__wrap_\name:
        cmpb    $0, %fs:veneer_vectors_live@tpoff
        jne     1f
        jmp     __real_\name@PLT
1:
.endm

.macro CALL name
        BEGIN   \name
        mov     __real_\name@GOTPCREL(%rip), %rax
        jmp     with_vectors_kept
        .size   __wrap_\name, . - __wrap_\name
.endm

// Of these there is a variant that takes the address to report as its last argument.
.macro CALL_AT name, argument
        BEGIN   \name
        mov     (%rsp), %\argument
        mov     \name\()_pc@GOTPCREL(%rip), %rax
        jmp     with_vectors_kept
        .size   __wrap_\name, . - __wrap_\name
.endm

#ifdef VENEER_TSAN
        CALL    __tsan_func_entry
        CALL    __tsan_func_exit
        CALL_AT __tsan_read1, rsi
        CALL_AT __tsan_read2, rsi
        CALL_AT __tsan_read4, rsi
        CALL_AT __tsan_read8, rsi
        CALL_AT __tsan_read16, rsi
        CALL_AT __tsan_write1, rsi
        CALL_AT __tsan_write2, rsi
        CALL_AT __tsan_write4, rsi
        CALL_AT __tsan_write8, rsi
        CALL_AT __tsan_write16, rsi
        CALL_AT __tsan_read_range, rdx
        CALL_AT __tsan_write_range, rdx
        CALL    __tsan_vptr_update
        CALL    __tsan_vptr_read
        CALL    __tsan_atomic8_load
        CALL    __tsan_atomic16_load
        CALL    __tsan_atomic32_load
        CALL    __tsan_atomic64_load
        CALL    __tsan_atomic8_store
        CALL    __tsan_atomic16_store
        CALL    __tsan_atomic32_store
        CALL    __tsan_atomic64_store
        CALL    __tsan_atomic8_exchange
        CALL    __tsan_atomic16_exchange
        CALL    __tsan_atomic32_exchange
        CALL    __tsan_atomic64_exchange
        CALL    __tsan_atomic8_fetch_add
        CALL    __tsan_atomic32_fetch_add
        CALL    __tsan_atomic64_fetch_add
        CALL    __tsan_atomic32_fetch_sub
        CALL    __tsan_atomic64_fetch_sub
        CALL    __tsan_atomic8_fetch_or
        CALL    __tsan_atomic32_fetch_or
        CALL    __tsan_atomic64_fetch_or
        CALL    __tsan_atomic8_fetch_and
        CALL    __tsan_atomic32_fetch_and
        CALL    __tsan_atomic64_fetch_and
        CALL    __tsan_atomic8_compare_exchange_strong
        CALL    __tsan_atomic16_compare_exchange_strong
        CALL    __tsan_atomic32_compare_exchange_strong
        CALL    __tsan_atomic64_compare_exchange_strong
        CALL    __tsan_atomic8_compare_exchange_weak
        CALL    __tsan_atomic32_compare_exchange_weak
        CALL    __tsan_atomic64_compare_exchange_weak
        CALL    __tsan_atomic_thread_fence
        CALL    __tsan_atomic_signal_fence
        CALL    __tsan_acquire
        CALL    __tsan_release
#else
        // A class that this place has not seen yet (-fsanitize=vptr); it comes back when all is well.
        CALL    __ubsan_handle_dynamic_type_cache_miss_abort
        CALL    __asan_handle_no_return
        CALL    __asan_poison_stack_memory
        CALL    __asan_unpoison_stack_memory
#endif
        CALL    memcpy
        CALL    memmove
        CALL    memset
        CALL    memcmp

        .section .note.GNU-stack, "", @progbits
