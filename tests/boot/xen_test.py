"""Xen by multiboot: up to the question for a dom0, and with Debian's kernel as dom0 to a shell, paravirtualized and as PVH.

A PV dom0 runs in ring 3 under Xen in ring 0, both in 64-bit mode: system calls, faults and page tables go by way of Xen.
A PVH dom0 is a guest by SVM with nested paging; Xen wants an IOMMU for it, whose tables have what the dom0 may reach.
By hand: guest/build_demo.sh, guest/build_generic.sh and guest/build_xen.sh build/guest, then as boot_test.py.
"""
import tempfile
import unittest

from guest import GUEST_DIR, Guest

MIB = 1024 * 1024
XEN = "com1=115200,8n1 console=com1"
with open("/proc/cpuinfo") as _cpuinfo:
    AMD = any(name in _cpuinfo.read() for name in ("AuthenticAMD", "HygonGenuine"))


def boot_xen(*flags, cmdline=XEN):
    return Guest("--no-reboot", *flags, kernel=f"{GUEST_DIR}/xen", initrd="", cmdline=cmdline)


def dom0(initrd):
    return ["--module", f"{GUEST_DIR}/vmlinuz-generic console=hvc0 quiet panic=-1", "--module", f"{GUEST_DIR}/{initrd}"]


class Xen(unittest.TestCase):
    def test_asks_for_a_dom0(self):
        with boot_xen() as guest:
            guest.expect("Xen version 4\\.17")
            guest.expect(f"Command line: {XEN}")
            guest.expect("dom0 kernel not specified")
            self.assertEqual(guest.wait(), 0)  # it resets the machine five seconds later

    def works_as_dom0(self, cpus):
        with boot_xen(*dom0("initrd"), "--memory", "768M", "--cpus", cpus) as guest:
            guest.expect("Dom0 has maximum", 60)
            guest.boot()
            self.works(guest, cpus)
            self.assertIn("Entering ACPI S5 state", guest.console)  # it is Xen that powers off

    def works(self, guest, cpus):
        # Xen keeps 128 typed characters at most for a dom0 that is busy: lines are short.
        self.assertEqual(guest.run("cat /sys/hypervisor/type"), (0, "xen"))
        self.assertEqual(guest.run("grep -c ^processor /proc/cpuinfo"), (0, cpus))
        loop = "i=0; while [ $i -lt 50 ]; do v=$(echo x$i | sed s/x/y/); i=$((i + 1)); done; echo $v"
        self.assertEqual(guest.run(loop), (0, "y49"))
        # FIPS 180-4, the example of a million times "a".
        status, output = guest.run("head -c 1000000 /dev/zero | tr '\\0' a | sha256sum")
        self.assertEqual((status, output.split()[0]),
                         (0, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"))
        _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|segfault|Call Trace|rcu.*stall'")
        self.assertEqual(output, "")
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0)

    def test_dom0(self):
        self.works_as_dom0("1")

    def test_dom0_with_two_processors(self):
        self.works_as_dom0("2")

    def works_as_pvh_dom0(self, cpus):
        """With a disk that it reaches through the IOMMU."""
        with tempfile.NamedTemporaryFile() as disk:
            disk.truncate(16 * MIB)
            flags = ["--iommu", "amd", "--cpu", "host,+svm", "--cpus", cpus, "--memory", "1G",
                     "--disk", f"{disk.name},format=raw"]
            with boot_xen(*dom0("generic.initrd"), *flags, cmdline=f"{XEN} dom0=pvh dom0_mem=512M") as guest:
                guest.expect("Interrupt remapping enabled", 60)
                guest.boot(300)
                guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=4 2>/dev/null")
                _, wanted = guest.run("sha256sum </tmp/noise")
                self.assertEqual(guest.run("dd if=/tmp/noise of=/dev/vda bs=68k conv=fsync 2>/dev/null")[0], 0)
                guest.run("echo 3 >/proc/sys/vm/drop_caches")
                self.assertEqual(guest.run("head -c 4194304 /dev/vda | sha256sum"), (0, wanted))
                self.assertEqual(guest.run("dmesg | grep -c 'on Xen PVH'"), (0, "1"))
                self.works(guest, cpus)
                self.assertNotIn("AMD-Vi: IO_PAGE_FAULT", guest.console)

    @unittest.skipUnless(AMD, "SVM is offered on hosts of AMD's only")
    def test_pvh_dom0(self):
        self.works_as_pvh_dom0("1")

    @unittest.skipUnless(AMD, "SVM is offered on hosts of AMD's only")
    def test_pvh_dom0_with_two_processors(self):
        self.works_as_pvh_dom0("2")


if __name__ == "__main__":
    unittest.main()
