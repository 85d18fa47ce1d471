"""Memory that a guest gives back to its host: free pages that it reports, the balloon, what the monitor says of both."""
import hashlib
import os
import re
import time

from guest import veneer_command
from machines_test import WithMachines
from resources_test import resident_bytes

MIB = 1 << 20
FULL = ["--memory", "512M"]
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}


class WithMemory(WithMachines):
    def begin(self, *flags, name="one", cmdline="console=ttyS0 quiet"):
        self.veneer(*veneer_command("--detach", "--name", name, *flags, cmdline=cmdline)[1:])
        console = self.attach(name)
        console.wait_for_prompt()
        return console

    def ram(self):
        """What the host holds for the guest, in bytes."""
        return resident_bytes(self.list()[0]["pid"])[0]

    def balloon(self, size, name="one"):
        return self.veneer("monitor", name, "balloon", size)

    def info(self, name="one"):
        return self.veneer("monitor", name, "info", "balloon")

    def says(self, what, name="one"):
        """One of the guest's statistics."""
        text = self.info(name)
        self.assertIn("the guest says:", text)
        number, unit = re.search(rf"(?m)^  {what} +([\d.]+) ?(\w*)$", text).groups()
        return float(number) * UNITS.get(unit, 1)

    def meminfo(self, console, key):
        return int(re.search(rf"(?m)^{key}: +(\d+) kB", console.run("cat /proc/meminfo")[1])[1]) * 1024

    def use_and_free(self, console):
        """The guest writes 200 MiB and forgets them: what the host held meanwhile."""
        self.assertEqual(console.run("dd if=/dev/urandom of=/tmp/big bs=1M count=200 2>/dev/null")[0], 0)
        held = self.ram()
        console.run("rm /tmp/big")
        return held


class FreePages(WithMemory):
    def freed_memory_goes_back(self, kind):
        with self.begin(*FULL, "--machine", kind) as console:
            held = self.use_and_free(console)
            self.assertGreater(held, 200 * MIB)
            self.wait_until(lambda: self.ram() < held - 180 * MIB)
            reports = int(re.search(r"\((\d+) reports\)", self.info())[1])
            self.assertGreater(reports, 0)
            # The guest's own view is as if nothing had happened, and the memory is good.
            self.assertGreater(self.meminfo(console, "MemFree"), 380 * MIB)
            sums = console.run("dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null; md5sum /tmp/big")[1]
            self.assertIn("3566de3a97906edb98d004d6b947ae9b", sums)

    def test_freed_memory_goes_back_pc(self):
        self.freed_memory_goes_back("pc")

    def test_freed_memory_goes_back_micro(self):
        self.freed_memory_goes_back("micro")

    def test_memory_taken_in_advance_stays(self):
        with self.begin(*FULL, "--prealloc") as console:
            self.use_and_free(console)
            self.wait_until(lambda: "(0 reports)" not in self.info())
            self.assertGreater(self.ram(), 500 * MIB)


