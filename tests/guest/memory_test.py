"""Code, stacks, tables and operands in places where none should be."""
import unittest

from kernel import Case


class Code(Case):
    """Where instructions come from."""

    def test_jump_to_devices(self):
        """Nobody answers an instruction fetch there: all ones, which is no instruction (docs/QUIRKS.md)."""
        for address in (0xfee00000, 0xfec00000, 0xc0000000, 0xfffffff0, 0xa0000):
            with self.subTest(hex(address)):
                run = self.ends(f"call load_idt\n mov eax, {address:#x}\n jmp rax", 41)
                self.assertIn(f"EXCEPTION {6:016x} {0:016x} {address:016x}", run.console)

    def test_jump_to_unmapped(self):
        run = self.ends("call load_idt\n mov rax, 0x8000000000\n jmp rax", 41)
        self.assertIn(f"EXCEPTION {14:016x} {0:016x} {0x8000000000:016x} {0x8000000000:016x}", run.console)

    def test_jump_to_non_canonical(self):
        run = self.ends("call load_idt\n mov rax, 0x800000000000\n jmp rax", 41)
        self.assertIn(f"EXCEPTION {13:016x} {0:016x}", run.console)

    def test_run_into_unmapped(self):
        """The last instruction of mapped memory, whole and cut."""
        self.ends("""
            call load_idt
            # a page of RAM becomes the last one below 4 GiB
            mov rbx, [0x9000]
            and rbx, -4096
            mov rbx, [rbx + 3 * 8]
            and rbx, -4096              # directory of the fourth GiB
            mov qword ptr [rbx + 511 * 8], 0x200000 + 0x83
            mov rax, cr3
            mov cr3, rax
            mov word ptr [0x3ffffe], 0x9090
            mov eax, 0xfffffffe
            lea rbx, [rip + 1f]
            mov [rip + hook], rbx
            jmp rax
        1:  mov rax, cr2
            mov rbx, 0x100000000
            cmp rax, rbx
            jne bad
            cmp [rsp + 16], rbx
            jne bad
            mov word ptr [0x3ffffe], 0xb890     # nop; mov eax, imm32: four bytes are missing
            lea rbx, [rip + 2f]
            mov [rip + hook], rbx
            mov eax, 0xfffffffe
            jmp rax
        2:  mov rax, cr2
            mov rbx, 0x100000000
            cmp rax, rbx
            jne bad
            mov eax, 0xffffffff
            cmp [rsp + 16], rax
            jne bad
            quit 0
        bad: call hex
            quit 1
        """, 1, console="")

    def test_writes_over_itself(self):
        """The next instruction, the one after, a loop's body, all of it by REP STOSB, through another mapping."""
        self.ends("""
            mov byte ptr [rip + 1f + 1], 7      # the very next instruction
        1:  mov al, 1
            cmp al, 7
            jne bad
            mov ecx, 1000
            xor ebx, ebx
        2:  inc byte ptr [rip + 3f + 2]         # add ebx, imm8 in the same block, a thousand times
        3:  add ebx, 0
            loop 2b
            # 1000 steps of a signed byte that counts up from 1: 3 times round, then 1 to 127 and -128 to -25
            mov eax, 0
            mov ecx, 1000
            xor edx, edx
        4:  inc dl
            movsx esi, dl
            add eax, esi
            loop 4b
            cmp eax, ebx
            jne bad
            lea rdi, [rip + 5f]                 # REP STOSB over the instruction behind it
            mov al, 0x90
            mov ecx, 2
            rep stosb
        5:  ud2
            mov rax, cr3                        # the same memory 32 MiB higher
            mov rax, [rax]
            and rax, -4096
            mov rax, [rax]
            and rax, -4096
            mov rbx, [rax + 8 * 8]
            mov [rax + 24 * 8], rbx
            mov rax, cr3
            mov cr3, rax
            mov byte ptr [rip + 6f + 1 + 0x2000000], 9
        6:  mov al, 1
            cmp al, 9
            jne bad
            quit 0
        bad: quit 1
        """, 1, console="")


