"""What a run leaves behind for those who look into it: --stats FILE, perf's map of translated code.

tests/boot/CMakeLists.txt runs each method as one ctest. By hand, as in boot_test.py.
"""
import json
import os
import re
import tempfile
import unittest

from guest import Guest


def run_with_stats(*flags, commands=()):
    """Boots, runs commands, powers off: the statistics."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stats.json")
        with Guest("--stats", path, *flags) as guest:
            guest.boot()
            for command in commands:
                guest.run(command)
            guest.type("poweroff\n")
            assert guest.wait() == 0, guest.story()
        with open(path, encoding="utf-8") as f:
            return json.load(f)


class Stats(unittest.TestCase):
    def test_time_adds_up(self):
        stats = run_with_stats(commands=["head -c 100000 /dev/zero | md5sum"])
        time = stats["vcpus"][0]["time_ns"]
        parts = sum(value for name, value in time.items() if name != "running")
        self.assertAlmostEqual(parts / time["running"], 1, delta=0.001)
        self.assertTrue(all(value > 0 for value in time.values()), time)
        # The guest idles between its boot and the commands: running cannot be more than the whole.
        self.assertLessEqual(time["running"] * 1e-9, stats["run_seconds"] * 1.01)

    def test_counts_agree_with_each_other(self):
        stats = run_with_stats()
        vcpu = stats["vcpus"][0]
        translation = stats["translation"]
        self.assertGreater(translation["blocks"], 10_000)
        self.assertGreater(translation["guest_instructions"], translation["blocks"])
        self.assertGreater(translation["guest_bytes"], translation["guest_instructions"])
        self.assertGreater(translation["host_hot_bytes"], translation["guest_bytes"])
        self.assertLessEqual(stats["code_cache"]["used_bytes"], stats["code_cache"]["capacity_bytes"])
        callouts = vcpu["callouts_by_instruction"]
        self.assertEqual(sum(callouts.values()), vcpu["events"]["callouts"])
        for mnemonic in ("cpuid", "iretq", "out", "wrmsr"):
            self.assertGreater(callouts[mnemonic], 0)
        exits = vcpu["exits"]
        self.assertGreater(exits["link"], 0)
        self.assertGreater(exits["resume"], 0)
        self.assertGreaterEqual(exits["look_up"], vcpu["look_ups"]["jump_cache_misses"])


class PerfMap(unittest.TestCase):
    def test_translated_code_has_names(self):
        with Guest("--debug", "perf-map") as guest:
            path = f"/tmp/perf-{guest.process.pid}.map"
            self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
            guest.boot()
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
            with open(path, encoding="ascii") as f:
                lines = f.read().splitlines()
        entries = [re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) guest (user )?0x([0-9a-f]+)( ungrouped)?( slow paths)?", line)
                   for line in lines]
        self.assertNotIn(None, entries)
        kernel = [e for e in entries if int(e[4], 16) >= 1 << 63]
        user = [e for e in entries if e[3]]
        self.assertGreater(len(kernel), 1000)
        self.assertGreater(len(user), 1000)
        # Nothing was thrown away in so short a run, so no two pieces of code overlap.
        pieces = sorted((int(e[1], 16), int(e[2], 16)) for e in entries)
        for (start, size), (following, _) in zip(pieces, pieces[1:]):
            self.assertLessEqual(start + size, following)