class Balloon(WithMemory):
    def test_the_guest_gives_up_what_it_is_asked_for(self):
        with self.begin(*FULL) as console:
            self.use_and_free(console)
            self.assertEqual(self.balloon("160M"), "")
            self.wait_until(lambda: "it uses at most 160 MiB" in self.info())
            self.assertLess(self.meminfo(console, "MemAvailable"), 120 * MIB)
            self.assertLess(self.ram(), 160 * MIB)
            self.assertLess(self.says("free"), 120 * MIB)

            self.balloon("512M")
            self.wait_until(lambda: "it uses at most 512 MiB" in self.info())
            self.assertGreater(self.meminfo(console, "MemAvailable"), 380 * MIB)
            sums = console.run("dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null; md5sum /tmp/big")[1]
            self.assertIn("3566de3a97906edb98d004d6b947ae9b", sums)

    def test_statistics_are_the_guests(self):
        with self.begin(*FULL) as console:
            self.assertAlmostEqual(self.says("total"), self.meminfo(console, "MemTotal"), delta=MIB)
            self.assertAlmostEqual(self.says("free"), self.meminfo(console, "MemFree"), delta=8 * MIB)
            self.veneer("monitor", "one", "pause")
            self.assertIn("the guest does not answer", self.info())
            self.veneer("monitor", "one", "resume")
            self.wait_until(lambda: "the guest says:" in self.info())

    def test_a_guest_that_needs_memory_takes_it_out(self):
        with self.begin(*FULL) as console:
            self.balloon("96M")
            self.wait_until(lambda: "it uses at most 96 MiB" in self.info())
            # A buffer of 150 MiB: DEFLATE_ON_OOM, before anybody is killed.
            status, output = console.run("dd if=/dev/zero of=/dev/null bs=150M count=2 2>&1; dmesg | grep -c Killed")
            self.assertIn("2+0 records out", output)
            self.assertEqual(output.split("\n")[-1], "0")

    def test_work_goes_on_while_pages_come_and_go(self):
        with self.begin(*FULL, "--cpus", "2") as console:
            console.type("for n in 1 2; do while :; do dd if=/dev/zero bs=1M count=20 2>/dev/null | md5sum; done "
                         ">/tmp/sums$n & done\n")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                for size in ("128M", "512M"):
                    self.balloon(size)
                    time.sleep(0.4)
            self.balloon("512M")
            output = console.run("kill %1 %2; cat /tmp/sums1 /tmp/sums2 | sort -u | grep . ; cat /tmp/sums? | wc -l", 120)[1]
            self.assertIn("8f4e33f3dc3e414ff94e5fb6905cba8c", output)
            self.assertEqual(len(re.findall(r"(?m)^[0-9a-f]{32}", output)), 1, output)
            self.assertGreater(int(re.search(r"(?m)^(\d+)$", output)[1]), 4)
            self.assertEqual(console.run("dmesg | grep -E 'BUG:|Oops|stall|lockup|Killed'")[1], "")

    def test_disks_read_right_while_pages_come_and_go(self):
        contents = os.urandom(64 * MIB)
        path = os.path.join(self.runtime.name, "disk")
        with open(path, "wb") as file:
            file.write(contents)
        with self.begin(*FULL, "--cpus", "2", "--disk", f"{path},format=raw,readonly") as console:
            # Through the page cache, whose pages the balloon takes and gives, and past it.
            console.type("while :; do echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/vda; "
                         "dd if=/dev/vda bs=4M iflag=direct 2>/dev/null | md5sum; done >/tmp/sums &\n")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                for size in ("160M", "512M"):
                    self.balloon(size)
                    time.sleep(0.3)
            self.balloon("512M")
            output = console.run("kill %1; sort -u /tmp/sums; wc -l </tmp/sums", 120)[1]
            self.assertEqual(set(re.findall(r"(?m)^[0-9a-f]{32}", output)), {hashlib.md5(contents).hexdigest()})
            self.assertGreater(int(re.search(r"(?m)^(\d+)$", output)[1]), 4)
            self.assertEqual(console.run("dmesg | grep -E 'BUG:|Oops|stall|lockup|Killed|I/O error'")[1], "")

    def test_a_saved_machine_has_it(self):
        saved = os.path.join(self.runtime.name, "saved")
        with self.begin(*FULL) as console:
            self.use_and_free(console)
            self.balloon("160M")
            self.wait_until(lambda: "it uses at most 160 MiB" in self.info())
            self.veneer("save", "--stop", "one", saved)
        self.wait_until(lambda: not self.list())
        self.assertLess(os.stat(saved).st_blocks * 512, 160 * MIB)
        self.veneer("run", "--detach", "--name", "two", "--restore", saved)
        self.assertIn("it uses at most 160 MiB", self.info("two"))
        self.assertGreater(self.says("total", "two"), 400 * MIB)
        self.balloon("512M", "two")
        self.wait_until(lambda: "it uses at most 512 MiB" in self.info("two"))

    def test_a_guest_that_starts_anew_is_asked_again(self):
        with self.begin(*FULL) as console:
            self.balloon("160M")
            self.wait_until(lambda: "it uses at most 160 MiB" in self.info())
            console.type("reboot -f\n")
            console.wait_for_prompt()
            self.wait_until(lambda: "it uses at most 160 MiB" in self.info())


class Refusals(WithMemory):
    def test_more_than_there_is(self):
        with self.begin(*FULL):
            self.assertEqual(self.balloon("513M"), "this guest can have 4 MiB to 512 MiB\n")
            self.assertEqual(self.balloon("1M"), "this guest can have 4 MiB to 512 MiB\n")

    def test_left_out(self):
        with self.begin(*FULL, "--balloon", "off") as console:
            self.assertEqual(console.run("cat /sys/bus/virtio/devices/*/device")[1], "0x0004")
            self.assertIn("this machine has no balloon", self.info())
            self.assertIn("this machine has no balloon", self.balloon("128M"))

    def test_before_the_guest_has_a_driver(self):
        self.veneer(*veneer_command("--detach", "--name", "one", "--paused", *FULL)[1:])
        self.assertIn("no driver for the balloon yet", self.balloon("160M"))
        self.veneer("monitor", "one", "resume")
        self.wait_until(lambda: "it uses at most 160 MiB" in self.info(), 60)