class Tables(Case):
    """Paging and descriptor tables."""

    def test_page_table_maps_itself(self):
        """PML4 entry 511 is the PML4: a changed entry is seen through the window."""
        self.ends("""
            mov rax, cr3
            mov rbx, rax
            or rbx, 3
            mov [rax + 511 * 8], rbx
            mov rcx, 0xfffffffffffff000
            mov rdx, [rcx + 511 * 8]
            and rdx, -256
            and rbx, -256
            cmp rdx, rbx
            jne bad
            mov rdx, [rax]
            mov [rcx + 8], rdx              # address 0x8000000000 is address 0 now
            mov rdi, 0x8001000200
            mov esi, 0x1000200
            mov rax, [rdi]
            cmp rax, [rsi]
            jne bad
            quit 0
        bad: quit 1
        """, 1, console="")

    def test_page_table_in_a_device(self):
        """All ones, or whatever the device says: reserved bits, and no handler can be reached. (40 bits of address.)"""
        for address in (0xfee00000, 0xfec00000, 0xc0000000, 0xa0000, 0xfffffff000):
            with self.subTest(hex(address)):
                self.ends(f"call load_idt\n mov rax, {address:#x}\n mov cr3, rax\n nop\n quit 0", 3)

    def test_page_table_entry_in_a_device(self):
        run = self.ends("""
            call load_idt
            mov rax, cr3
            mov rbx, 0xfec00003
            mov [rax + 8], rbx
            mov rbx, 0x8000000000
            mov rcx, [rbx]
        """, 41)
        self.assertIn(f"EXCEPTION {14:016x}", run.console)

    def test_page_table_of_garbage(self):
        for seed in range(1, 9):
            with self.subTest(seed):
                self.ends("""
                    mov rdi, [0x9000]
                    and rdi, -4096
                    mov ecx, 512
                1:  call random
                    mov [rdi], rax
                    add rdi, 8
                    loop 1b
                    mov rax, cr3
                    mov cr3, rax
                    mov ebx, 0
                2:  mov rax, [rbx]
                    add rbx, 0x200000
                    jmp 2b
                """, 3, symbols={"SEED": seed * 0x9e3779b97f4a7c15 & (1 << 64) - 1})

    def test_idt_of_garbage(self):
        for seed in range(1, 5):
            with self.subTest(seed):
                self.ends("""
                    mov edi, LOAD_ADDRESS + 0x100000
                    mov ecx, 512
                1:  call random
                    mov [rdi], rax
                    add rdi, 8
                    loop 1b
                    lidt [rip + idt_pointer]
                    int 3
                    ud2
                """, 3, symbols={"SEED": seed * 0x9e3779b97f4a7c15 & (1 << 64) - 1})

    def test_idt_in_a_device(self):
        self.ends("""
            mov dword ptr [rip + idt_pointer + 2], 0xfec00000
            lidt [rip + idt_pointer]
            ud2
        """, 3)

    def test_gdt_in_a_device(self):
        """A segment load reads a descriptor of all ones, or a device's registers."""
        self.ends("""
            call load_idt
            mov dword ptr [rip + 1f + 2], 0xfec00000
            lgdt [rip + 1f]
            mov eax, 0x18
            mov ds, eax
            quit 0
        1:  .word 0xffff
            .quad 0
        """, 3)


