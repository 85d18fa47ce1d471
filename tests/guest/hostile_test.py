"""The hostile kernel for a minute: whatever its processors do to each other and to themselves, veneer stays well."""
import os
import unittest

import hostile_kernel

ROOM = 1500 if os.environ.get("VENEER_SANITIZED") else 0  # shadow memory and what has been freed, MiB


class Hostile(unittest.TestCase):
    def survives(self, cpus, seconds, seed, flags=(), storms=hostile_kernel.STORMS):
        report = hostile_kernel.run(cpus, seconds, seed, storms, flags, allow_mib=ROOM)
        self.assertFalse(report.failures, f"{report.line()}\n{report.console[-500:]}\n{report.messages[-6000:]}")
        self.assertGreater(report.steps, 0, report.line())

    def test_two_processors(self):
        self.survives(2, 14, 1)

    def test_four_processors(self):
        self.survives(4, 14, 2)

    def test_eight_processors(self):
        self.survives(8, 14, 3)

    def test_code_that_changes(self):
        self.survives(3, 9, 4, storms=["self_modifying", "aliases", "random_user_code", "locked"])

    def test_tables_that_change(self):
        self.survives(3, 9, 5, storms=["page_tables", "aliases", "stacks", "descriptors", "control_registers"])


if __name__ == "__main__":
    unittest.main()
