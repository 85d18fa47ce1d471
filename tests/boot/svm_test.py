"""A guest that runs guests of its own: Debian's kvm_amd on SVM, with nested and with shadow paging.

By hand: guest/build_demo.sh and guest/build_kvm.sh build/guest, then as boot_test.py.
"""
import unittest

from guest import GUEST_DIR, Guest

with open("/proc/cpuinfo") as _cpuinfo:
    AMD = any(name in _cpuinfo.read() for name in ("AuthenticAMD", "HygonGenuine"))
# 1 + 2 + ... + 1,000,000 modulo 2^32.
ANSWERS = ["port e9: 20", "address 20034: 5a", "sum 1784293664"]


@unittest.skipUnless(AMD, "SVM is offered on hosts of AMD's only")
class Kvm(unittest.TestCase):
    def runs_a_guest(self, cpus, npt, paging):
        with Guest("--cpu", "host,+svm", "--cpus", cpus, initrd=f"{GUEST_DIR}/kvm.cpio") as guest:
            guest.boot()
            guest.run("cd /lib/kvm; insmod irqbypass.ko; insmod kvm.ko")
            self.assertEqual(guest.run(f"insmod kvm-amd.ko npt={npt}")[0], 0)
            self.assertEqual(guest.run("dmesg | grep -c 'Nested Paging " + paging + "'"), (0, "1"))
            status, output = guest.run("(kvm-guest & kvm-guest >/dev/null; wait)")
            self.assertEqual((status, output.splitlines()), (0, ANSWERS))
            _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|Call Trace|rcu.*stall'")
            self.assertEqual(output, "")

    def test_nested_paging(self):
        self.runs_a_guest("2", 1, "enabled")

    def test_shadow_paging(self):
        self.runs_a_guest("1", 0, "disabled")

    def test_off_unless_asked_for(self):
        with Guest(initrd=f"{GUEST_DIR}/kvm.cpio") as guest:
            guest.boot()
            self.assertEqual(guest.run("grep -c -w svm /proc/cpuinfo"), (1, "0"))


if __name__ == "__main__":
    unittest.main()