class Operands(Case):
    """Stacks and operands in devices and across the ends of things."""

    def test_stack_in_a_device(self):
        self.ends("""
            mov rsp, 0xfec00800
            push 1
            push rax
            pop rbx
            call 1f
        1:  pushfq
            mov ebp, 0xfec00700
            enter 64, 3
            leave
            mov rsp, 0xc0000800
            fld1
            fstp qword ptr [rsp]
            quit 0
        """, 1, console="")

    def test_return_from_a_device(self):
        self.ends("""
            call load_idt
            lea rax, [rip + 1f]
            mov [rip + hook], rax
            mov rsp, 0xa8000
            ret                                 # all ones: a fetch that crosses the end of the address space
        1:  mov rax, cr2
            lea rsp, [rip + stack_top]
            call hex
            quit 0
        """, 1, console=f"{(1 << 64) - 1:016x}")

    def test_exception_with_a_stack_in_a_device(self):
        """The frame is gone, IRET finds ones and faults, until the stack has grown down into RAM."""
        self.ends("""
            call load_idt
            lea rax, [rip + 1f]
            mov [rip + hook], rax
            mov rsp, 0xa8000
            ud2
        1:  cmp qword ptr [rsp], -1
            jne 2f
            iretq
        2:  cmp rsp, 0xa0000
            jae 3f
            quit 0
        3:  quit 1
        """, 1)

    def test_lock_in_a_device(self):
        self.ends("""
            mov edi, 0xfec00000
            lock add dword ptr [rdi], 1
            lock inc dword ptr [rdi + 0x10]
            xchg [rdi + 0x10], eax
            lock cmpxchg [rdi + 0x10], ecx
            lock cmpxchg8b [rdi]
            lock cmpxchg16b [rdi]
            lock xadd [rdi + 0x10], rcx
            lock bts qword ptr [rdi], 63
            lock btr dword ptr [rdi], eax
            mov edi, 0xa0000
            lock add dword ptr [rdi - 2], 1     # half RAM, half nothing
            lock xadd [rdi - 4], rcx
            mov edi, 0x200000
            lock add dword ptr [rdi - 2], 1     # across two pages
            lock cmpxchg [rdi - 1], rcx
            quit 0
        """, 1, console="")

    def test_vectors_in_a_device(self):
        self.ends("""
            mov rax, cr4
            or eax, 0x600
            mov cr4, rax
            mov edi, 0xfec00000
            movups xmm0, [rdi + 1]
            movntdq [rdi], xmm0
            movaps [rdi + 0x20], xmm0
            maskmovdqu xmm0, xmm0
            mov edi, 0x9fff8
            movups xmm1, [rdi]
            movups [rdi], xmm1
            fxsave [rdi + 0x28]
            fxrstor [rdi - 0x1f8]
            quit 0
        """, 1, console="")


class Strings(Case):
    """REP with counts that never end, or end at a wall."""

    def goes_on_with(self, instruction):
        self.goes_on(f"""
            say "ready"
            mov rcx, -1
            mov rsi, 0x100000
            mov rdi, 0x100000
            mov edx, 0x80
            {instruction}
        """, seconds=0.1)

    def test_device_stores(self):
        self.goes_on("say \"ready\"\n1: mov ecx, 0x1000000\n mov edi, 0xc0000000\n rep stosd\n jmp 1b", seconds=0.1)

    def test_device_moves(self):
        self.goes_on("say \"ready\"\n1: mov ecx, 0x1000000\n mov esi, 0xc0000000\n mov edi, esi\n rep movsd\n jmp 1b",
                     seconds=0.1)

    def test_ports_in(self):
        self.goes_on("say \"ready\"\n1: mov rcx, -1\n mov edi, 0xc0000000\n mov edx, 0x3f8\n rep insb\n jmp 1b", seconds=0.1)

    def test_ports_out(self):
        self.goes_on("say \"ready\"\n1: mov rcx, -1\n mov esi, 0x100000\n mov edx, 0x80\n rep outsb\n jmp 1b", seconds=0.1)

    def test_ends_at_a_wall(self):
        """Each runs into unmapped memory; registers tell how far it got."""
        for instruction, counts in (("lodsb", "rsi"), ("scasb", "rdi"), ("cmpsb", "rsi"), ("movsb", "rsi")):
            with self.subTest(instruction):
                self.ends(f"""
                    call load_idt
                    lea rax, [rip + 1f]
                    mov [rip + hook], rax
                    mov rcx, -1
                    mov rax, 0x100000000 - 64
                    mov rsi, rax
                    mov rdi, rax
                    mov al, 0xff
                    rep {instruction}
                    quit 2
                1:  mov rax, 0x100000000
                    cmp {counts}, rax
                    jne 2f
                    mov rax, -65
                    cmp rcx, rax
                    jne 2f
                    quit 0
                2:  mov rax, {counts}
                    call hex
                    mov rax, rcx
                    call hex
                    quit 1
                """, 1, console="")


if __name__ == "__main__":
    unittest.main()
