"""The devices of a pc under firmware and Linux's drivers: the HPET, floppy drives."""
import hashlib
import random
import shutil
import tempfile
import unittest

from guest import GUEST_DIR, VENEER, Guest
from machines_test import WithMachines

KIB = 1024
RESCUE_FLOPPY = "/usr/lib/grub-rescue/grub-rescue-floppy.img"


class Hpet(unittest.TestCase):
    def test_linux_lists_it_and_keeps_time_by_it(self):
        """The clock source and, with the local APICs' timers off, the source of all interrupts of time, too."""
        with Guest(cmdline="console=ttyS0 quiet clocksource=hpet nolapic_timer no-kvmclock") as guest:
            guest.boot(200)
            clocks = "/sys/devices/system/clocksource/clocksource0"
            self.assertIn("hpet", guest.run(f"cat {clocks}/available_clocksource")[1])
            self.assertEqual(guest.run(f"cat {clocks}/current_clocksource")[1], "hpet")
            self.assertIn("hpet", guest.run("grep -w 'Clock Event Device:' /proc/timer_list")[1])
            ticks = "awk '$1 == \"0:\" {print $2}' /proc/interrupts"
            before = int(guest.run(ticks)[1])
            status, _ = guest.run("sleep 1")
            self.assertEqual(status, 0)
            self.assertGreater(int(guest.run(ticks)[1]), before)
            self.assertEqual(guest.run("dmesg | grep -iE 'hpet.*(fail|lost)|unstable|BUG:'")[1], "")

    def test_through_the_old_interrupt_controllers(self):
        """No APIC is used: the HPET has the PIT's input of the 8259A."""
        with Guest(cmdline="console=ttyS0 quiet nolapic") as guest:
            guest.boot(200)
            self.assertIn("hpet", guest.run("grep -w 'Clock Event Device:' /proc/timer_list")[1])
            self.assertIn("XT-PIC", guest.run("grep -w timer /proc/interrupts")[1])
            self.assertEqual(guest.run("sleep 1")[0], 0)


class Floppy(unittest.TestCase):
    """Debian's kernel for ordinary computers; its cloud kernel has no floppy driver."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def image(self, name, kib):
        path = f"{self.folder.name}/{name}"
        data = random.Random(name).randbytes(kib * KIB)
        with open(path, "wb") as file:
            file.write(data)
        return path, data

    def test_linux_reads_and_writes(self):
        first, data = self.image("a", 1440)
        second, other = self.image("b", 1440)
        guest = Guest("--floppy", first, "--floppy", second, kernel=f"{GUEST_DIR}/vmlinuz-generic",
                      initrd=f"{GUEST_DIR}/generic.initrd")
        with guest:
            guest.boot(200)
            guest.run("insmod /lib/modules/floppy.ko")
            self.assertIn("82077", guest.run("dmesg | grep -i 'FDC 0'")[1])
            _, output = guest.run("dd if=/dev/fd0 bs=18k 2>/dev/null | sha256sum", 200)
            self.assertEqual(output.split()[0], hashlib.sha256(data).hexdigest())
            _, output = guest.run("dd if=/dev/fd1 bs=18k count=4 2>/dev/null | sha256sum", 100)
            self.assertEqual(output.split()[0], hashlib.sha256(other[:72 * KIB]).hexdigest())
            self.assertEqual(guest.run("dd if=/dev/fd1 of=/dev/fd0 bs=18k count=10 conv=fsync 2>/dev/null", 200)[0], 0)
            self.assertEqual(guest.run("dmesg | grep -iE 'fd[01].*error|floppy.*(timeout|error)|BUG:'")[1], "")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        with open(first, "rb") as file:
            after = file.read()
        self.assertTrue(after == other[:180 * KIB] + data[180 * KIB:])

    def test_too_large(self):
        path, _ = self.image("large", 3000)
        with Guest(command=[VENEER, "run", "--floppy", path]) as guest:
            self.assertEqual(guest.wait(), 1)
            self.assertIn("more than any floppy disk", guest.stderr())


class FloppyBoot(WithMachines):
    def test_grubs_rescue_floppy(self):
        """SeaBIOS boots it, and GRUB reads its modules and its menu from it; the file is shorter than a disk."""
        image = shutil.copy(RESCUE_FLOPPY, self.runtime.name)
        self.veneer("run", "--detach", "--name", "one", "--memory", "64M", "--floppy", image)
        self.wait_until(lambda: "Memtest86+" in self.veneer("monitor", "one", "info", "screen"), 60)


if __name__ == "__main__":
    unittest.main()
