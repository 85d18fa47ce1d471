"""Guests at random: devices, registers and code of random bytes. Whatever happens to them, veneer stays well."""
import signal
import time
import unittest

from kernel import SCALE, Case, Kernel

SEEDS = 4
SECONDS = 0.7

# Entered with the address of one step in RBX; R15 steps are made. A step ends by `jmp next` or an exception. RBP, R14
# and R15 are kept. An NMI comes a thousand times a second, so no step takes longer.
STEPS = """
    mov [rip + step], rbx
    call load_idt
    lea rax, [rip + recover]
    mov [rip + hook], rax
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 0x04
    out 0x40, al
    mov edi, 0xfec00000
    mov dword ptr [rdi], 0x10 + 2 * 2       # I/O APIC pin 2, the 8254's, edge, NMI to processor 0
    mov dword ptr [rdi + 0x10], 4 << 8
    jmp next
recover:
    mov r14, [rip + steps_left]
next:
    cld
    lea rsp, [rip + stack_top]
    dec qword ptr [rip + steps_left]
    jle finished                            # again, if an NMI came before the timer is masked there
    push 0x18
    lea rax, [rip + stack_top]
    push rax
    push 2
    push 0x10
    push [rip + step]
    iretq                                   # NMIs are possible again
finished:
    mov edi, 0xfec00000
    mov dword ptr [rdi], 0x10 + 2 * 2
    mov dword ptr [rdi + 0x10], 1 << 16
    say "done"
    quit 0
    .balign 8
step:       .quad 0
steps_left: .quad STEPS
"""


class RandomCase(Case):
    def survives(self, source, *flags, seeds=SEEDS, seconds=SECONDS, steps=100000, must_finish=False):
        """Every seed's guest ends by itself, or goes on until SIGINT."""
        for seed in range(1, seeds + 1):
            symbols = {"SEED": seed * 0x9e3779b97f4a7c15 & (1 << 64) - 1, "STEPS": steps}
            with self.subTest(seed=seed), \
                    Kernel(source, "--no-reboot", "--debug-exit", *flags, symbols=symbols) as guest:
                deadline = time.monotonic() + seconds * SCALE
                while guest.process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                stopped = guest.process.poll() is None
                guest.signal(signal.SIGINT)
                status = guest.wait(3)
                if stopped:
                    self.assertEqual(status, 1, guest.story())
                else:
                    self.assertTrue(status in (0, 3) or status & 1 and status > 0, f"status {status}\n{guest.story()}")
                for bad in ("Sanitizer", "runtime error", "internal", "ASSERT", "assert"):
                    self.assertNotIn(bad, guest.stderr())
                if must_finish:
                    self.assertIn("done", guest.console, guest.story())


class Devices(RandomCase):
    PORT = """
        call random
        mov edx, eax
        shr rax, 32
        test al, 1
        jz 1f
        and eax, 0x1f                           # half of them where devices are
        lea rsi, [rip + bases]
        movzx ecx, word ptr [rsi + rax * 2]
        and edx, 15
        add edx, ecx
    1:  movzx edx, dx
    """
    BASES = """
    bases: .word 0x20, 0x40, 0x60, 0x70, 0x80, 0xa0, 0x3f8, 0x4d0, 0x600, 0xcf8, 0xc000, 0x3f8, 0x40, 0x20, 0xcf8, 0xcf8
           .word 0x92, 0x3f0, 0x2f8, 0x170, 0x1f0, 0x510, 0x3c0, 0x3d0, 0, 0x10, 0xb0, 0xae00, 0xafe0, 0x600, 0xa0, 0x60
    """

    def test_ports(self):
        """No reset, no power-off: those ports get reads only."""
        self.survives("lea rbx, [rip + port_step]\n" + STEPS + "port_step:" + self.PORT + """
            call random
            mov ecx, eax
            and ecx, 7
            cmp edx, 0xf4
            je 5f
            cmp edx, 0x64
            je 5f
            cmp edx, 0xcf5
            jb 1f
            cmp edx, 0xcf9
            jbe 5f
        1:  cmp edx, 0x601
            jb 2f
            cmp edx, 0x605
            jbe 5f
        2:  cmp ecx, 1
            jb 3f
            je 4f
            cmp ecx, 3
            jb 6f
            je 5f
            cmp ecx, 5
            jb 7f
            je 8f
            jmp next
        3:  out dx, al
            jmp next
        4:  out dx, ax
            jmp next
        6:  out dx, eax
            jmp next
        5:  in al, dx
            jmp next
        7:  in ax, dx
            jmp next
        8:  in eax, dx
            jmp next
        """ + self.BASES, steps=30000)

    def test_all_ports(self):
        self.survives("lea rbx, [rip + port_step]\n" + STEPS + "port_step:" + self.PORT + """
            call random
            test eax, 0x10000
            jz 1f
            out dx, al
            jmp next
        1:  out dx, eax
            jmp next
        """ + self.BASES)

    def test_pci_and_its_windows(self):
        """Configuration space at random, so BARs move, then the memory where they may be."""
        self.survives("lea rbx, [rip + pci_step]\n" + STEPS + """
        pci_step:
            call random
            mov ecx, eax
            and ecx, 3
            jnz 2f
            mov ecx, eax
            shr ecx, 8
            and ecx, 0x18ff                     # slots 0 and 3
            or ecx, 0x80000000
            mov eax, ecx
            mov edx, 0xcf8
            out dx, eax
            call random
            mov edx, eax
            and edx, 3
            add edx, 0xcfc
            shr rax, 32
            out dx, eax
            jmp next
        2:  shr rax, 8
            mov esi, eax
            and esi, 0x7ff8
            shr rax, 20
            and eax, 7
            lea rcx, [rip + windows]
            add esi, [rcx + rax * 4]
            call random
            test eax, 0x100
            jz 4f
            test eax, 0x200
            jz 3f
            mov [rsi], eax
            mov [rsi + 1], ax
            mov [rsi + 3], al
            jmp next
        3:  mov [rsi + 4], rax
            lock xadd [rsi + 2], eax
            jmp next
        4:  mov rax, [rsi]
            movzx eax, word ptr [rsi + 5]
            mov al, [rsi]
            jmp next
        windows: .long 0xc0000000, 0xfec00000, 0xfee00000, 0xc0000000, 0xfebf8000, 0xa0000, 0xc0000000, 0xe0000000
        """)


