"""What the tests of disk images share: a scratch folder, commands, qemu-img as the judge."""
import os
import shutil
import subprocess
import tempfile
import unittest

EXERCISER = os.environ.get("DISK_EXERCISER", "build/bin/disk_exerciser")
VENEER = os.environ.get("VENEER", "build/bin/veneer")
LONG = os.environ.get("VENEER_DISK_TESTS", "") == "long"
SCALE = float(os.environ.get("VENEER_TIMEOUT_SCALE", "1"))


def run(*words, ok=True, timeout=120, **more):
    """Runs a command; its result has stdout and stderr as text. `ok`: it must succeed."""
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=timeout * SCALE, **more)
    if ok and result.returncode != 0:
        raise AssertionError(f"{' '.join(str(w) for w in words)}\nstatus {result.returncode}\n"
                             f"{result.stdout}{result.stderr}")
    return result


@unittest.skipUnless(shutil.which("qemu-img"), "needs qemu-img (package qemu-utils)")
class ImageTest(unittest.TestCase):
    """A test with a folder of its own in memory."""

    def setUp(self):
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="disk_test_", dir=parent)
        self.addCleanup(shutil.rmtree, self.folder, True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def pattern(self, name, size, seed=1):
        """A raw file: random stretches between holes."""
        path = self.path(name)
        import random
        source = random.Random(seed)
        with open(path, "wb") as f:
            f.truncate(size)
            for _ in range(20):
                at = source.randrange(size)
                length = min(source.choice([100, 4096, 70000, 300000]), size - at)
                f.seek(at)
                f.write(source.randbytes(length))
        return path

    def create(self, name, size, options="", *more):
        """An image made by qemu-img."""
        path = self.path(name)
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), *more, path, size)
        return path

    def model_of(self, image, name="model.raw"):
        """A raw file with the image's content, by qemu-img."""
        path = self.path(name)
        run("qemu-img", "convert", "-O", "raw", image, path)
        return path

    def check(self, image, leaks=False):
        """qemu-img finds nothing wrong with the image (but leaks, if these are allowed)."""
        result = run("qemu-img", "check", "-f", "qcow2", image, ok=False)
        self.assertIn(result.returncode, (0, 3) if leaks else (0,), result.stdout + result.stderr)

    def compare(self, image, model, fmt="qcow2"):
        run("qemu-img", "compare", "-f", fmt, "-F", "raw", image, model)

    def exercise(self, image, model, seed=1, operations=300, threads=2):
        run(EXERCISER, "random", image, "qcow2", model, seed, operations, threads)
