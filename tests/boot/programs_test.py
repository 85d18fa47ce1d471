"""Real programs in a guest: each test boots guest/build_programs.sh's image and lets it run one group of programs."""
import unittest

from guest import GUEST_DIR, Guest


class Programs(unittest.TestCase):
    def group(self, name, timeout, *flags, cmdline=""):
        cmdline = f"console=ttyS0 quiet panic=-1 programs={name} {cmdline}"
        with Guest("--memory", "1G", "--no-reboot", *flags, initrd=f"{GUEST_DIR}/programs.cpio", cmdline=cmdline) as guest:
            guest.expect(f"GROUP {name}", 120)
            result = guest.expect(r"^PROGRAMS: (\d+) passed, (\d+) failed", timeout)
            self.assertEqual(guest.wait(), 0)
            self.assertGreater(int(result[1]), 0)
            self.assertEqual(int(result[2]), 0, guest.console)

    def test_python(self):
        self.group("python", 300)

    def test_perl(self):
        self.group("perl", 300)

    def test_gcc(self):
        self.group("gcc", 600)

    def test_system(self):
        self.group("system", 600, cmdline="vsyscall=xonly")

    def test_system_on_micro(self):
        self.group("system", 600, "--machine", "micro")

    def test_openssl(self):
        self.group("openssl", 600)

    def test_parallel(self):
        self.group("parallel", 600, "--cpus", "4")

    def test_system_on_four_processors(self):
        self.group("system", 600, "--cpus", "4", cmdline="vsyscall=xonly")

    def test_luajit(self):
        self.group("luajit", 300)

    def test_python_suite(self):
        self.group("python-suite", 1500)


if __name__ == "__main__":
    unittest.main()
