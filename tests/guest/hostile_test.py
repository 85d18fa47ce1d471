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


class Growth(unittest.TestCase):
    """What `make hostile` takes for a leak: a series of MiB, one a second."""

    def test_filling_up_is_none(self):
        self.assertFalse(hostile_kernel.grows([min(180, 100 + 6 * second) for second in range(400)]))

    def test_a_leak_is_seen_in_an_hour_under_sanitizers(self):
        self.assertTrue(hostile_kernel.grows([min(180, 100 + 6 * second) + 0.25 * second for second in range(400)]))

    def test_a_fast_leak_is_seen_in_five_minutes(self):
        self.assertTrue(hostile_kernel.grows([150 + second for second in range(300)]))

    def test_a_minute_is_too_short_to_tell(self):
        self.assertFalse(hostile_kernel.can_tell_growth([150 + second for second in range(60)]))


if __name__ == "__main__":
    unittest.main()
