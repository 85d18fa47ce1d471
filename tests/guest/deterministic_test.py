"""Deterministic mode: the same seed gives the same run, and a race that a seed finds is there again."""
import json
import re
import tempfile
import unittest

import hostile_kernel
from guest import Guest


class Deterministic(unittest.TestCase):
    def run_of(self, seed, *flags, **where):
        """Console, counts and exit status of one run."""
        with tempfile.TemporaryDirectory() as folder:
            stats = f"{folder}/stats"
            with Guest("--debug", f"deterministic={seed}", "--stats", stats, "--no-reboot", *flags,
                       **where) as guest:
                status = guest.wait(120)
                console, story = guest.console, guest.story()
            self.assertIn(status, (0, 1), story)
            with open(stats) as file:
                counts = json.load(file)["deterministic"]
        return console, counts, status

    def race_of(self, seed):
        with tempfile.TemporaryDirectory() as folder:
            kernel = hostile_kernel.build(folder, 1, sources=("race.c",))
            return self.run_of(seed, "--memory", "64M", "--cpus", "3", "--debug-exit", kernel=kernel, initrd="",
                               cmdline="")

    def test_a_race_is_found_and_replayed(self):
        runs = {seed: self.race_of(seed) for seed in range(1, 6)}
        sums = {seed: int(run[0].split()[1]) for seed, run in runs.items()}
        lost = [seed for seed, value in sums.items() if value != 9000]
        self.assertTrue(lost, sums)                          # increments were lost
        self.assertGreater(len(set(sums.values())), 1, sums)  # not in the same way with each seed
        for seed in lost[:2]:
            self.assertEqual(self.race_of(seed), runs[seed])

    def test_a_boot_is_the_same_again(self):
        work = ("mount -t devtmpfs dev /dev; for c in 0 1 2; do "
                "(i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo done $c $i) & done; wait; poweroff -f")

        def boot(seed):
            return self.run_of(seed, "--cpus", "2", "--memory", "256M",
                               cmdline=f'console=ttyS0 panic=-1 rdinit=/bin/sh -- -c "{work}"')
        first, again, other = boot(7), boot(7), boot(8)
        self.assertRegex(first[0], r"Brought up 1 node, 2 CPUs")
        self.assertEqual(len(re.findall(r"done \d 300", first[0])), 3, first[0][-1000:])
        self.assertEqual(first[0], again[0])
        self.assertEqual(first[1], again[1])
        self.assertNotEqual(first[1]["instructions"], other[1]["instructions"])

    def test_refusals(self):
        for flags, message in ((("--debug", "deterministic=x"), "seed"),
                               (("--debug", "deterministic,shadow"), "do not go together")):
            with self.subTest(flags), Guest(*flags) as guest:
                self.assertEqual(guest.wait(20), 2)
                self.assertIn(message, guest.stderr())


if __name__ == "__main__":
    unittest.main()
