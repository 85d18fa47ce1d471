"""32-bit guests: Debian's i386 kernels, with two-level and with PAE paging, to a shell; memtest86+ of both widths.

By hand: guest/build_i386.sh build/guest, then as boot_test.py.
"""
import unittest

from guest import GUEST_DIR, Guest


class Kernels(unittest.TestCase):
    """The same for each kernel: a shell, processes, a digest, no complaints, power off."""

    def boot(self, flavour):
        return Guest("--memory", "256M", kernel=f"{GUEST_DIR}/vmlinuz-{flavour}", initrd=f"{GUEST_DIR}/initrd-i386")

    def works(self, flavour):
        with self.boot(flavour) as guest:
            guest.boot()
            self.assertEqual(guest.run("uname -m"), (0, "i686"))
            loop = "i=0; while [ $i -lt 50 ]; do v=$(echo x$i | sed s/x/y/); i=$((i + 1)); done; echo $v"
            self.assertEqual(guest.run(loop), (0, "y49"))
            # FIPS 180-4, the example of a million times "a".
            status, output = guest.run("head -c 1000000 /dev/zero | tr '\\0' a | sha256sum")
            self.assertEqual((status, output.split()[0]),
                             (0, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"))
            _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|segfault|general protection|Call Trace|stall'")
            self.assertEqual(output, "")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_two_level_paging(self):
        self.works("686")

    def test_pae_paging(self):
        self.works("686-pae")


class Memtest(unittest.TestCase):
    """memtest86+ gets through its first tests without an error; a whole pass takes minutes."""

    def first_tests_pass(self, width):
        with Guest("--memory", "16M", cmdline="console=ttyS0,115200", kernel=f"{GUEST_DIR}/memtest86+{width}.bin",
                   initrd="") as guest:
            guest.expect("Memtest86\\+", 60)
            guest.expect("#(?:[4-9]|10) +\\[", 120)  # the screen shows every other second which one runs
            errors = guest.expect("Errors: (\\d+)", 60)
            self.assertEqual(errors[1], "0")

    def test_32_bit(self):
        self.first_tests_pass("ia32")

    def test_64_bit(self):
        self.first_tests_pass("x64")


if __name__ == "__main__":
    unittest.main()
