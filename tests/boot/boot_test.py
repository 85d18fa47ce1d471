"""Boot tests: the demo guest under veneer, from outside, as a user sees it.

tests/boot/CMakeLists.txt runs each method as one ctest. By hand: VENEER=... VENEER_GUEST=... python3 -m unittest -v
boot_test.Console in this folder.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from guest import GUEST_DIR, PROMPT, SANITIZED_NOTE, SCALE, VENEER, Guest, veneer_command


class Console(unittest.TestCase):
    """A shell in the guest, through the serial port."""

    def test_shell_answers(self):
        with Guest() as guest:
            guest.boot()
            self.assertEqual(guest.run("echo $((6 * 7))"), (0, "42"))
            self.assertEqual(guest.run("false")[0], 1)
            self.assertEqual(guest.run("echo one | tr a-z A-Z | sed s/ONE/two/"), (0, "two"))

    def test_many_processes(self):
        with Guest() as guest:
            guest.boot()
            loop = "i=0; while [ $i -lt 100 ]; do v=$(echo x$i | sed s/x/y/); i=$((i + 1)); done; echo $v"
            self.assertEqual(guest.run(loop), (0, "y99"))

    def test_known_digest(self):
        with Guest() as guest:
            guest.boot()
            # FIPS 180-4, the example of a million times "a".
            status, output = guest.run("head -c 1000000 /dev/zero | tr '\\0' a | sha256sum")
            self.assertEqual((status, output.split()[0]),
                             (0, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"))

    def test_no_kernel_complaints(self):
        with Guest() as guest:
            guest.boot()
            _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|segfault|general protection|Call Trace|stall'")
            self.assertEqual(output, "")

    def test_memory_size(self):
        with Guest("--memory", "300M") as guest:
            guest.boot()
            _, output = guest.run("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")
            self.assertGreater(int(output), 230 * 1024)
            self.assertLess(int(output), 300 * 1024)

    def test_processor(self):
        with Guest() as guest:
            guest.boot()
            self.assertEqual(guest.run("nproc"), (0, "1"))

    def test_random_device(self):
        with Guest() as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /sys/class/misc/hw_random/rng_current"), (0, "virtio_rng.0"))
            self.assertEqual(guest.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c"), (0, "64"))

    def test_long_lines_of_output(self):
        with Guest() as guest:
            guest.boot()
            _, output = guest.run("seq 1 20000")
            self.assertEqual(output.split(), [str(i) for i in range(1, 20001)])

    def test_pasted_input(self):
        """More than a UART's FIFO in one write: nothing may get lost."""
        with Guest() as guest:
            guest.boot()
            guest.type("echo rea''dy; cat >/tmp/pasted\n")
            guest.expect("^ready")
            time.sleep(0.5 * SCALE)  # what arrives before cat reads would be the shell's
            lines = [f"line {i} of the text that somebody pasted into the terminal" for i in range(60)]
            for line in lines:
                guest.type(line + "\n")
            guest.type("\x04")
            guest.expect(PROMPT)
            _, output = guest.run("cat /tmp/pasted")
            self.assertEqual(output.split("\n"), lines)


class Terminal(unittest.TestCase):
    """With a terminal on standard input."""

    def test_interrupt_key_goes_to_the_guest(self):
        with Guest(terminal=True) as guest:
            guest.boot()
            guest.type("sleep 1000\n")
            time.sleep(1 * SCALE)
            guest.type("\x03")
            guest.expect(PROMPT)
            self.assertEqual(guest.run("echo alive"), (0, "alive"))

    def test_job_control(self):
        with Guest(terminal=True) as guest:
            guest.boot()
            guest.type("sleep 1000\n")
            time.sleep(1 * SCALE)
            guest.type("\x1a")
            guest.expect(PROMPT)
            self.assertIn("Stopped", guest.run("jobs")[1])

    def test_settings_are_restored(self):
        with Guest(terminal=True) as guest:
            before = guest.settings_before
            guest.boot()
            raw = termios.tcgetattr(guest.slave)
            guest.type("\x01x")
            self.assertEqual(guest.wait(20), 0)
            self.assertNotEqual(raw[3], before[3])
            self.assertEqual(termios.tcgetattr(guest.slave), before)

    def test_settings_are_restored_after_sigterm(self):
        with Guest(terminal=True) as guest:
            before = guest.settings_before
            guest.boot()
            guest.signal(signal.SIGTERM)
            guest.wait(20)
            self.assertEqual(termios.tcgetattr(guest.slave), before)


