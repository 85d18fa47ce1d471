"""Booting through OVMF, Debian's UEFI firmware: GRUB and Linux from disks and a CD-ROM, the EFI shell, kept settings.

By hand: guest/build_demo.sh and guest/build_uefi.sh build/guest, then as boot_test.py.
"""
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
import unittest

from guest import GUEST_DIR, SCALE, VENEER, Guest
from state_test import WithSaved

DISK = f"{GUEST_DIR}/uefi.img"
DISC = f"{GUEST_DIR}/uefi.iso"
GUID = "e6a1b1c2-0d5f-4b62-9b0f-6b1f4f9a1c55"


def machine(*flags, firmware="ovmf"):
    return Guest(command=[VENEER, "run", "--firmware", firmware, "--memory", "256M", *flags])


class Linux(unittest.TestCase):
    """OVMF finds the boot loader on the EFI system partition, GRUB its menu, Linux its shell."""

    def check(self, guest):
        guest.expect("Veneer demo guest", 120)
        guest.boot(180)
        self.assertEqual(guest.run("test -d /sys/firmware/efi")[0], 0)
        _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|general protection|Call Trace|ACPI.*rror'")
        self.assertEqual(output, "")
        self.assertEqual(guest.run("cat /sys/class/dmi/id/sys_vendor"), (0, "Veneer"))

    def power_off(self, guest):
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0)

    def test_disk_and_reboot(self):
        with machine(f"{DISK},snapshot") as guest:
            self.check(guest)
            guest.type("reboot\n")
            self.check(guest)
            self.power_off(guest)

    def test_nvme_disk(self):
        with machine("--disk", f"{DISK},if=nvme,snapshot") as guest:
            self.check(guest)
            self.power_off(guest)

    def test_ahci_disk(self):
        with machine("--disk", f"{DISK},if=ahci,snapshot") as guest:
            self.check(guest)
            self.power_off(guest)

    def test_cdrom(self):
        with machine("--cdrom", DISC) as guest:
            self.check(guest)
            self.power_off(guest)


class Shell(unittest.TestCase):
    """The EFI shell, which starts when nothing can be booted."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.store = f"{self.folder.name}/settings"

    def shell(self):
        guest = machine(firmware=f"ovmf,vars={self.store}")
        self.addCleanup(guest.__exit__)
        guest.expect("to skip", 120)
        guest.type("\x1b")
        guest.expect("Shell> ")
        return guest

    def leave(self, guest):
        guest.type("reset -s\r")
        self.assertEqual(guest.wait(), 0)

    def test_settings_are_kept(self):
        guest = self.shell()
        guest.type(f"setvar Kept -guid {GUID} -bs -rt -nv =0x12345678\r")
        guest.expect("Shell> ")
        self.leave(guest)
        guest = self.shell()
        guest.type(f"setvar Kept -guid {GUID}\r")
        guest.expect("78 56 34 12|12 34 56 78")
        self.leave(guest)

    def test_a_killed_machine_loses_no_settings(self):
        guest = self.shell()
        guest.type(f"setvar Kept -guid {GUID} -bs -rt -nv =0x12345678\r")
        guest.expect("Shell> ")
        guest.process.kill()
        guest.process.wait()
        guest = self.shell()
        guest.type(f"setvar Kept -guid {GUID}\r")
        guest.expect("78 56 34 12|12 34 56 78")
        self.leave(guest)


class Saved(WithSaved):
    """A machine that started in firmware goes on from a file, and can be reset there."""

    def goes_on(self, image, *flags):
        disk = f"{self.runtime.name}/disk.img"
        shutil.copy(image, disk)
        self.veneer("run", "--detach", "--name", "one", "--memory", "256M", f"--disk={disk}", *flags)
        with self.attach("one") as console:
            console.wait_for_prompt()
            self.assertEqual(console.run("echo kept > /tmp/kept")[0], 0)
            self.veneer("save", "--stop", "one", self.saved())
        self.restore("two")
        with self.attach("two") as console:
            console.type("\n")
            self.assertEqual(console.run("cat /tmp/kept")[1], "kept")
            console.type("reboot\n")
            console.wait_for_prompt()
            self.assertEqual(console.run("test -e /tmp/kept")[0], 1)

    def test_ovmf(self):
        self.goes_on(DISK, "--firmware", "ovmf")

    def test_seabios_with_a_cdrom(self):
        self.goes_on(DISC, "--cdrom", f"{GUEST_DIR}/boot.iso", "--boot", "cdrom")


class Refused(unittest.TestCase):
    def complaint(self, firmware):
        done = subprocess.run([VENEER, "run", "--firmware", firmware, "--memory", "64M"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        return done.stderr

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.store = f"{self.folder.name}/settings"

    def wait_for_lock(self):
        """Until the first machine has the file: its lock is on the descriptor, so ours is refused."""
        deadline = time.monotonic() + 30 * SCALE
        while time.monotonic() < deadline:
            if os.path.exists(self.store):
                with open(self.store, "r+b") as file:
                    try:
                        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 200, 0)
                        fcntl.lockf(file, fcntl.LOCK_UN, 200, 0)
                    except OSError:
                        return
            time.sleep(0.1)
        self.fail("the machine did not open its settings")

    def test_settings_that_were_cut(self):
        shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", self.store)
        os.truncate(self.store, 1000)
        self.assertIn("it was cut short", self.complaint(f"ovmf,vars={self.store}"))

    def test_settings_that_are_none(self):
        with open(self.store, "wb") as file:
            file.truncate(os.path.getsize("/usr/share/OVMF/OVMF_VARS_4M.fd"))
        self.assertIn("holds no UEFI variables", self.complaint(f"ovmf,vars={self.store}"))

    def test_settings_that_cannot_be_made(self):
        self.assertIn("cannot be made", self.complaint(f"ovmf,vars={self.folder.name}/none/settings"))

    def test_settings_in_use(self):
        with machine("--paused", firmware=f"ovmf,vars={self.store}") as guest:
            self.wait_for_lock()
            self.assertIn("is in use", self.complaint(f"ovmf,vars={self.store}"))

    def test_secure_boot_needs_smm(self):
        self.assertIn("System Management Mode", self.complaint("/usr/share/OVMF/OVMF_CODE_4M.ms.fd,vars=none"))

    def test_half_an_image(self):
        image = f"{self.folder.name}/half.bin"
        with open("/usr/share/OVMF/OVMF_CODE_4M.fd", "rb") as whole, open(image, "wb") as half:
            half.write(whole.read(1000000))
        self.assertIn("no firmware image", self.complaint(image))


if __name__ == "__main__":
    unittest.main()
