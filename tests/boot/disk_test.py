"""Disks in a guest: what is written is there, after a reboot, a kill, a full host; and what is refused.

As in boot_test.py. VENEER_KILLS=N kills the monitor N times under load in each test of class Kill, in place of ten.
"""
import hashlib
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from guest import GUEST_DIR, PROMPT, SCALE, VENEER, Guest, veneer_command

MIB = 1 << 20
KILLS = int(os.environ.get("VENEER_KILLS", "3" if os.environ.get("VENEER_SANITIZED") else "10"))  # of each test in class Kill


class DiskTest(unittest.TestCase):
    """A folder for images."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return f"{self.folder.name}/{name}"

    def blank(self, size=64 * MIB, name="disk.img"):
        with open(self.path(name), "wb") as f:
            f.truncate(size)
        return self.path(name)

    def copy(self, path):
        return shutil.copy(path, path + ".copy")

    def root(self):
        shutil.copy(f"{GUEST_DIR}/disk.raw", self.path("root.img"))
        return self.path("root.img")

    def digest(self, path, size):
        with open(path, "rb") as f:
            return hashlib.sha256(f.read(size)).hexdigest()

    def fill_and_compare(self, image, options, device):
        """8 MiB of noise go to the disk, come back equal, and stand in the file on the host."""
        with Guest("--disk", f"{image},format=raw{options}") as guest:
            guest.boot()
            _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null; sha256sum </tmp/noise")
            self.assertEqual(guest.run(f"dd if=/tmp/noise of={device} bs=68k conv=fsync 2>/dev/null")[0], 0)
            guest.run("echo 3 >/proc/sys/vm/drop_caches")
            _, got = guest.run(f"head -c 8388608 {device} | sha256sum")
            self.assertEqual(got, wanted)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        self.assertEqual(self.digest(image, 8 * MIB), wanted.split()[0])


class Data(DiskTest):
    """What is written is read, in every way that requests can go."""

    def test_page_cache(self):
        self.fill_and_compare(self.blank(), "", "/dev/vda")

    def test_direct(self):
        self.fill_and_compare(self.blank(), ",cache=none", "/dev/vda")

    def test_write_through(self):
        self.fill_and_compare(self.blank(), ",cache=writethrough", "/dev/vda")

    def test_worker_threads_only(self):
        self.fill_and_compare(self.blank(), ",aio=threads,queues=1", "/dev/vda")

    def test_nvme(self):
        self.fill_and_compare(self.blank(), ",if=nvme", "/dev/nvme0n1")

    def test_nvme_direct(self):
        self.fill_and_compare(self.blank(), ",if=nvme,cache=none", "/dev/nvme0n1")

    def discard(self, options, device):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw{options}") as guest:
            guest.boot()
            guest.run(f"dd if=/dev/urandom of={device} bs=1M count=16 conv=fsync")
            before = os.stat(image).st_blocks
            self.assertEqual(guest.run(f"blkdiscard {device}")[0], 0)
            self.assertGreaterEqual(before, 16 * MIB // 512)
            self.assertLess(os.stat(image).st_blocks, MIB // 512)

    def test_discard_gives_space_back(self):
        self.discard("", "/dev/vda")

    def test_discard_gives_space_back_on_nvme(self):
        self.discard(",if=nvme", "/dev/nvme0n1")

    def test_read_only(self):
        image = self.blank()
        os.chmod(image, 0o444)
        with Guest("--disk", f"{image},format=raw,readonly,serial=S-42") as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /sys/block/vda/ro /sys/block/vda/serial; echo"), (0, "1\nS-42"))
            self.assertNotEqual(guest.run("dd if=/dev/zero of=/dev/vda count=1 conv=fsync 2>/dev/null")[0], 0)

    def test_a_snapshot_is_dropped(self):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw,snapshot") as guest:
            guest.boot()
            guest.run("echo changed | dd of=/dev/vda conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(guest.run("head -c 7 /dev/vda; echo"), (0, "changed"))
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        self.assertEqual(os.stat(image).st_blocks, 0)

    def test_qcow2(self):
        image = self.path("disk.qcow2")
        subprocess.run([VENEER, "disk", "create", image, "64M"], check=True, stdout=subprocess.DEVNULL)
        with Guest("--disk", f"{image},format=qcow2,queues=4") as guest:
            guest.boot()
            _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null; sha256sum </tmp/noise")
            guest.run("dd if=/tmp/noise of=/dev/vda bs=68k conv=fsync 2>/dev/null; blkdiscard -o 16777216 -l 1048576 /dev/vda")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        subprocess.run([VENEER, "disk", "check", image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([VENEER, "disk", "convert", "-O", "raw", image, self.path("disk.raw")], check=True,
                       stdout=subprocess.DEVNULL)
        self.assertEqual(self.digest(self.path("disk.raw"), 8 * MIB), wanted.split()[0])

    def test_order_and_sizes(self):
        first, second = self.blank(4 * MIB, "a"), self.blank(8 * MIB, "b")
        with Guest("--disk", f"{first},format=raw", "--disk", f"{second},format=raw") as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /sys/block/vda/size /sys/block/vdb/size"), (0, "8192\n16384"))

    def test_a_rate(self):
        with Guest("--disk", f"{self.blank()},format=raw,bps=1M") as guest:
            guest.boot()
            started = time.monotonic()
            self.assertEqual(guest.run("dd if=/dev/vda of=/dev/null bs=128k count=24 iflag=direct 2>/dev/null")[0], 0)
            self.assertGreater(time.monotonic() - started, 2)

    def test_growing(self):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw", "--disk", f"{self.blank(name='n')},format=raw,if=nvme") as guest:
            guest.boot()
            guest.type("\x01cgrow vda 128M\rgrow nvme0n1 96M\r")
            guest.expect("vda has 128 MiB now")
            guest.expect("nvme0n1 has 96 MiB now")
            guest.type("\x01c\n")
            guest.expect(PROMPT)
            self.assertEqual(guest.run("sleep 1; cat /sys/block/vda/size /sys/block/nvme0n1/size"), (0, "262144\n196608"))
            self.assertEqual(os.stat(image).st_size, 128 * MIB)

    def test_growth_from_outside(self):
        """A raw file that becomes longer, and a disk that somebody cuts: the one is taken over, the other is said."""
        image = self.blank()
        with Guest("--disk", f"{image},format=raw", "--disk", f"{self.blank(name='n')},format=raw,if=nvme") as guest:
            guest.boot()
            os.truncate(image, 128 * MIB)
            os.truncate(self.path("n"), 96 * MIB)
            wait = "i=0; while [ $i -lt 300 ] && [ $(cat /sys/block/{0}/size) != {1} ]; do i=$((i + 1)); sleep 0.1; done; cat /sys/block/{0}/size"
            self.assertEqual(guest.run(wait.format("vda", 262144), 60), (0, "262144"))
            self.assertEqual(guest.run(wait.format("nvme0n1", 196608), 60), (0, "196608"))
            self.assertEqual(guest.run("echo end | dd of=/dev/vda bs=512 seek=262143 conv=fsync,sync 2>/dev/null")[0], 0)
            os.truncate(image, 32 * MIB)
            guest.type("\x01cgrow vda\r")
            guest.expect("was made smaller by somebody else")
            guest.type("\x01c\n")
            guest.expect(PROMPT)
            self.assertNotEqual(guest.run("dd if=/dev/vda bs=512 skip=262143 count=1 iflag=direct of=/dev/null 2>/dev/null")[0], 0)
            self.assertEqual(guest.run("dd if=/dev/vda bs=512 count=1 iflag=direct of=/dev/null 2>/dev/null")[0], 0)
            self.assertEqual(os.stat(image).st_size, 32 * MIB)

    def test_the_monitor_takes_over_a_new_size(self):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw") as guest:
            guest.boot()
            os.truncate(image, 128 * MIB)
            guest.type("\x01cgrow vda\r")
            guest.expect("vda has 128 MiB now")

    def test_a_file_that_ends_within_a_sector(self):
        image = self.path("odd.img")
        with open(image, "wb") as f:
            f.write(b"x" * (MIB + 100))
        with Guest("--disk", f"{image},format=raw", "--disk", f"{self.copy(image)},format=raw,cache=none") as guest:
            guest.boot()
            self.assertIn("no multiple of 512", guest.stderr())
            for device in ("vda", "vdb"):
                self.assertEqual(guest.run(f"cat /sys/block/{device}/size; tail -c 512 /dev/{device} | tr -d 'x\\0' | wc -c;"
                                           f"tail -c 512 /dev/{device} | tr -d '\\0' | wc -c"), (0, "2049\n0\n100"))
                self.assertEqual(guest.run(f"yes | head -c 512 >/tmp/y; dd if=/tmp/y of=/dev/{device} bs=512 seek=2048 conv=fsync 2>/dev/null")[0], 0)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        for path in (image, image + ".copy"):
            with open(path, "rb") as f:
                self.assertEqual(f.read(), b"x" * MIB + b"y\n" * 256)

    def test_memory_as_a_disk(self):
        """An image on a tmpfs, in every cache mode that the host's kernel has for it."""
        folder = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        image = shutil.copy(self.blank(), folder.name)
        self.fill_and_compare(image, "", "/dev/vda")
        try:
            os.close(os.open(image, os.O_RDWR | os.O_DIRECT))
        except OSError:
            Refusals.refused(self, 1, f"{image},format=raw,cache=none", "direct I/O", "cache=writeback")
        else:
            self.fill_and_compare(image, ",cache=none", "/dev/vda")

    def test_the_monitor_shows_it(self):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw") as guest:
            guest.boot()
            guest.run("dd if=/dev/vda of=/dev/null count=8 iflag=direct 2>/dev/null")
            guest.type("\x01cinfo block\r")
            guest.expect(re.escape(f"vda: 64.0 MiB, raw, {image}"))
            guest.expect(r" \d+ reads")


