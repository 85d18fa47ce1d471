"""AHCI disks and CD-ROMs under Linux's driver (Debian's cloud kernel has none: this is the generic one)."""
import hashlib
import os
import subprocess
import tempfile
import unittest

from guest import GUEST_DIR, VENEER, Guest

MIB = 1024 * 1024
MODULES = ("scsi_common scsi_mod libata libahci ahci crc64 crc64-rocksoft crct10dif_common crc-t10dif t10-pi sd_mod "
           "cdrom sr_mod")


class Linux(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, size=0):
        path = f"{self.folder.name}/{name}"
        with open(path, "ab") as file:
            file.truncate(size)
        return path

    def boot(self, *flags, cmdline=""):
        guest = Guest(*flags, kernel=f"{GUEST_DIR}/vmlinuz-generic", initrd=f"{GUEST_DIR}/generic.initrd",
                      cmdline=f"console=ttyS0 quiet {cmdline}")
        self.addCleanup(guest.__exit__)
        guest.boot(200)
        guest.run(f"for m in {MODULES}; do insmod /lib/modules/$m.ko; done; "
                  "for i in $(seq 100); do [ -b /dev/sda ] && break; sleep 0.1; done", 120)
        self.assertEqual(guest.run("test -b /dev/sda")[0], 0, guest.story())
        return guest

    def complaints(self, guest):
        return guest.run("dmesg | grep -E 'ata.*(error|failed|exception|timeout|limiting)|BUG:|Call Trace'")[1]

    def fill_and_compare(self, options="", cmdline=""):
        image = self.path("disk", 64 * MIB)
        guest = self.boot("--disk", f"{image},format=raw,if=ahci,serial=S-42{options}", cmdline=cmdline)
        _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=16 2>/dev/null; sha256sum </tmp/noise")
        self.assertEqual(guest.run("dd if=/tmp/noise of=/dev/sda bs=68k conv=fsync 2>/dev/null")[0], 0)
        guest.run("echo 3 >/proc/sys/vm/drop_caches")
        self.assertEqual(guest.run("head -c 16777216 /dev/sda | sha256sum"), (0, wanted))
        self.assertEqual(self.complaints(guest), "")
        return guest, image, wanted

    def test_disk(self):
        """With queued commands and MSI; what TRIM covers goes back to the host."""
        guest, image, wanted = self.fill_and_compare()
        self.assertEqual(guest.run("cat /sys/block/sda/device/queue_depth")[1], "32")
        self.assertIn("MSI", guest.run("grep ahci /proc/interrupts")[1])
        with open(image, "rb") as file:
            self.assertEqual(hashlib.sha256(file.read(16 * MIB)).hexdigest(), wanted.split()[0])
        self.assertEqual(guest.run("blkdiscard /dev/sda; sync")[0], 0)
        self.assertLess(os.stat(image).st_blocks, MIB // 512)
        self.assertEqual(self.complaints(guest), "")
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0)

    def test_without_queued_commands_and_msi(self):
        guest, _, _ = self.fill_and_compare(",cache=none", "libata.force=noncq pci=nomsi")
        self.assertIn("IO-APIC", guest.run("grep ahci /proc/interrupts")[1])

    def test_errors_reach_the_guest(self):
        """The host cannot write: the guest's driver resets the queue and tells its programs."""
        image = self.path("disk", 64 * MIB)
        guest = self.boot("--disk", f"{image},format=raw,if=ahci,readonly")
        self.assertNotEqual(guest.run("dd if=/dev/zero of=/dev/sda bs=4k count=1 oflag=direct", 120)[0], 0)
        self.assertEqual(guest.run("dd if=/dev/sda bs=1M count=8 2>/dev/null | tr -d '\\0' | wc -c"), (0, "0"))

    def test_disc(self):
        image = self.path("disc")
        with open(image, "wb") as file:
            file.write(os.urandom(4 * MIB))
        guest = self.boot("--disk", f"{self.path('disk', MIB)},format=raw,if=ahci", "--cdrom", f"{image},if=ahci")
        guest.run("for i in $(seq 100); do [ -b /dev/sr0 ] && break; sleep 0.1; done")
        _, got = guest.run("head -c 4194304 /dev/sr0 | sha256sum")
        with open(image, "rb") as file:
            self.assertEqual(got.split()[0], hashlib.sha256(file.read()).hexdigest())
        self.assertEqual(self.complaints(guest), "")

    def test_at_most_six(self):
        flags = [flag for i in range(7) for flag in ("--disk", f"{self.path(f'd{i}', MIB)},format=raw,if=ahci")]
        run = subprocess.run([VENEER, "run", *flags], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("at most 6 AHCI drives", run.stderr)


if __name__ == "__main__":
    unittest.main()
