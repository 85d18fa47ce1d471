#!/usr/bin/env python3
"""A writer is killed at random moments: the image is whole every time, and every flushed write can be read.

VENEER_DISK_TESTS=long: 200 kills, else 50 (spread over the kinds of images).
"""
import random
import subprocess
import sys
import time
import unittest

from images import EXERCISER, LONG, ImageTest, run

KILLS = 200 if LONG else 50


class Kill(ImageTest):
    def killed(self, image, seed, moment):
        """Lets a writer work until `moment` seconds after its first flush; the last sequence number flushed."""
        writer = subprocess.Popen([EXERCISER, "stamp", image, "qcow2", str(seed)], stdout=subprocess.PIPE)
        first = writer.stdout.readline()
        self.assertTrue(first.startswith(b"F "), first)
        time.sleep(moment)
        writer.kill()
        rest = writer.stdout.read()
        writer.stdout.close()
        self.assertEqual(writer.wait(), -9)
        lines = [line for line in (first + rest).split(b"\n")[:-1] if line]  # the last may be cut
        return int(lines[-1].split()[1])

    def rounds(self, options, *more):
        chance = random.Random(options)
        for seed in range(1, KILLS // 5 + 1):
            image = self.create(f"{seed}.qcow2", "16M", options, *more)
            flushed = self.killed(image, seed, chance.uniform(0, 0.15))
            self.check(image, leaks=True)
            run(EXERCISER, "verify", image, "qcow2", seed, flushed)
            run("qemu-img", "check", "-q", "-f", "qcow2", "-r", "leaks", image)
            self.check(image)

    def test_damage_is_seen(self):
        image = self.create("1.qcow2", "16M", "cluster_size=512")
        flushed = self.killed(image, 1, 0.1)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 0 512", "-c", "write -P 0x5a 8192 512", image)
        with self.assertRaisesRegex(AssertionError, "torn"):
            run(EXERCISER, "verify", image, "qcow2", 1, flushed)

    def test_default(self):
        self.rounds("cluster_size=64k")

    def test_small_clusters(self):
        self.rounds("cluster_size=512")

    def test_narrow_refcounts(self):
        self.rounds("cluster_size=4k,refcount_bits=1")

    def test_version_2(self):
        self.rounds("compat=0.10,cluster_size=4k")

    def test_overlay(self):
        path = self.path("base.raw")
        with open(path, "wb") as f:
            f.truncate(16 * 1024 * 1024)
        self.rounds("cluster_size=64k", "-b", "base.raw", "-F", "raw")


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