class Registers(RandomCase):
    def test_msrs(self):
        self.survives("lea rbx, [rip + msr_step]\n" + STEPS + """
        msr_step:
            call random
            mov ecx, eax
            shr rax, 32
            mov edx, eax
            and edx, 15
            lea rsi, [rip + msrs]
            mov esi, [rsi + rdx * 4]
            cmp esi, -1
            je 1f
            and ecx, 0xff
            add ecx, esi
        1:  test eax, 0x100
            jz 2f
            rdmsr
            test eax, 0x200
            jz next
            xor dl, al
            wrmsr
            jmp next
        2:  call random
            mov rdx, rax
            shr rdx, 32
            test edx, 0x80000
            jz 3f
            movsx edx, dl
        3:  wrmsr
            jmp next
        msrs: .long 0, 0, 0x100, 0x200, 0x277, 0x6e0, 0x800, 0x800, 0xc0000080, 0xc0000100, 0x40000000, 0x4b564d00
              .long 0xc0010000, 0xc0011000, 0xd90, -1
        """)

    def test_control_and_debug_registers(self):
        self.survives("lea rbx, [rip + control_step]\n" + STEPS + """
        control_step:
            call random
            mov rdx, rax
            shr rdx, 8
            mov rsi, rdx
            shr rsi, 40
            and esi, 63
            btr rdx, rsi
            and eax, 15
            lea rsi, [rip + routines]
            movsxd rax, [rsi + rax * 4]
            add rsi, rax
            jmp rsi
        w0: mov rax, cr0
            xor rax, rdx
            and eax, 0x7fffffff
            bts rax, 31
            mov cr0, rax
            jmp next
        w1: mov cr0, rdx
            jmp next
        w2: mov rax, cr4
            and edx, 0xffff
            btc rax, rdx
            mov cr4, rax
            jmp next
        w3: mov cr4, rdx
            jmp next
        w4: mov rax, cr3
            xor al, dl
            mov cr3, rax
            jmp next
        w5: mov cr8, rdx
            and edx, 15
            mov cr8, rdx
            jmp next
        w6: mov dr7, rdx
            mov edx, edx
            mov dr7, rdx
            jmp next
        w7: mov dr0, rsi
            mov dr1, rdx
            mov dr6, rdx
            mov rax, dr5
            jmp next
        w8: clts
            lmsw dx
            smsw rax
            jmp next
        w9: xor ecx, ecx
            mov rax, rdx
            shr rdx, 32
            and eax, 0xff
            xsetbv
            jmp next
        w10: invlpg [rdx]
            sub rsp, 16
            mov [rsp + 8], rdx
            and edx, 0xfff
            mov [rsp], rdx
            and esi, 7
            invpcid rsi, [rsp]
            jmp next
        w11: mov eax, edx
            mov ecx, esi
            cpuid
            jmp next
        w12: mov ds, edx
            jmp next
        w13: mov fs, edx
            wrfsbase rdx
            rdgsbase rdx
            swapgs
            jmp next
        w14: push rdx
            popfq
            pushfq
            jmp next
        w15: xor ecx, ecx
            xgetbv
            fninit
            movups xmm0, [rsp]
            vaddps ymm1, ymm2, ymm3
            jmp next
        routines:
            .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
            .long w\\n - routines
            .endr
        """)


