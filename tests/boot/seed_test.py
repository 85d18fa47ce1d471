"""Seeds for cloud-init: a small disk behind the others, read-only; a saved machine has it again.

As in boot_test.py.
"""
import os
import subprocess
import tempfile
import unittest

from guest import VENEER, Guest

LABEL = "dd if=/dev/vda bs=1 skip=43 count=6 2>/dev/null; echo"


class Seed(unittest.TestCase):
    def test_guest_finds_it(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("#cloud-config\nhostname: from-the-seed\n")
            file.flush()
            with Guest("--cloud-init", file.name) as guest:
                guest.boot()
                self.assertEqual(guest.run(LABEL), (0, "CIDATA"))
                self.assertEqual(guest.run("cat /sys/block/vda/ro"), (0, "1"))
                self.assertEqual(guest.run("grep -a -c 'hostname: from-the-seed' /dev/vda"), (0, "1"))
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(), 0)

    def test_saved_machine_has_it_again(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(os.environ, XDG_RUNTIME_DIR=folder)
            with Guest("--name", "seeded", "--cloud-init", "user=anna", environment=environment) as guest:
                guest.boot()
                done = subprocess.run([VENEER, "save", "--stop", "seeded", f"{folder}/state"], env=environment,
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
            with Guest(command=[VENEER, "run", "--restore", f"{folder}/state"], environment=environment) as guest:
                guest.type("\n")
                guest.expect("veneer:.*# ")
                self.assertEqual(guest.run(f"echo 3 >/proc/sys/vm/drop_caches; {LABEL}"), (0, "CIDATA"))

    def test_missing_file(self):
        with Guest("--cloud-init", "/nonexistent/user-data") as guest:
            self.assertEqual(guest.wait(), 1)
            self.assertIn("/nonexistent/user-data", guest.stderr())


if __name__ == "__main__":
    unittest.main()
