"""The virtio console: a shell on hvc0, its terminal's size, input and output in bulk, resets, attaching, saving."""
import fcntl
import hashlib
import os
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from guest import SCALE, Guest, veneer_command
from machines_test import SMALL, WithMachines

BOTH = "console=ttyS0 console=hvc0 quiet"
ON_TERMINAL = ["--console", "stdio", "--memory", "256M"]


def set_size(guest, columns, rows):
    fcntl.ioctl(guest.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    guest.process.send_signal(signal.SIGWINCH)  # who has no job control in this terminal is not told


class OnTheTerminal(unittest.TestCase):
    def size_becomes(self, guest, wanted):
        deadline = time.monotonic() + 20 * SCALE
        while guest.run("stty size")[1] != wanted:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)

    def test_a_shell_with_the_terminals_size(self):
        with Guest(*ON_TERMINAL, terminal=True, cmdline=BOTH) as guest:
            set_size(guest, 132, 43)
            guest.boot()
            self.assertEqual(guest.run("tty")[1], "/dev/hvc0")
            self.size_becomes(guest, "43 132")
            set_size(guest, 100, 50)
            self.size_becomes(guest, "50 100")
            guest.type("sleep 1000\n")
            time.sleep(1)
            guest.type("\x03")
            self.assertEqual(guest.run("echo $((6 * 7))")[1], "42")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0, guest.story())

    def test_micro_and_without_a_terminal(self):
        with Guest(*ON_TERMINAL, "--machine", "micro", cmdline="console=hvc0 quiet") as guest:
            guest.boot()
            self.assertEqual(guest.run("tty")[1], "/dev/hvc0")
            self.assertEqual(guest.run("cat /sys/class/tty/console/active")[1], "hvc0")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0, guest.story())

    def test_the_serial_port_goes_elsewhere(self):
        with tempfile.NamedTemporaryFile() as file:
            with Guest(*ON_TERMINAL, "--serial", f"file:{file.name}", cmdline=BOTH) as guest:
                guest.boot()
                guest.run("echo to the serial port >/dev/ttyS0; sleep 1")
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(), 0, guest.story())
                self.assertNotIn("to the serial port\r", guest.console.replace("port >", ""))
            self.assertIn(b"to the serial port\r\n", file.read())

    def test_much_output_arrives_whole(self):
        with Guest(*ON_TERMINAL, cmdline=BOTH) as guest:
            guest.boot()
            self.assertEqual(guest.run("busybox seq 40000")[1].split(), [str(i) for i in range(1, 40001)])

    def test_much_input_arrives_whole(self):
        text = "".join(f"{i:060d}\n" for i in range(2000))
        with Guest(*ON_TERMINAL, cmdline=BOTH) as guest:
            guest.boot()
            guest.type("stty -echo; echo RE''ADY; cat >/tmp/typed; stty echo; echo DO''NE\n")
            guest.expect("^READY")
            guest.type(text)
            guest.type("\x04")
            guest.expect("^DONE")
            self.assertIn(hashlib.md5(text.encode()).hexdigest(), guest.run("md5sum </tmp/typed")[1])

    def test_after_a_reset_it_listens_again(self):
        with Guest(*ON_TERMINAL, cmdline=BOTH) as guest:
            guest.boot()
            # Nobody reads: what is typed fills the line discipline, the device and the queue before it.
            guest.type("stty raw -echo; echo RE''ADY; sleep 2; reboot -f\n")
            guest.expect("^READY")
            guest.type("x" * 100_000)
            guest.boot()
            deadline = time.monotonic() + 60 * SCALE
            while True:  # what was typed before comes first
                guest.type("\x15")
                guest.type("echo $((6 * 7))\n")
                time.sleep(1)
                if "\n42\r" in guest.console[-200:]:
                    break
                self.assertLess(time.monotonic(), deadline, guest.story())


class InTheBackground(WithMachines):
    def test_attach_shows_it(self):
        self.start("one", "--console", "null", cmdline=BOTH)
        with self.attach("one") as console:
            console.wait_for_prompt()
            self.assertEqual(console.run("tty")[1], "/dev/hvc0")

    def test_a_saved_machine_has_it(self):
        saved = os.path.join(self.runtime.name, "saved")
        self.start("one", "--console", "null", cmdline=BOTH)
        with self.attach("one") as console:
            console.wait_for_prompt()
            console.run("kept=here")
        self.veneer("save", "--stop", "one", saved)
        self.wait_until(lambda: not self.list())
        self.veneer("run", "--detach", "--name", "two", "--restore", saved)
        with self.attach("two") as console:
            console.type("\n")
            self.assertEqual(console.run("echo $kept $(tty)")[1].split("\n")[-1], "here /dev/hvc0")

    def test_a_saved_machine_without_it_gets_none(self):
        saved = os.path.join(self.runtime.name, "saved")
        self.start("one")
        self.veneer("save", "--stop", "one", saved)
        self.wait_until(lambda: not self.list())
        self.veneer("run", "--restore", saved, "--console", "null", status=1)
        self.assertIn("no virtio console", self.stderr)


class Refusals(unittest.TestCase):
    def test_one_terminal_for_two(self):
        run = subprocess.run(veneer_command("--console", "stdio", "--serial", "stdio", *SMALL), capture_output=True,
                             text=True, stdin=subprocess.DEVNULL, timeout=60 * SCALE)
        self.assertEqual(run.returncode, 2)
        self.assertIn("both want the terminal", run.stderr)

    def test_left_out_unless_asked_for(self):
        with Guest(*SMALL) as guest:
            guest.boot()
            self.assertNotIn("0x0003", guest.run("cat /sys/bus/virtio/devices/*/device")[1])