# Fills 64 bytes at RDI with code that is mostly instructions: random bytes, of which some are prefixes and escapes.
FILL = """
fill:
    mov ecx, 8
1:  call random
    mov [rdi + rcx * 8 - 8], rax
    loop 1b
    call random
    mov rdx, rax
    mov ecx, 6
2:  mov eax, edx
    and eax, 15
    lea rsi, [rip + escapes]
    mov al, [rsi + rax]
    mov esi, edx
    shr esi, 4
    and esi, 63
    mov [rdi + rsi], al
    shr rdx, 10
    loop 2b
    ret
escapes: .byte 0x0f, 0x0f, 0x66, 0xf2, 0xf3, 0x48, 0x41, 0xc4, 0xc5, 0x62, 0xf0, 0x67, 0x8b, 0x89, 0x0f, 0x64
registers:
    call random
    mov rbx, rax
    call random
    mov rsi, rax
    and esi, 0xfffff
    call random
    mov edi, eax
    and edi, 0x1ffffff
    call random
    mov ebp, eax
    and ebp, 0x1ffffff
    call random
    mov r8, rax
    mov ecx, eax
    movsx r9, al
    ret
"""


class Code(RandomCase):
    def test_in_ring_0(self):
        """It may do what it likes, to itself and to this kernel."""
        self.survives("lea rbx, [rip + code_step]\n" + STEPS + FILL + """
        code_step:
            call random
            mov edi, eax
            and edi, 0xffff
            add edi, 0x1200000
            mov r15, rdi
            call fill
            call registers
            jmp r15
        """, seeds=12, seconds=0.4)

    USER = """
        mov rax, cr4
        or eax, 0x600 + (1 << 16) + (1 << 18)   # SSE, FSGSBASE, XSAVE
        mov cr4, rax
        xor ecx, ecx
        xgetbv
        or eax, 7
        xsetbv
        mov rbx, [0x9000]                       # user pages: 2 MiB at 18 MiB, of code and data, and the stack's
        or byte ptr [0x9000], 4
        and rbx, -4096
        or byte ptr [rbx], 4
        mov rbx, [rbx]
        and rbx, -4096
        or byte ptr [rbx + 9 * 8], 4
        mov rax, cr3
        mov cr3, rax
        lea rax, [rip + tss]
        lea rdi, [rip + gdt]
        mov [rdi + 0x32], ax
        mov rdx, rax
        shr rdx, 16
        mov [rdi + 0x34], dl
        mov [rdi + 0x37], dh
        lea rdx, [rip + stack_top]
        mov [rax + 4], rdx
        lgdt [rip + gdt_pointer]
        mov eax, 0x30
        ltr ax
        lea rbx, [rip + user_step]
    """ + STEPS + FILL + """
        .balign 8
    gdt:    .quad 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff       # 10 kernel code, 18 data
            .quad 0x00cff3000000ffff, 0                             # 20 user data
            .quad 0x0000890000000067, 0                             # 30 TSS
            .quad 0x00affb000000ffff                                # 40 user code: 64, 32, 16 bits
            .quad 0x00cffb000000ffff
            .quad 0x010ffb200000ffff
    gdt_pointer: .word . - gdt - 1
            .quad gdt
    tss:    .fill 102
            .word 0x68                              # no I/O permission map
    user_step:
        call random
        mov edi, eax
        and edi, 0xffff
        add edi, 0x1200000
        mov r15, rdi
        call fill
        call random
        push 0x23
        mov ecx, 0x13f0000
        push rcx
        mov ecx, eax
        and ecx, 0x40ed5                        # arithmetic flags, IF, DF, AC: interrupts go nowhere
        test eax, 0x7000000
        jnz 1f
        or ecx, 0x100                           # TF now and then
    1:  push rcx
        shr rax, 32
        and eax, 3
        lea rcx, [rip + selectors]
        movzx ecx, byte ptr [rcx + rax]
        push rcx
        cmp cl, 0x53
        jne 2f
        movzx r15d, r15w
    2:  push r15
        call registers
        iretq
    selectors: .byte 0x43, 0x43, 0x4b, 0x53
    """

    def test_in_ring_3(self):
        """64-bit, 32-bit and 16-bit code in a cage: all the steps are made."""
        self.survives(self.USER, seeds=3, seconds=25, steps=20000, must_finish=True)

    def test_in_ring_3_one_by_one(self):
        """The same with a debugger's breakpoint armed all the time: single-instruction blocks."""
        self.survives("mov rax, 0x1200000\n mov dr0, rax\n mov eax, 0x000f0003\n mov dr7, rax\n" + self.USER,
                      seeds=1, seconds=25, steps=20000, must_finish=True)


if __name__ == "__main__":
    unittest.main()
