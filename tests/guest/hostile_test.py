"""Small kernels that do what no sane system does. The guest may crash itself; veneer goes on or ends as a machine would.

tests/guest/CMakeLists.txt runs each method as one ctest.
"""
import os
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "boot"))
from guest import SCALE, Guest  # noqa: E402
from tiny_kernel import build  # noqa: E402


class Kernel(Guest):
    """A machine with a kernel made of the source."""

    def __init__(self, source, *flags, symbols=None, runtime=True, **where):
        self._folder = tempfile.TemporaryDirectory()
        kernel = build(source, self._folder.name, symbols, runtime)
        super().__init__("--memory", "64M", *flags, kernel=kernel, initrd="", cmdline="", **where)

    def __exit__(self, *what):
        super().__exit__(*what)
        self._folder.cleanup()

    def processor_seconds(self):
        """What veneer has used so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Case(unittest.TestCase):
    def ends(self, source, status, *flags, console=None, timeout=20, **where):
        """The kernel ends by itself with this status. Returns the run."""
        with Kernel(source, "--no-reboot", "--debug-exit", *flags, **where) as guest:
            self.assertEqual(guest.wait(timeout), status, guest.story())
            if console is not None:
                self.assertEqual(guest.console.replace("\r", "").strip(), console)
            guest.messages = guest.stderr().splitlines()
            return guest

    def goes_on(self, source, *flags, seconds=0.5, **where):
        """The kernel runs until SIGTERM, which it does not delay."""
        with Kernel(source, "--no-reboot", "--debug-exit", *flags, **where) as guest:
            guest.expect("^ready", 20)
            time.sleep(seconds * SCALE)
            self.assertIsNone(guest.process.poll(), guest.story())
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(3), 1, guest.story())
            self.assertIn("ended by signal 15", guest.stderr())


class Ends(Case):
    """A processor that gives up, or will never do anything again."""

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
