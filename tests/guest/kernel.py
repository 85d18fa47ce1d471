"""A machine with a small kernel, and the two ways in which a test of one comes out."""
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
        """The kernel runs until SIGTERM, which it does not delay: it has not asked for the power button."""
        with Kernel(source, "--no-reboot", "--debug-exit", *flags, **where) as guest:
            guest.expect("^ready", 20)
            time.sleep(seconds * SCALE)
            self.assertIsNone(guest.process.poll(), guest.story())
            guest.signal(signal.SIGTERM)
            self.assertEqual(guest.wait(3), 1, guest.story())
            self.assertIn("ended by signal 15", guest.stderr())