class Life(unittest.TestCase):
    """How a machine ends, and how it starts again."""

    def test_power_off(self):
        with Guest() as guest:
            guest.boot()
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_orderly_power_off(self):
        with Guest() as guest:
            guest.boot()
            guest.type("busybox poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_reboot_boots_again(self):
        with Guest() as guest:
            guest.boot()
            guest.type("reboot\n")
            guest.boot()
            self.assertEqual(guest.run("echo second"), (0, "second"))
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_no_reboot_ends_at_reset(self):
        with Guest("--no-reboot") as guest:
            guest.boot()
            guest.type("reboot\n")
            self.assertEqual(guest.wait(), 0)

    def test_panic_ends_under_no_reboot(self):
        # Without an initial RAM disk the kernel finds no root file system.
        with Guest("--no-reboot", initrd="", cmdline="console=ttyS0 quiet panic=-1") as guest:
            guest.expect("Kernel panic", 120)
            self.assertEqual(guest.wait(), 0)

    def test_triple_fault_is_status_3(self):
        # The kernel resets by loading an empty IDT and taking an exception.
        with Guest("--no-reboot", cmdline="console=ttyS0 quiet reboot=triple") as guest:
            guest.boot()
            guest.type("reboot\n")
            self.assertEqual(guest.wait(), 3)

    def hears_power_button(self, guest):
        guest.boot()
        guest.run("until [ -s /run/acpid.pid ]; do sleep 0.1; done; sleep 0.5")

    def ignores_power_button(self, guest):
        self.hears_power_button(guest)
        guest.run("kill $(cat /run/acpid.pid); sleep 0.5")

    def test_sigterm_lets_the_guest_power_off(self):
        with Guest("--grace", "600") as guest:
            self.hears_power_button(guest)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(60), 0)
            self.assertIn("asking the guest to power off", guest.stderr())

    def test_sigterm_lets_a_micro_machine_power_off(self):
        with Guest("--grace", "600", "--machine", "micro") as guest:
            self.hears_power_button(guest)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(60), 0)

    def test_sigterm_ends_a_guest_that_ignores_it_after_the_grace(self):
        with Guest("--grace", "2") as guest:
            self.ignores_power_button(guest)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(10), 1)
            self.assertIn("did not power off within 2 s", guest.stderr())

    def test_second_sigterm_ends_at_once(self):
        with Guest("--grace", "3600") as guest:
            self.ignores_power_button(guest)
            guest.signal(signal.SIGTERM)
            time.sleep(2)
            self.assertIsNone(guest.process.poll())
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(10), 1)
            self.assertIn("ended by signal 15", guest.stderr())

    def test_sigterm_ends_a_paused_guest_at_once(self):
        with Guest("--paused", "--grace", "3600") as guest:
            time.sleep(0.5)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(10), 1)

    def test_sigterm_without_grace_ends_at_once(self):
        with Guest("--grace", "0") as guest:
            guest.boot()
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(10), 1)

    def test_sigint_ends_at_once(self):
        with Guest("--grace", "3600") as guest:
            guest.boot()
            guest.signal(signal.SIGINT)
            self.assertEqual(guest.wait(10), 1)

    def test_sigterm_ends_while_booting(self):
        with Guest() as guest:
            time.sleep(0.3)
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(10), 1)

    def test_escape_key_ends(self):
        with Guest() as guest:
            guest.boot()
            guest.type("\x01x")
            self.assertEqual(guest.wait(10), 0)

    def test_power_key(self):
        with Guest() as guest:
            self.hears_power_button(guest)
            guest.type("\x01p")
            self.assertEqual(guest.wait(60), 0)

    def test_end_of_input_is_not_the_end(self):
        with Guest() as guest:
            guest.boot()
            guest.type("sleep 2; poweroff\n")
            guest.process.stdin.close()
            self.assertEqual(guest.wait(), 0)

    def test_console_in_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            log = f"{folder}/console.log"
            with Guest("--no-reboot", "--serial", f"file:{log}", initrd="", cmdline="console=ttyS0 panic=-1") as guest:
                self.assertEqual(guest.wait(120), 0)
            with open(log, errors="replace") as f:
                self.assertIn("Kernel panic", f.read())


class Clock(unittest.TestCase):
    """The guest's monotonic clock against the host's."""

    SECONDS = 20
    ALLOWED = 0.001

    def sample(self, guest):
        """(host seconds, guest seconds, uncertainty): the best of a few questions, dated in the middle of each."""
        best = None
        for _ in range(5):
            asked = time.monotonic()
            _, output = guest.run("sed -n 's/^now at \\([0-9]*\\) nsecs/\\1/p;/^now/q' /proc/timer_list")
            # The kernel printed it before the answer was complete; half the round trip is what we cannot know.
            answered = time.monotonic()
            sample = ((asked + answered) / 2, int(output.split()[0]) / 1e9, (answered - asked) / 2)
            if best is None or sample[2] < best[2]:
                best = sample
        return best

    def test_against_the_host(self):
        with Guest() as guest:
            guest.boot()
            host1, guest1, unsure1 = self.sample(guest)
            time.sleep(self.SECONDS)
            host2, guest2, unsure2 = self.sample(guest)
            error = (guest2 - guest1) / (host2 - host1) - 1
            unsure = (unsure1 + unsure2) / (host2 - host1)
            print(f"guest clock {error:+.6f} (uncertainty {unsure:.6f})")
            self.assertLess(abs(error), self.ALLOWED + unsure)

    def test_wall_clock(self):
        with Guest() as guest:
            guest.boot()
            _, output = guest.run("date +%s")
            self.assertLess(abs(int(output) - time.time()), 3 * SCALE)

    def test_sleep_takes_its_time(self):
        with Guest() as guest:
            guest.boot()
            started = time.monotonic()
            guest.run("sleep 3")
            took = time.monotonic() - started
            self.assertGreater(took, 2.9)
            self.assertLess(took, 4 * SCALE)


