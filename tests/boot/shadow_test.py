"""A boot in which every block is run twice, as a block and as single instructions (docs/shadow.md).

tests/boot/CMakeLists.txt runs each method as one ctest. By hand, as in boot_test.py; `--debug shadow` checks each block every
time it runs, which takes a long time.
"""
import json
import os
import tempfile
import unittest

from guest import Guest


class Shadow(unittest.TestCase):
    def test_a_boot_without_a_difference(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "stats.json")
            with Guest("--machine", "micro", "--debug", "shadow=2", "--stats", path) as guest:
                guest.boot(240)
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(120), 0)
                complaints = guest.stderr()
            with open(path, encoding="utf-8") as f:
                counted = json.load(f)["vcpus"][0]["shadow"]
        self.assertEqual(counted["differences"], 0, complaints)
        # Every block that was translated was checked, or ran out into a device again and again.
        self.assertGreater(counted["checked_blocks"], 50_000)
        self.assertGreater(counted["checked_instructions"], 300_000)
        self.assertLess(counted["blocks_given_up"], 200)
