"""Xen by multiboot: up to the question for a dom0, and with Debian's kernel as paravirtualized dom0 to a shell.

A PV dom0 runs in ring 3 under Xen in ring 0, both in 64-bit mode: system calls, faults and page tables go by way of Xen.
By hand: guest/build_demo.sh, guest/build_generic.sh and guest/build_xen.sh build/guest, then as boot_test.py.
"""
import unittest

from guest import GUEST_DIR, Guest

XEN = "com1=115200,8n1 console=com1"


def boot_xen(*flags):
    return Guest("--no-reboot", *flags, kernel=f"{GUEST_DIR}/xen", initrd="", cmdline=XEN)


class Xen(unittest.TestCase):
    def test_asks_for_a_dom0(self):
        with boot_xen() as guest:
            guest.expect("Xen version 4\\.17")
            guest.expect(f"Command line: {XEN}")
            guest.expect("dom0 kernel not specified")
            self.assertEqual(guest.wait(), 0)  # it resets the machine five seconds later

    def works_as_dom0(self, cpus):
        dom0 = ["--module", f"{GUEST_DIR}/vmlinuz-generic console=hvc0 quiet panic=-1", "--module", f"{GUEST_DIR}/initrd"]
        with boot_xen(*dom0, "--memory", "768M", "--cpus", cpus) as guest:
            guest.expect("Dom0 has maximum", 60)
            guest.boot()
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
            guest.expect("Entering ACPI S5 state")
            self.assertEqual(guest.wait(), 0)

    def test_dom0(self):
        self.works_as_dom0("1")

    def test_dom0_with_two_processors(self):
        self.works_as_dom0("2")


if __name__ == "__main__":
    unittest.main()
