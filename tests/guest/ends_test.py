"""Processors that give up, or will never do anything again: veneer ends when asked, and says what happened."""
import signal
import time
import unittest

from kernel import SCALE, Case, Kernel


class Ends(Case):
    def test_triple_fault(self):
        run = self.ends("ud2", 3)
        self.assertEqual(len([line for line in run.messages if "triple fault" in line]), 1, run.messages)

    def test_triple_fault_resets(self):
        """Without --no-reboot it is a reset, and again, and again."""
        with Kernel('say "ready"\n ud2') as guest:
            for _ in range(5):
                guest.expect("^ready", 20)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(3), 1)

    def test_halted_for_ever(self):
        """HLT with interrupts off, and a timer that goes on asking: nothing happens, at no cost."""
        source = """
            mov al, 0x34
            out 0x43, al        # 8254 counter 0, mode 2, a thousand times a second
            mov al, 0xa9
            out 0x40, al
            mov al, 0x04
            out 0x40, al
            say "ready"
            cli
        1:  hlt
            jmp 1b
        """
        with Kernel(source) as guest:
            guest.expect("^ready", 20)
            time.sleep(0.3 * SCALE)
            before = guest.processor_seconds()
            time.sleep(1)
            self.assertLess(guest.processor_seconds() - before, 0.1)
            guest.type("\x01x")
            self.assertEqual(guest.wait(3), 0)

    LOOP = 'say "ready"\n cli\n1: jmp 1b'

    def test_loop_sigterm(self):
        self.goes_on(self.LOOP)

    def test_loop_escape_key(self):
        with Kernel(self.LOOP) as guest:
            guest.expect("^ready", 20)
            guest.type("\x01x")
            self.assertEqual(guest.wait(3), 0)

    def test_loop_hang_dump(self):
        with Kernel(self.LOOP, "--hang-dump", "1") as guest:
            guest.expect("^ready", 20)
            deadline = time.monotonic() + 6 * SCALE
            while "last events" not in guest.stderr() and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertIn("last events", guest.stderr())
            guest.signal()
            self.assertEqual(guest.wait(3), 1)

    def test_loop_of_calls(self):
        """Each call pushes, and the address space under the stack is one page, 128 TiB of it."""
        self.goes_on("""
            mov edi, 0x200000               # a page of each level
            mov eax, 0x201000 + 3           # PML4: entries 256 to 511 lead to one table
            lea rsi, [rdi + 0x800]
            mov ecx, 256
        1:  mov [rsi], rax
            add rsi, 8
            loop 1b
            mov rbx, cr3
            mov rbx, [rbx]
            mov [rdi], rbx
            mov ecx, 512
            lea rsi, [rdi + 0x1000]
            mov eax, 0x202000 + 3
        1:  mov [rsi], rax
            mov edx, 0x203000 + 3
            mov [rsi + 0x1000], rdx
            mov edx, 0x204000 + 3
            mov [rsi + 0x2000], rdx
            add rsi, 8
            loop 1b
            mov cr3, rdi
            say "ready"
            xor esp, esp
        1:  call 1b
        """)


if __name__ == "__main__":
    unittest.main()