class Refusals(unittest.TestCase):
    """What cannot work: the promised exit status, one clear message, and no guest."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, content=None):
        path = f"{self.folder.name}/{name}"
        if content is not None:
            with open(path, "wb") as f:
                f.write(content)
        return path

    def refused(self, status, *words, flags=(), **where):
        done = subprocess.run(veneer_command(*flags, **where), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=30 * SCALE)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        lines = [line for line in done.stderr.splitlines() if line.startswith("veneer: ")]
        lines = [line for line in lines if not line.startswith(("veneer: engine: ", SANITIZED_NOTE))]
        self.assertEqual(len(lines), 1, f"one message expected:\n{done.stderr}")
        for word in words:
            self.assertIn(word, lines[0])

    def kernel_start(self, size):
        with open(f"{GUEST_DIR}/vmlinuz", "rb") as f:
            return f.read(size)

    def test_missing_kernel(self):
        self.refused(1, "no-such-kernel", kernel=self.path("no-such-kernel"))

    def test_kernel_is_a_folder(self):
        self.refused(1, self.folder.name, kernel=self.folder.name)

    def test_empty_kernel(self):
        self.refused(1, "empty", kernel=self.path("empty", b""))

    def test_kernel_is_text(self):
        self.refused(1, "poem.txt", kernel=self.path("poem.txt", b"Roses are red\n" * 10000))

    def test_kernel_cut_in_its_setup(self):
        self.refused(1, "cut", kernel=self.path("cut", self.kernel_start(700)))

    def test_kernel_cut_in_the_middle(self):
        self.refused(1, "cut", kernel=self.path("cut", self.kernel_start(2_000_000)))

    def test_missing_initrd(self):
        self.refused(1, "no-such-initrd", initrd=self.path("no-such-initrd"))

    def test_initrd_larger_than_memory(self):
        path = self.path("big")
        with open(path, "wb") as f:
            f.truncate(200 << 20)  # sparse
        self.refused(1, "big", initrd=path, flags=["--memory", "128M"])

    def test_memory_too_small_for_the_kernel(self):
        self.refused(1, flags=["--memory", "4M"])

    def test_command_line_too_long(self):
        self.refused(1, cmdline="x" * 100_000)

    def test_no_memory(self):
        self.refused(2, "--memory", flags=["--memory", "0"])

    def test_absurd_memory(self):
        self.refused(2, "--memory", flags=["--memory", "99999999999T"])

    def test_memory_without_sense(self):
        self.refused(2, "--memory", flags=["--memory", "lots"])

    def test_no_processors(self):
        self.refused(2, "--cpus", flags=["--cpus", "0"])

    def test_more_processors_than_the_engine_runs(self):
        self.refused(1, "up to 64 virtual CPUs", flags=["--cpus", "65"])

    def test_too_many_processors(self):
        self.refused(2, "--cpus", flags=["--cpus", "100000"])

    def test_unknown_flag(self):
        self.refused(2, "--frobnicate", flags=["--frobnicate"])

    def test_unknown_engine(self):
        self.refused(2, "--engine", flags=["--engine", "steam"])

    def test_console_in_a_missing_folder(self):
        self.refused(1, flags=["--serial", f"file:{self.path('none')}/log"])


class Unprivileged(unittest.TestCase):
    """As a user who owns nothing and may not open /dev/kvm."""

    def test_boots_as_nobody(self):
        wrapper = []
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            for source in (VENEER, f"{GUEST_DIR}/vmlinuz", f"{GUEST_DIR}/initrd"):
                shutil.copy(source, folder)  # the checkout may be where nobody cannot read
            if os.getuid() == 0:
                wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]
            with Guest(wrapper=wrapper, veneer=f"{folder}/{os.path.basename(VENEER)}", kernel=f"{folder}/vmlinuz",
                       initrd=f"{folder}/initrd") as guest:
                guest.boot()
                self.assertEqual(guest.run("echo hello"), (0, "hello"))
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(), 0)


if __name__ == "__main__":
    unittest.main()