class Root(DiskTest):
    """The root file system on a disk."""

    def boot(self, image, options="", device="/dev/vda"):
        return Guest("--disk", f"{image},format=raw{options}", cmdline=f"console=ttyS0 quiet root={device} rw")

    def check_file_system(self, image):
        done = subprocess.run(["/sbin/e2fsck", "-fn", image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_files_survive_a_power_off(self):
        image = self.root()
        with self.boot(image) as guest:
            guest.boot()
            _, wanted = guest.run("head -c 3000000 /dev/urandom >/root/noise; sha256sum /root/noise")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        self.check_file_system(image)
        with self.boot(image) as guest:
            guest.boot()
            self.assertEqual(guest.run("sha256sum /root/noise")[1], wanted)

    def test_files_survive_a_reboot(self):
        with self.boot(self.root()) as guest:
            guest.boot()
            guest.run("echo kept >/root/note")
            guest.type("reboot\n")
            guest.boot()
            self.assertEqual(guest.run("cat /root/note"), (0, "kept"))

    def test_nvme(self):
        image = self.root()
        for _ in range(2):
            with self.boot(image, ",if=nvme", "/dev/nvme0n1") as guest:
                guest.boot()
                guest.run("echo kept >>/root/note")
                guest.type("poweroff\n")
                self.assertEqual(guest.wait(), 0)
            self.check_file_system(image)
        with self.boot(image, ",if=nvme", "/dev/nvme0n1") as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /root/note"), (0, "kept\nkept"))

    def test_sudden_end_keeps_what_was_synced(self):
        image = self.root()
        with self.boot(image) as guest:
            guest.boot()
            guest.run("echo kept >/root/note; sync")
            guest.signal(signal.SIGINT)
            self.assertEqual(guest.wait(), 1)
        with self.boot(image) as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /root/note"), (0, "kept"))

    def test_a_root_that_is_not_there(self):
        with Guest("--disk", f"{self.blank()},format=raw", cmdline="console=ttyS0 quiet root=/dev/vda rw") as guest:
            guest.expect("init: cannot mount /dev/vda")
            guest.boot()


class BlockDevice(DiskTest):
    """A block device of the host: a loop device, where this host lets us have one."""

    def loop(self, size=64 * MIB):
        done = subprocess.run(["losetup", "--find", "--show", self.blank(size, "loop.img")], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no loop device: {done.stderr.strip()}")
        device = done.stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "--detach", device], check=True)
        return device

    def test_data(self):
        device = self.loop()
        for options in ("", ",cache=none"):
            self.fill_and_compare(device, options, "/dev/vda")

    def test_discard(self):
        device = self.loop()
        with Guest("--disk", f"{device},format=raw") as guest:
            guest.boot()
            guest.run(r"dd if=/dev/zero bs=1M count=16 | tr '\000' y | dd of=/dev/vda bs=1M conv=fsync iflag=fullblock")
            before = os.stat(self.path("loop.img")).st_blocks
            self.assertEqual(guest.run("blkdiscard -l 8388608 /dev/vda"), (0, ""))
            self.assertLess(os.stat(self.path("loop.img")).st_blocks, before - 4 * MIB // 512)
            guest.run("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(guest.run("head -c 8388612 /dev/vda | tail -c 4; echo"), (0, "yyyy"))
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_growth(self):
        device = self.loop()
        with Guest("--disk", f"{device},format=raw") as guest:
            guest.boot()
            os.truncate(self.path("loop.img"), 128 * MIB)
            subprocess.run(["losetup", "--set-capacity", device], check=True)
            guest.type("\x01cgrow vda\r")
            guest.expect("vda has 128 MiB now")

    def test_a_mounted_one_is_refused(self):
        device = self.loop()
        mounted = self.path("mounted")
        os.mkdir(mounted)
        subprocess.run(["/sbin/mke2fs", "-q", "-F", device], check=True)
        if subprocess.run(["mount", device, mounted], capture_output=True).returncode != 0:
            self.skipTest("no right to mount")
        self.addCleanup(subprocess.run, ["umount", mounted], check=True)
        Refusals.refused(self, 1, f"{device},format=raw", "in use by this host", "mounted")


class Server(DiskTest):
    """A disk on an NBD server, inside the sandbox like every other."""

    def serve(self, image):
        if not shutil.which("qemu-nbd"):
            self.skipTest("needs qemu-nbd (package qemu-utils)")
        socket = self.path("socket")
        server = subprocess.Popen(["qemu-nbd", "-f", "raw", "--discard", "unmap", "-k", socket, image])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        deadline = time.monotonic() + 30 * SCALE
        while not os.path.exists(socket):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        return f"nbd+unix:///?socket={socket}", server

    def test_data(self):
        image = self.blank()
        uri, server = self.serve(image)
        with Guest("--disk", uri) as guest:
            guest.boot()
            _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=8 2>/dev/null; sha256sum </tmp/noise")
            self.assertEqual(guest.run("dd if=/tmp/noise of=/dev/vda bs=68k conv=fsync 2>/dev/null")[0], 0)
            self.assertEqual(guest.run("blkdiscard -o 16777216 -l 1048576 /dev/vda"), (0, ""))
            guest.run("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(guest.run("head -c 8388608 /dev/vda | sha256sum")[1], wanted)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        server.wait(30 * SCALE)
        self.assertEqual(self.digest(image, 8 * MIB), wanted.split()[0])

    def test_below_an_overlay(self):
        image = self.blank()
        with open(image, "r+b") as f:
            f.write(b"below")
        uri, _ = self.serve(image)
        overlay = self.path("over.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", uri, "-F", "raw", overlay, "64M"], check=True)
        with Guest("--disk", f"{overlay},format=qcow2") as guest:
            guest.boot()
            self.assertEqual(guest.run("head -c 5 /dev/vda; echo"), (0, "below"))
            self.assertEqual(guest.run("echo above | dd of=/dev/vda bs=512 seek=9 conv=fsync,sync 2>/dev/null")[0], 0)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_a_server_that_dies(self):
        """The guest is told, the machine lives."""
        uri, server = self.serve(self.blank())
        with Guest("--disk", uri) as guest:
            guest.boot()
            server.kill()
            self.assertNotEqual(guest.run("dd if=/dev/vda of=/dev/null count=1 iflag=direct 2>/dev/null")[0], 0)
            self.assertEqual(guest.run("echo alive"), (0, "alive"))
            self.assertIn("reading", guest.stderr())

    def test_a_size_that_is_no_multiple_of_sectors(self):
        if not shutil.which("nbdkit"):
            self.skipTest("needs nbdkit")
        socket = self.path("socket")
        server = subprocess.Popen(["nbdkit", "-f", "-U", socket, "memory", "1000000"])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        deadline = time.monotonic() + 30 * SCALE
        while not os.path.exists(socket):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        Refusals.refused(self, 1, f"nbd+unix:///?socket={socket}", "1000000", "round-up=512")


# Sectors get a stamp each, one flush at a time, all over the first half of the disk. Meanwhile the second half is written,
# overwritten and discarded: clusters come and go.
KILL_LOAD = ("while :; do dd if=/dev/urandom of={device} bs=256k seek=$((128 + RANDOM % 120)) count=2 conv=notrunc 2>/dev/null; "
             "blkdiscard -o $(((32 + RANDOM % 31) * 1048576)) -l $((65536 * (1 + RANDOM % 15))) {device}; done &\n")
KILL_STAMPS = ("i=0; while :; do i=$((i + 1)); printf 'run %04d stamp %08d' {run} $i | "
               "dd of={device} bs=512 seek=$((i * 1009 % 65536)) conv=notrunc,fsync 2>/dev/null && echo flushed $i; done\n")


class Kill(DiskTest):
    """SIGKILL of the monitor while the guest writes: a sound image, in which everything is that was flushed."""

    def write_until_killed(self, image, device, options, run, seconds):
        with Guest("--disk", f"{image}{options}", "--cpus", "2") as guest:
            guest.boot()
            guest.type(KILL_LOAD.format(device=device))
            guest.type(KILL_STAMPS.format(device=device, run=run))
            guest.expect("^flushed 3\r*$")
            time.sleep(seconds)
            guest.process.kill()
            guest.wait()
            return int(re.findall(r"^flushed (\d+)\r*\n", guest.console, re.MULTILINE)[-1])

    def stamps(self, image, image_format):
        """{sector: stamp} of the first half, as qemu-img reads the image."""
        raw = image
        if image_format != "raw":
            raw = self.path("read.raw")
            subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", image, raw], check=True)
        found = {}
        with open(raw, "rb") as f:
            for sector in range(65536):
                stamp = f.read(512).rstrip(b"\0")
                if stamp:
                    found[sector] = stamp
        return found

    def check(self, image):
        """Leaks at most, which are mended."""
        checked = subprocess.run(["qemu-img", "check", "-q", image], capture_output=True, text=True)
        self.assertIn(checked.returncode, (0, 3), checked.stdout + checked.stderr)
        repaired = subprocess.run([VENEER, "disk", "check", "--repair", "leaks", image], capture_output=True, text=True)
        self.assertEqual(repaired.returncode, 0, repaired.stdout + repaired.stderr)
        checked = subprocess.run(["qemu-img", "check", "-q", image], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def kill_often(self, device, options="", image_format="raw"):
        """One image lives through all kills: what a run has not written is still what earlier ones wrote."""
        image = self.path("disk")
        if image_format == "raw":
            self.blank(name="disk")
        else:
            if not shutil.which("qemu-img"):
                self.skipTest("needs qemu-img (package qemu-utils)")
            subprocess.run([VENEER, "disk", "create", image, "64M"], check=True, stdout=subprocess.DEVNULL)
        chance = random.Random(device + options)
        wanted = {}
        for run in range(KILLS):
            last = self.write_until_killed(image, device, f",format={image_format}{options}", run, chance.uniform(0, 1.2))
            if image_format != "raw":
                self.check(image)
            found = self.stamps(image, image_format)
            for i in range(1, last + 1):
                wanted[i * 1009 % 65536] = b"run %04d stamp %08d" % (run, i)
            # The next ones may have been written, too: what the guest said last may not have come out.
            while found.get((last + 1) * 1009 % 65536) == b"run %04d stamp %08d" % (run, last + 1):
                last += 1
                wanted[last * 1009 % 65536] = b"run %04d stamp %08d" % (run, last)
            self.assertEqual(found, wanted, f"run {run}, {last} stamps flushed")

    def test_page_cache(self):
        self.kill_often("/dev/vda")

    def test_direct(self):
        self.kill_often("/dev/vda", ",cache=none")

    def test_nvme(self):
        self.kill_often("/dev/nvme0n1", ",if=nvme")

    def test_qcow2(self):
        self.kill_often("/dev/vda", image_format="qcow2")

    def test_qcow2_direct_nvme(self):
        self.kill_often("/dev/nvme0n1", ",if=nvme,cache=none", image_format="qcow2")


class FullHost(DiskTest):
    """The host's file system has no room: an 8 MiB tmpfs with a 64 MiB disk on it."""

    WRITE = "dd if=/tmp/noise of=/dev/vda bs=64k conv=fsync 2>/dev/null"

    def guest(self, options, image_format="raw"):
        """Veneer in a mount namespace of its own; make_room() lets a helper in there enlarge the tmpfs."""
        small, go = self.path("small"), self.path("go")
        os.mkdir(small)
        script = (f"mount -t tmpfs -o size=8m none {small} && "
                  f"{VENEER} disk create -f {image_format} {small}/disk.img 64M >/dev/null || exit 77; "
                  f"(while [ ! -e {go} ]; do kill -0 $$ 2>/dev/null || exit 0; sleep 0.1; done; mount -o remount,size=80m {small}; rm {go}) & exec \"$@\"")
        namespace = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
        if subprocess.run(namespace + ["mount", "-t", "tmpfs", "none", small], capture_output=True).returncode != 0:
            self.skipTest("this host permits no mount namespace")
        return Guest("--disk", f"{small}/disk.img,format={image_format}{options}", wrapper=namespace + ["sh", "-c", script, "sh"])

    def make_room(self):
        with open(self.path("go"), "w"):
            pass
        deadline = time.monotonic() + 20 * SCALE
        while os.path.exists(self.path("go")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)

    def test_the_machine_pauses_and_goes_on(self):
        self.pause_and_go_on("raw")

    def test_the_machine_pauses_and_goes_on_with_qcow2(self):
        self.pause_and_go_on("qcow2")

    def pause_and_go_on(self, image_format):
        with self.guest("", image_format) as guest:
            guest.boot()
            _, wanted = guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=16 2>/dev/null; sha256sum </tmp/noise")
            guest.type(self.WRITE + "; echo wri''tten $?\n")
            deadline = time.monotonic() + 60 * SCALE
            while "machine is paused" not in guest.stderr():
                self.assertLess(time.monotonic(), deadline, guest.story())
                time.sleep(0.1)
            self.assertIn("No space left on device", guest.stderr())
            self.make_room()
            guest.type("\x01cresume\r\x01c")
            self.assertEqual(guest.expect(r"written (\d+)")[1], "0")
            guest.run("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(guest.run("head -c 16777216 /dev/vda | sha256sum")[1], wanted)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_the_guest_is_told_when_so_wanted(self):
        with self.guest(",werror=report") as guest:
            guest.boot()
            guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=16 2>/dev/null")
            self.assertNotEqual(guest.run(self.WRITE)[0], 0)
            self.assertEqual(guest.run("echo alive"), (0, "alive"))


class Refusals(DiskTest):
    """One clear message, the promised status, and no guest."""

    def refused(self, status, disk, *words, wrapper=()):
        done = subprocess.run([*wrapper, *veneer_command("--disk", disk)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60 * SCALE)
        if wrapper and done.returncode == 77:
            self.skipTest("this host permits no mount namespace")
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertLessEqual(len(done.stderr.splitlines()), 2, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_missing(self):
        self.refused(1, self.path("none.img"), "none.img", "No such file")

    def test_a_folder(self):
        self.refused(1, self.folder.name, "directory")

    def test_empty(self):
        self.refused(1, self.blank(0) + ",format=raw", "smaller than one sector")

    def test_unknown_key(self):
        self.refused(2, "a.img,speed=high", "speed", "readonly")

    def test_unknown_value(self):
        self.refused(2, "a.img,cache=fast", "fast", "writeback")

    def test_not_writable(self):
        """An image without the right to write; root has it everywhere, so for root a file system without writing."""
        image = self.blank()
        os.chmod(image, 0o444)
        wrapper = []
        if os.getuid() == 0:
            here = self.folder.name
            wrapper = ["unshare", "--mount", "sh", "-c",
                       f"mount --bind {here} {here} && mount -o remount,ro,bind {here} || exit 77; exec \"$@\"", "sh"]
        self.refused(1, image + ",format=raw", image, "read-only", wrapper=wrapper)

    def test_a_second_writer(self):
        image = self.blank()
        with Guest("--disk", f"{image},format=raw") as guest:
            guest.boot()
            self.refused(1, f"{image},format=raw", image)
            self.assertEqual(guest.run("dd if=/dev/zero of=/dev/vda count=1 conv=fsync 2>/dev/null")[0], 0)

    def overlay(self):
        """An overlay whose backing file has been moved."""
        base, image = self.blank(name="base.img"), self.path("over.qcow2")
        subprocess.run([VENEER, "disk", "create", image, "-b", base, "-F", "raw"], check=True, stdout=subprocess.DEVNULL)
        os.rename(base, self.path("moved.img"))
        return image

    def test_a_backing_file_that_was_moved(self):
        image = self.overlay()
        before = self.digest(image, MIB)
        self.refused(1, f"{image},format=qcow2", f"the backing file of {image}", "No such file",
                     "veneer disk rebase --only-name")
        self.assertEqual(self.digest(image, MIB), before)

    def test_what_the_message_says_mends_it(self):
        image = self.overlay()
        subprocess.run([VENEER, "disk", "rebase", "--only-name", "-b", self.path("moved.img"), "-F", "raw", image], check=True,
                       stdout=subprocess.DEVNULL)
        with Guest("--disk", f"{image},format=qcow2") as guest:
            guest.boot()
            self.assertEqual(guest.run("cat /sys/block/vda/size"), (0, "131072"))

    def test_a_second_writer_on_qcow2(self):
        image = self.path("disk.qcow2")
        subprocess.run([VENEER, "disk", "create", image, "64M"], check=True, stdout=subprocess.DEVNULL)
        with Guest("--disk", f"{image},format=qcow2") as guest:
            guest.boot()
            self.refused(1, f"{image},format=qcow2", image, "in use")
            for words in (["disk", "resize", image, "1G"], ["disk", "check", "--repair", "all", image]):
                done = subprocess.run([VENEER, *words], capture_output=True, text=True)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("in use", done.stderr)
            self.assertEqual(guest.run("dd if=/dev/zero of=/dev/vda count=1 conv=fsync 2>/dev/null")[0], 0)
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)
        subprocess.run([VENEER, "disk", "check", image], check=True, stdout=subprocess.DEVNULL)

    def test_a_guest_cannot_choose_the_format(self):
        """A qcow2 header in the first sector of a raw disk whose format was only guessed (src/disk/probe.h)."""
        image = self.blank()
        header = "".join(f"\\{byte:03o}" for byte in b"QFI\xfb" + struct.pack(">I", 3))
        with Guest("--disk", image) as guest:
            guest.boot()
            self.assertNotEqual(
                guest.run(f"printf '{header}' | dd of=/dev/vda conv=fsync 2>/dev/null")[0], 0)


if __name__ == "__main__":
    unittest.main()
