"""Whole machines saved to a file and restored into a new process."""
import os
import re
import time
import unittest

from guest import SCALE
from machines_test import SMALL, WithMachines

# Counts, and checks at every step that what it has in memory is what it should be.
COUNTER = r"""sum=0; i=0; while :; do i=$((i + 1)); sum=$((sum + i)); [ $((i * (i + 1) / 2)) = $sum ] || { echo WRONG; break; }
[ $((i % 1000)) = 0 ] && echo count $i; done &"""


class Restored(WithMachines):
    def saved(self, *flags):
        return os.path.join(self.runtime.name, "saved")

    def begin(self, kind):
        flags = ["--machine", kind, "--memory", "96M"]
        self.veneer(*self.command("one", *flags))
        console = self.attach("one")
        console.wait_for_prompt()
        return console

    def command(self, name, *flags):
        from guest import veneer_command
        return veneer_command("--detach", "--name", name, *flags)[1:]

    def restore(self, name, *flags):
        self.veneer("run", "--detach", "--name", name, "--restore", self.saved(), *flags)

    def counting_goes_on(self, kind):
        with self.begin(kind) as console:
            console.type(COUNTER.replace("\n", "; ") + "\n")
            console.expect(r"^count \d+000\r", 60)
            before = int(re.findall(r"^count (\d+)\r", console.console, re.MULTILINE)[-1])
            self.veneer("save", "one", self.saved())
        self.veneer("kill", "one")
        self.restore("two")
        with self.attach("two") as console:
            first = int(console.expect(r"^count (\d+)\r", 60)[1])
            self.assertGreater(first, before)
            self.assertLess(first, before + 200000)
            for step in range(1, 6):
                self.assertEqual(int(console.expect(r"^count (\d+)\r", 60)[1]), first + 1000 * step)
            console.type("kill %1\n")
            time.sleep(1)
            console.type("\n")
            self.assertEqual(console.run("echo $((6 * 7))")[1].split("\n")[-1], "42")
            self.assertNotRegex(console.console, r"(?m)^WRONG")
            # Timers run, and no processor was found stuck.
            self.assertEqual(console.run("sleep 1 && echo slept")[1], "slept")
            self.assertEqual(console.run("dmesg | grep -E 'BUG:|Oops|stall|soft lockup|unstable'")[1], "")
            self.assertEqual(console.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c")[1], "64")
        self.veneer("stop", "two")

    def test_counting_goes_on_pc(self):
        self.counting_goes_on("pc")

    def test_counting_goes_on_micro(self):
        self.counting_goes_on("micro")

    def test_the_saved_machine_goes_on_too(self):
        with self.begin("micro") as console:
            self.veneer("save", "one", self.saved())
            self.assertEqual(console.run("echo still here")[1], "still here")

    def test_clock_is_continuous(self):
        with self.begin("pc") as console:
            uptime = float(console.run("cut -d' ' -f1 /proc/uptime")[1])
            self.veneer("save", "one", self.saved())
        self.veneer("kill", "one")
        time.sleep(3)
        self.restore("two")
        with self.attach("two") as console:
            console.type("\n")
            begun = time.monotonic()
            after = float(console.run("cut -d' ' -f1 /proc/uptime")[1])
            self.assertGreaterEqual(after, uptime)
            self.assertLess(after - uptime, 2.5 + 20 * (SCALE - 1) + time.monotonic() - begun)

    def test_saved_again_it_is_the_same(self):
        """Restored and not run, a machine saves the state that it came from."""
        with self.begin("pc"):
            self.veneer("monitor", "one", "pause")
            self.veneer("save", "one", self.saved())
        self.restore("two", "--paused")
        self.wait_until(lambda: [m["state"] for m in self.list() if m["name"] == "two"] == ["paused"])
        again = self.saved() + "-again"
        self.veneer("save", "two", again)
        with open(self.saved(), "rb") as one, open(again, "rb") as two:
            one_header, two_header = one.read(72), two.read(72)
            one.seek(4096)
            two.seek(4096)
            differing = sum(a != b for a, b in zip(one.read(65536), two.read(65536)))
        self.assertEqual(one_header[48:64], two_header[48:64])  # size and checksum of RAM
        self.assertEqual(one_header[24:32], two_header[24:32])  # size of the state
        # Between restoring and pausing the clocks ran for some milliseconds: what is left of timers differs.
        self.assertLess(differing, 200)


class Refused(WithMachines):
    """Files that are no saved machine."""

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.runtime.name, "saved")

    def refused(self, content, message):
        if content is not None:
            with open(self.path, "wb") as file:
                file.write(content)
        self.veneer("run", "--restore", self.path, status=1)
        self.assertIn(message, self.stderr)

    def test_foreign_files(self):
        self.refused(None, "cannot open it")
        self.refused(b"", "too short")
        self.refused(b"hello" * 1000, "not a machine that veneer save has written")

    def test_damaged_files(self):
        self.start("one")
        self.wait_until(lambda: self.list()[0]["cpu_seconds"] > 0.3)
        self.veneer("save", "one", self.path)
        with open(self.path, "rb") as file:
            good = file.read()
        self.refused(good[:-4096], "cut short")
        self.refused(good[:4096], "cut short")
        self.refused(good[:8] + b"\x09" + good[9:], "version 9 of the format")
        self.refused(good[:40] + b"\xff" + good[41:], "header is damaged")
        self.refused(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:], "state is damaged")
        middle = len(good) // 2
        at = next(i for i in range(middle, len(good)) if good[i])
        self.refused(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:], "memory is damaged")
        self.assertLess(os.stat(self.path).st_size, 120 << 20)

    def test_a_file_is_whole_or_not_there(self):
        self.start("one")
        self.veneer("save", "one", "/proc/saved", status=1)
        self.assertIn("making a file beside /proc/saved", self.stderr)
        self.veneer("save", "one", self.path)
        self.assertEqual([name for name in os.listdir(self.runtime.name) if name.startswith("saved")], ["saved"])


if __name__ == "__main__":
    assert SMALL
    unittest.main()
