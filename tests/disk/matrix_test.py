#!/usr/bin/env python3
"""Images made by qemu-img in combinations of their features: read, written, then judged by qemu-img.

VENEER_DISK_TESTS=long goes through all combinations; otherwise each value of each feature appears in some.
"""
import itertools
import sys
import unittest

from images import LONG, ImageTest, run

SIZE = 24 * 1024 * 1024 + 1536  # ends inside a cluster of every size


def combinations():
    """(options, what is below) pairs."""
    sizes = ["512", "4096", "65536", "2097152"]
    widths = ["1", "2", "4", "8", "16", "32", "64"]
    below = ["none", "raw", "qcow2", "short", "long"]
    if LONG:
        for size, width, base, lazy in itertools.product(sizes, widths, below, ["on", "off"]):
            yield f"cluster_size={size},refcount_bits={width},lazy_refcounts={lazy}", base
        for size, base in itertools.product(sizes, below):
            yield f"compat=0.10,cluster_size={size}", base
        for size, kind in itertools.product(sizes[1:], ["metadata", "falloc", "full"]):
            yield f"cluster_size={size},preallocation={kind}", "none"
        return
    for i, width in enumerate(widths):
        yield f"cluster_size={sizes[i % 4]},refcount_bits={width},lazy_refcounts={'on' if i % 2 else 'off'}", below[i % 5]
    for i, base in enumerate(below):
        yield f"compat=0.10,cluster_size={sizes[(i + 1) % 4]}", base
        yield f"cluster_size={sizes[(i + 2) % 4]}", base
    yield "cluster_size=65536,preallocation=metadata", "none"
    yield "cluster_size=4096,preallocation=falloc", "none"


class Matrix(ImageTest):
    def backing(self, kind):
        """Makes what is below; the words that qemu-img create needs."""
        if kind == "none":
            return []
        size = {"short": SIZE // 3 + 512, "long": SIZE * 2}.get(kind, SIZE)
        raw = self.pattern("base.raw", size)
        if kind == "raw":
            return ["-b", "base.raw", "-F", "raw"]
        run("qemu-img", "convert", "-O", "qcow2", "-c", raw, self.path("base.qcow2"))
        return ["-b", "base.qcow2", "-F", "qcow2"]

    def one(self, options, below, seed):
        image = self.create("image.qcow2", SIZE, options, *self.backing(below))
        model = self.model_of(image)
        self.exercise(image, model, seed, operations=400 if LONG else 250)
        self.check(image)
        self.compare(image, model)


def add(number, options, below):
    name = "test_" + f"{number:03}_{options}_{below}".replace("=", "_").replace(",", "_").replace(".", "")
    setattr(Matrix, name, lambda self: self.one(options, below, number + 1))


for index, (opts, base) in enumerate(combinations()):
    add(index, opts, base)


class Special(ImageTest):
    def written(self, *convert_options):
        """An image with content by qemu-img convert, worked on."""
        raw = self.pattern("source.raw", SIZE)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", *convert_options, raw, image)
        model = self.model_of(image)
        self.exercise(image, model)
        self.check(image)
        self.compare(image, model)

    def test_compressed_zlib(self):
        self.written("-c")

    def test_compressed_zstd(self):
        self.written("-c", "-o", "compression_type=zstd")

    def test_compressed_small_clusters(self):
        self.written("-c", "-o", "cluster_size=4096")

    def test_compressed_large_clusters(self):
        self.written("-c", "-o", "cluster_size=2M,compression_type=zstd")

    def test_snapshots_keep_their_content(self):
        raw = self.pattern("source.raw", SIZE)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        run("qemu-img", "snapshot", "-c", "before", image)
        model = self.model_of(image)
        self.exercise(image, model)
        self.check(image)
        self.compare(image, model)
        run("qemu-img", "snapshot", "-a", "before", image)
        self.compare(image, raw)

    def test_tiny_metadata_cache(self):
        image = self.create("image.qcow2", SIZE, "cluster_size=512")
        model = self.model_of(image)
        import os
        os.environ["EXERCISER_METADATA_CACHE"] = "4096"
        self.addCleanup(os.environ.pop, "EXERCISER_METADATA_CACHE")
        self.exercise(image, model)
        self.check(image)
        self.compare(image, model)

    def test_zeroed_clusters_of_qemu(self):
        raw = self.pattern("source.raw", SIZE)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        run("qemu-io", "-f", "qcow2", "-c", "write -z 0 4M", "-c", "write -z -u 5M 3M", "-c", "discard 9M 1M", image)
        model = self.model_of(image)
        self.exercise(image, model)
        self.check(image)
        self.compare(image, model)


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
