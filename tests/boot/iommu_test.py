"""Linux's driver for AMD's IOMMU (Debian's cloud kernel has none: this is the generic one): disks, network, interrupts.

By hand: guest/build_demo.sh, guest/build_generic.sh and guest/build_disks.sh build/guest, then as boot_test.py.
"""
import shutil
import tempfile
import unittest

from guest import GUEST_DIR, VENEER, Guest
from network_test import wait_for_address
from state_test import WithSaved

MIB = 1024 * 1024
AHCI = "scsi_common scsi_mod libata libahci ahci crc64 crc64-rocksoft crct10dif_common crc-t10dif t10-pi sd_mod"
NVME = "crc64 crc64-rocksoft crct10dif_common crc-t10dif t10-pi nvme-core nvme"


class Linux(unittest.TestCase):
    def boot(self, modules, *flags, disk=None, cmdline=""):
        if disk:
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            self.image = f"{folder.name}/disk"
            with open(self.image, "wb") as file:
                file.truncate(64 * MIB)
            flags = (*flags, "--disk", f"{self.image},format=raw,if={disk}")
        guest = Guest("--iommu", "amd", *flags, kernel=f"{GUEST_DIR}/vmlinuz-generic",
                      initrd=f"{GUEST_DIR}/generic.initrd", cmdline=f"console=ttyS0 quiet {cmdline}")
        self.addCleanup(guest.__exit__)
        guest.boot(200)
        if modules:
            guest.run(f"for m in {modules}; do insmod /lib/modules/$m.ko; done", 120)
        return guest

    def check(self, guest):
        """The driver is at work, and nothing was refused."""
        self.assertEqual(guest.run("dmesg | grep -c 'AMD-Vi: Interrupt remapping enabled'"), (0, "1"))
        self.assertEqual(guest.run("dmesg | grep -c 'Adding to iommu group'")[0], 0)
        _, output = guest.run("dmesg | grep -E 'IO_PAGE_FAULT|AMD-Vi: Event|BUG:|WARNING:|Call Trace|timeout'")
        self.assertEqual(output, "")

    def fill_and_compare(self, modules, kind, node, *flags, cmdline=""):
        guest = self.boot(modules, *flags, disk=kind, cmdline=cmdline)
        guest.run(f"for i in $(busybox seq 100); do [ -b {node} ] && break; sleep 0.1; done", 60)
        _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null; sha256sum </tmp/noise", 60)
        self.assertEqual(guest.run(f"dd if=/tmp/noise of={node} bs=68k conv=fsync 2>/dev/null", 60)[0], 0)
        guest.run("echo 3 >/proc/sys/vm/drop_caches")
        self.assertEqual(guest.run(f"head -c 8388608 {node} | sha256sum", 60), (0, wanted))
        self.check(guest)
        return guest

    def test_virtio(self):
        self.fill_and_compare("", "virtio", "/dev/vda")

    def test_ahci(self):
        self.fill_and_compare(AHCI, "ahci", "/dev/sda", "--cpus", "2")

    def test_nvme(self):
        self.fill_and_compare(NVME, "nvme", "/dev/nvme0n1", "--cpus", "2")

    def test_every_unmap_at_once(self):
        """Strict mode: a device that went on with an address that is no longer its own would be told of."""
        self.fill_and_compare("", "virtio", "/dev/vda", cmdline="iommu.strict=1")

    def test_passthrough(self):
        self.fill_and_compare("", "virtio", "/dev/vda", cmdline="iommu=pt")

    def test_e1000(self):
        guest = self.boot("", "--net", "user,model=e1000")
        self.pings(guest)

    def test_virtio_net(self):
        self.pings(self.boot("", "--net", "user", "--cpus", "2"))

    def pings(self, guest):
        self.assertIn("inet 10.0.2.15/24", wait_for_address(guest))
        self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 -s 4000 10.0.2.2")[1])
        self.check(guest)


class Firmware(unittest.TestCase):
    """While the IOMMU is off it lets everybody pass: SeaBIOS' virtio driver, and a kernel without a driver for it."""

    def test_seabios(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(f"{GUEST_DIR}/boot.img", f"{folder}/disk")
            flags = ["--iommu", "amd", "--disk", f"{folder}/disk,format=raw", "--no-reboot"]
            with Guest(command=[VENEER, "run", *flags]) as guest:
                guest.boot(200)
                self.assertEqual(guest.run("[ -b /dev/vda ] && dmesg | grep -c AMD-Vi"), (1, "0"))
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(), 0)


class Saved(WithSaved):
    def test_translations_and_interrupts_go_on(self):
        image = f"{self.runtime.name}/disk"
        with open(image, "wb") as file:
            file.truncate(64 * MIB)
        where = {"kernel": f"{GUEST_DIR}/vmlinuz-generic", "initrd": f"{GUEST_DIR}/generic.initrd"}
        self.veneer(*self.command("one", "--iommu", "amd", "--disk", f"{image},format=raw", **where))
        with self.attach("one") as console:
            console.wait_for_prompt()
            wanted = console.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null; "
                                 "sha256sum </dev/vda")[1]
            self.veneer("save", "one", "--stop", self.saved())
        self.restore("two")
        with self.attach("two") as console:
            console.run("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(console.run("sha256sum </dev/vda")[1].split("\n")[-1], wanted)
            self.assertEqual(console.run("dmesg | grep -c 'Interrupt remapping enabled'")[1].split("\n")[-1], "1")
            self.assertEqual(console.run("dmesg | grep -E 'IO_PAGE_FAULT|AMD-Vi: Event|BUG:'")[1], "")
        self.veneer("kill", "two")


if __name__ == "__main__":
    unittest.main()
