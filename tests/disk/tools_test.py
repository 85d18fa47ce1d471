#!/usr/bin/env python3
"""veneer disk ...: what it makes is judged by qemu-img, what it refuses is one clear message and no damage."""
import json
import os
import signal
import subprocess
import sys
import time
import unittest

from images import VENEER, ImageTest, run

MIB = 1024 * 1024


def disk(*words, ok=True, **more):
    return run(VENEER, "disk", *words, ok=ok, **more)


class Create(ImageTest):
    def made(self, *options, size="100M"):
        image = self.path("new.qcow2")
        disk("create", image, size, *options)
        self.check(image)
        return image, json.loads(run("qemu-img", "info", "--output=json", image).stdout)

    def test_default(self):
        _, info = self.made()
        self.assertEqual((info["format"], info["virtual-size"], info["cluster-size"]), ("qcow2", 100 * MIB, 65536))
        self.assertEqual(info["format-specific"]["data"]["compat"], "1.1")

    def test_version_2(self):
        self.assertEqual(self.made("--compat", "2")[1]["format-specific"]["data"]["compat"], "0.10")

    def test_smallest_clusters_and_widest_refcounts(self):
        _, info = self.made("--cluster-size", "512", "--refcount-bits", "64")
        self.assertEqual((info["cluster-size"], info["format-specific"]["data"]["refcount-bits"]), (512, 64))

    def test_one_bit_refcounts(self):
        self.assertEqual(self.made("--refcount-bits", "1")[1]["format-specific"]["data"]["refcount-bits"], 1)

    def test_zstd(self):
        self.assertEqual(self.made("--compression", "zstd")[1]["format-specific"]["data"]["compression-type"], "zstd")

    def test_large_sparse(self):
        self.made(size="16T")

    def test_preallocated_metadata(self):
        image, _ = self.made("--preallocation", "metadata", "--cluster-size", "4K")
        maps = json.loads(run("qemu-img", "map", "--output=json", image).stdout)
        self.assertTrue(all(part["data"] or part.get("offset") is not None for part in maps))

    def test_raw(self):
        image = self.path("new.raw")
        disk("create", "-f", "raw", image, "3M")
        self.assertEqual(os.path.getsize(image), 3 * MIB)

    def test_overlay_is_as_large_as_what_is_below(self):
        raw = self.pattern("base.raw", 5 * MIB)
        image = self.path("new.qcow2")
        disk("create", image, "-b", "base.raw", "-F", "raw")
        self.check(image)
        self.compare(image, raw)

    def test_existing_file_stays(self):
        path = self.pattern("precious", MIB)
        with open(path, "rb") as f:
            before = f.read()
        result = disk("create", path, "1G", ok=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("exists already", result.stderr)
        with open(path, "rb") as f:
            self.assertEqual(f.read(), before)

    def test_missing_backing_file(self):
        result = disk("create", self.path("new.qcow2"), "-b", "none.raw", "-F", "raw", ok=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No such file", result.stderr)
        self.assertEqual(os.listdir(self.folder), [])


class Convert(ImageTest):
    SIZE = 40 * MIB + 512

    def converted(self, *options, source=None, fmt="qcow2"):
        raw = source or self.pattern("source.raw", self.SIZE)
        target = self.path("target")
        disk("convert", *options, raw, target)
        if fmt == "qcow2":
            self.check(target)
        self.compare(target, raw, fmt)
        return target

    def test_raw_to_qcow2(self):
        self.converted()

    def test_a_size_within_a_sector(self):
        raw = self.pattern("source.raw", 3 * MIB + 100)
        with open(raw, "r+b") as f:
            f.seek(3 * MIB)
            f.write(b"x" * 100)
        target = self.converted(source=raw)
        self.assertEqual(json.loads(run("qemu-img", "info", "--output=json", target).stdout)["virtual-size"], 3 * MIB + 512)
        disk("convert", "-O", "raw", target, self.path("again.raw"))
        with open(self.path("again.raw"), "rb") as f, open(raw, "rb") as g:
            self.assertEqual(f.read(), g.read() + bytes(412))

    def test_small_clusters(self):
        self.converted("--cluster-size", "512")

    def test_large_clusters(self):
        self.converted("--cluster-size", "2M")

    def test_compressed(self):
        target = self.converted("-c")
        self.assertGreater(json.loads(disk("check", "--json", target).stdout)["compressed_clusters"], 0)

    def test_compressed_zstd_one_bit_refcounts(self):
        self.converted("-c", "--compression", "zstd", "--refcount-bits", "1")

    def test_compressed_small_clusters(self):
        self.converted("-c", "--cluster-size", "1K")

    def test_to_raw_keeps_holes(self):
        raw = self.pattern("source.raw", self.SIZE)
        image = self.path("source.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        target = self.path("target")
        disk("convert", "-O", "raw", image, target)
        self.compare(target, raw, "raw")
        self.assertLess(os.stat(target).st_blocks * 512, self.SIZE // 2)

    def test_chain_becomes_one(self):
        self.pattern("base.raw", self.SIZE)
        image = self.create("over.qcow2", "44M", "", "-b", "base.raw", "-F", "raw")
        model = self.model_of(image)
        self.exercise(image, model)
        target = self.path("target")
        disk("convert", image, target)
        self.check(target)
        self.compare(target, model)

    def test_subclusters_are_read(self):
        self.pattern("base.raw", self.SIZE)
        image = self.create("sub.qcow2", self.SIZE, "extended_l2=on", "-b", "base.raw", "-F", "raw")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 5 3000 70000", "-c", "write -z 1M 300k", "-c", "write -P 7 9M 1k",
            "-c", "write -z 10M 2k", image)
        target = self.path("target")
        disk("convert", image, target)
        self.compare(target, self.model_of(image))

    def test_existing_target_needs_permission(self):
        raw = self.pattern("source.raw", MIB)
        target = self.pattern("target", 4096)
        self.assertIn("exists already", disk("convert", raw, target, ok=False).stderr)
        disk("convert", "--replace", raw, target)
        self.compare(target, raw)

    def test_nbd_source(self):
        raw = self.pattern("source.raw", MIB)
        socket = self.path("socket")
        server = subprocess.Popen(["qemu-nbd", "-r", "-f", "raw", "-k", socket, raw])
        try:
            for _ in range(200):
                if os.path.exists(socket):
                    break
                time.sleep(0.05)
            target = self.path("target")
            disk("convert", f"nbd+unix:///?socket={socket}", target)
            self.compare(target, raw)
        finally:
            server.terminate()
            server.wait()

    def test_stopped_leaves_nothing(self):
        raw = self.path("source.raw")
        with open(raw, "wb") as f:
            f.truncate(64 * MIB)
            for at in range(0, 64 * MIB, 4096):
                f.seek(at)
                f.write(at.to_bytes(8, "little") * 512)
        target = self.path("target")
        worker = subprocess.Popen([VENEER, "disk", "convert", "-c", "--threads", "1", raw, target],
                                  stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        worker.send_signal(signal.SIGINT)
        _, complaint = worker.communicate(timeout=60)
        if worker.returncode == 0:
            self.skipTest("was done before the signal")
        self.assertIn("stopped", complaint)
        self.assertEqual(os.listdir(self.folder), ["source.raw"])


class Check(ImageTest):
    def damaged(self, offset, data):
        raw = self.pattern("source.raw", 8 * MIB)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        with open(image, "r+b") as f:
            f.seek(offset)
            f.write(data)
        return image, raw

    def refcount_block(self):
        return 2 * 65536  # qemu-img: header, refcount table, first block

    def test_clean(self):
        image, _ = self.damaged(0, b"QFI\xfb")
        self.assertEqual(disk("check", image).returncode, 0)

    def test_leak_is_found_and_mended(self):
        image, raw = self.damaged(self.refcount_block() + 2 * 3000, b"\0\1")
        self.assertEqual(disk("check", image, ok=False).returncode, 3)
        self.assertEqual(disk("check", "--repair", "leaks", image).returncode, 0)
        self.check(image)
        self.compare(image, raw)

    def test_lost_refcounts_are_rebuilt(self):
        image, raw = self.damaged(self.refcount_block(), bytes(300))
        self.assertEqual(disk("check", image, ok=False).returncode, 4)
        self.assertEqual(disk("check", "--repair", "all", image).returncode, 0)
        self.check(image)
        self.compare(image, raw)

    def test_lost_refcount_table_is_rebuilt(self):
        image, raw = self.damaged(65536, bytes(8))
        self.assertEqual(disk("check", "--repair", "all", image).returncode, 0)
        self.check(image)
        self.compare(image, raw)

    def test_wild_l2_entry_is_dropped(self):
        image, _ = self.damaged(0, b"QFI\xfb")
        with open(image, "r+b") as f:
            f.seek(3 * 65536)
            l2 = int.from_bytes(f.read(8), "big") & 0x00fffffffffffe00
            f.seek(l2)
            f.write((0x8000000000000000 | 65536).to_bytes(8, "big"))  # the refcount table as data
        self.assertEqual(disk("check", image, ok=False).returncode, 4)
        self.assertEqual(disk("check", "--repair", "all", image).returncode, 0)
        self.check(image)

    def test_dirty_image_is_put_in_order_when_opened(self):
        image, raw = self.damaged(self.refcount_block(), bytes(300))
        with open(image, "r+b") as f:
            f.seek(79)
            f.write(b"\1")
        disk("resize", image, "9M")
        self.check(image)

    def test_corrupt_image_takes_no_writes(self):
        image, _ = self.damaged(79, b"\2")
        result = disk("resize", image, "9M", ok=False)
        self.assertIn("marked as damaged", result.stderr)
        self.assertEqual(disk("check", "--repair", "all", image).returncode, 0)
        disk("resize", image, "9M")

    def test_raw_has_nothing_to_check(self):
        self.assertEqual(disk("check", self.pattern("a.raw", MIB), ok=False).returncode, 1)


class Resize(ImageTest):
    def test_grow_far(self):
        raw = self.pattern("source.raw", 3 * MIB + 512)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=512", raw, image)
        disk("resize", image, "2G")
        self.check(image)
        os.truncate(raw, 2 * 1024 * MIB)
        self.compare(image, raw)

    def test_growth_shows_zeros_not_the_longer_backing_file(self):
        self.pattern("base.raw", 8 * MIB)
        image = self.create("image.qcow2", "3M", "", "-b", "base.raw", "-F", "raw")
        model = self.model_of(image)
        disk("resize", image, "+6M")
        os.truncate(model, 9 * MIB)
        self.check(image)
        self.compare(image, model)

    def test_shrink(self):
        raw = self.pattern("source.raw", 8 * MIB)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        self.assertIn("--shrink", disk("resize", image, "3M", ok=False).stderr)
        disk("resize", "--shrink", image, "3M")
        os.truncate(raw, 3 * MIB)
        self.check(image)
        self.compare(image, raw)


class Layers(ImageTest):
    SIZE = 12 * MIB

    def overlay(self):
        """base.raw below, over.qcow2 above with content of its own, and a model of what is seen."""
        self.pattern("base.raw", self.SIZE)
        image = self.create("over.qcow2", self.SIZE + MIB, "", "-b", "base.raw", "-F", "raw")
        model = self.model_of(image)
        self.exercise(image, model)
        return image, model

    def test_rebase_to_another(self):
        image, model = self.overlay()
        other = self.pattern("other.raw", self.SIZE + 2 * MIB, seed=9)
        disk("rebase", "-b", "other.raw", "-F", "raw", image)
        self.check(image)
        self.compare(image, model)
        self.assertIn(other, disk("info", "--chain", image).stdout)

    def test_rebase_to_none(self):
        image, model = self.overlay()
        disk("rebase", "-b", "", image)
        os.unlink(self.path("base.raw"))
        self.check(image)
        self.compare(image, model)

    def test_rebase_a_lone_image_onto_another(self):
        raw = self.pattern("source.raw", self.SIZE)
        image = self.path("lone.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", raw, image)
        self.pattern("other.raw", self.SIZE, seed=9)
        disk("rebase", "-b", "other.raw", "-F", "raw", image)
        self.check(image)
        self.compare(image, raw)

    def test_moved_backing_file(self):
        image, model = self.overlay()
        os.mkdir(self.path("moved"))
        os.rename(self.path("base.raw"), self.path("moved/base.raw"))
        result = disk("resize", image, "+1M", ok=False)
        self.assertIn("rebase --only-name", result.stderr)
        disk("rebase", "--only-name", "-b", "moved/base.raw", "-F", "raw", image)
        self.compare(image, model)

    def test_commit(self):
        image, model = self.overlay()
        disk("commit", image)
        self.check(image)
        self.compare(image, model)
        self.compare(self.path("base.raw"), model, "raw")
        self.assertEqual(json.loads(disk("check", "--json", image).stdout)["data_clusters"], 0)

    def test_commit_without_emptying(self):
        image, model = self.overlay()
        disk("commit", "--keep", image)
        self.compare(self.path("base.raw"), model, "raw")

    def test_loop_is_refused(self):
        a = self.create("a.qcow2", "1M")
        b = self.create("b.qcow2", "1M", "", "-b", "a.qcow2", "-F", "qcow2")
        run("qemu-img", "rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", a)
        self.assertIn("loop", disk("convert", b, self.path("c"), ok=False).stderr)

    def test_missing_backing_file(self):
        image, _ = self.overlay()
        os.unlink(self.path("base.raw"))
        complaint = disk("convert", image, self.path("c"), ok=False).stderr
        self.assertIn("base.raw", complaint)
        self.assertEqual(len(complaint.strip().splitlines()), 1)


class Snapshots(ImageTest):
    def test_create_apply_delete(self):
        raw = self.pattern("source.raw", 8 * MIB)
        image = self.path("image.qcow2")
        run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", raw, image)
        disk("snapshot", "create", image, "first")
        self.check(image)
        model = self.model_of(image)
        self.exercise(image, model)
        self.check(image)
        disk("snapshot", "create", image, "second")
        self.check(image)
        disk("snapshot", "apply", image, "first")
        self.check(image)
        self.compare(image, raw)
        disk("snapshot", "apply", image, "second")
        self.compare(image, model)
        disk("snapshot", "delete", image, "first")
        self.check(image)
        disk("snapshot", "delete", image, "second")
        self.check(image)
        self.compare(image, model)

    def test_qemu_understands_ours(self):
        image = self.create("image.qcow2", "8M")
        disk("snapshot", "create", image, "ours")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 3 0 1M", image)
        run("qemu-img", "snapshot", "-a", "ours", image)
        self.check(image)
        run("qemu-img", "snapshot", "-d", "ours", image)
        self.check(image)

    def test_apply_brings_the_size_back(self):
        image = self.create("image.qcow2", "8M")
        disk("snapshot", "create", image, "small")
        disk("resize", image, "4G")
        disk("snapshot", "apply", image, "small")
        self.check(image)
        self.assertEqual(json.loads(disk("info", "--json", image).stdout)["virtual_size_bytes"], 8 * MIB)

    def test_unknown_name(self):
        image = self.create("image.qcow2", "8M")
        self.assertIn("no snapshot", disk("snapshot", "apply", image, "none", ok=False).stderr)


class Refusals(ImageTest):
    def complaint(self, *words):
        result = disk(*words, ok=False)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        return result.stderr

    def test_luks(self):
        image = self.create("a.qcow2", "1M")
        with open(image, "r+b") as f:
            f.seek(35)  # crypt_method
            f.write(b"\2")
        self.assertIn("LUKS", self.complaint("convert", image, self.path("b")))

    def test_external_data_file(self):
        image = self.create("a.qcow2", "1M", f"data_file={self.path('data')}")
        self.assertIn("external file", self.complaint("convert", image, self.path("b")))

    def test_vmdk(self):
        image = self.path("a.vmdk")
        run("qemu-img", "create", "-q", "-f", "vmdk", image, "1M")
        self.assertIn("nbdkit", self.complaint("convert", image, self.path("b")))

    def test_unknown_feature_is_named(self):
        image = self.create("a.qcow2", "1M")
        with open(image, "r+b") as f:
            f.seek(72)
            f.write(b"\x80")
        self.assertIn("bit 63", self.complaint("convert", image, self.path("b")))

    def test_image_in_use(self):
        image = self.create("a.qcow2", "1M")
        writer = subprocess.Popen(["qemu-io", "-f", "qcow2", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            writer.stdout.read(1)  # its prompt
            self.assertIn("in use", self.complaint("resize", image, "2M"))
            self.assertIn("in use", self.complaint("check", image))
            disk("info", image)
        finally:
            writer.communicate(b"quit\n")

    def test_full_disk(self):
        folder = self.path("small")
        os.mkdir(folder)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True).returncode:
            self.skipTest("needs the right to mount")
        self.addCleanup(subprocess.run, ["umount", folder])
        raw = self.path("source.raw")
        with open(raw, "wb") as f:
            f.write(os.urandom(8 * MIB))
        self.assertIn("No space left", self.complaint("convert", raw, os.path.join(folder, "target")))
        self.assertEqual(os.listdir(folder), [])

    @unittest.skipIf(os.geteuid() == 0, "root may write anything")
    def test_read_only_file(self):
        image = self.create("a.qcow2", "1M")
        os.chmod(image, 0o444)
        self.assertIn("Permission denied", self.complaint("resize", image, "2M"))


if __name__ == "__main__":
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
