"""compat32 (32-bit user code under a 64-bit kernel) in the demo guest. usage: PROGRAM as COMPAT32 in the environment."""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "boot"))
from guest import GUEST_DIR, Guest  # noqa: E402


def with_program(work, program):
    """The demo guest's initrd with the program as /bin/compat32: the kernel unpacks archives one after the other."""
    root = os.path.join(work, "root")
    os.makedirs(os.path.join(root, "bin"))
    target = os.path.join(root, "bin", "compat32")
    with open(program, "rb") as source, open(target, "wb") as copy:
        copy.write(source.read())
    os.chmod(target, 0o755)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b"bin/compat32\n",
                             stdout=subprocess.PIPE, check=True).stdout
    initrd = os.path.join(work, "initrd")
    with open(initrd, "wb") as out, open(f"{GUEST_DIR}/initrd", "rb") as base:
        out.write(base.read())
        out.write(archive)
    return initrd


class Compat32(unittest.TestCase):
    def test_all_checks(self):
        with tempfile.TemporaryDirectory() as work:
            initrd = with_program(work, os.environ["COMPAT32"])
            with Guest("--memory", "256M", "--no-reboot", initrd=initrd, cmdline="console=ttyS0 quiet panic=-1") as guest:
                guest.boot()
                status, answer = guest.run("compat32")
                self.assertIn("compat32: all passed", answer)
                self.assertEqual(status, 0)


if __name__ == "__main__":
    unittest.main()
