"""Whole machines saved to a file and restored into a new process."""
import os
import re
import shutil
import subprocess
import time
import unittest

from guest import SCALE, veneer_command
from machines_test import SMALL, WithMachines

# Counts, and checks at every step that what it has in memory is what it should be.
COUNTER = r"""sum=0; i=0; while :; do i=$((i + 1)); sum=$((sum + i)); [ $((i * (i + 1) / 2)) = $sum ] || { echo WRONG; break; }
[ $((i % 1000)) = 0 ] && echo count $i; done &"""

# The same as a script that says on which processor it counts.
COUNTER_ON = ("echo 'i=0; s=0; while :; do i=$((i+1)); s=$((s+i)); [ $((i*(i+1)/2)) = $s ] || { echo WRONG; break; }; "
              "[ $((i % 1000)) = 0 ] && echo cpu$1 $i; done' >/tmp/count; ")


class WithSaved(WithMachines):
    """One file for a saved machine, and machines made from it."""

    def saved(self, *flags):
        return os.path.join(self.runtime.name, "saved")

    def begin(self, kind):
        flags = ["--machine", kind, "--memory", "96M"]
        self.veneer(*self.command("one", *flags))
        console = self.attach("one")
        console.wait_for_prompt()
        return console

    def command(self, name, *flags, **where):
        return veneer_command("--detach", "--name", name, *flags, **where)[1:]

    def restore(self, name, *flags):
        self.veneer("run", "--detach", "--name", name, "--restore", self.saved(), *flags)


class Restored(WithSaved):
    def counting_goes_on(self, kind):
        with self.begin(kind) as console:
            console.type(COUNTER.replace("\n", "; ") + "\n")
            console.expect(r"^count \d+000\r", 60)
            before = int(re.findall(r"^count (\d+)\r", console.console, re.MULTILINE)[-1])
            self.veneer("save", "one", self.saved())
        self.veneer("kill", "one")
        self.restore("two")
        with self.attach("two") as console:
            first = int(console.expect(r"^count (\d+)\r", 60)[1])
            self.assertGreater(first, before)
            self.assertLess(first, before + 200000)
            for step in range(1, 6):
                self.assertEqual(int(console.expect(r"^count (\d+)\r", 60)[1]), first + 1000 * step)
            console.type("kill %1\n")
            time.sleep(1)
            console.type("\n")
            self.assertEqual(console.run("echo $((6 * 7))")[1].split("\n")[-1], "42")
            self.assertNotRegex(console.console, r"(?m)^WRONG")
            # Timers run, and no processor was found stuck.
            self.assertEqual(console.run("sleep 1 && echo slept")[1], "slept")
            self.assertEqual(console.run("dmesg | grep -E 'BUG:|Oops|stall|soft lockup|unstable'")[1], "")
            self.assertEqual(console.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c")[1], "64")
        self.veneer("stop", "two")

    def test_counting_goes_on_pc(self):
        self.counting_goes_on("pc")

    def test_counting_goes_on_micro(self):
        self.counting_goes_on("micro")

    def test_the_saved_machine_goes_on_too(self):
        with self.begin("micro") as console:
            self.veneer("save", "one", self.saved())
            self.assertEqual(console.run("echo still here")[1], "still here")

    def test_clock_is_continuous(self):
        with self.begin("pc") as console:
            uptime = float(console.run("cut -d' ' -f1 /proc/uptime")[1])
            self.veneer("save", "one", self.saved())
        self.veneer("kill", "one")
        time.sleep(3)
        self.restore("two")
        with self.attach("two") as console:
            console.type("\n")
            begun = time.monotonic()
            after = float(console.run("cut -d' ' -f1 /proc/uptime")[1])
            self.assertGreaterEqual(after, uptime)
            self.assertLess(after - uptime, 2.5 + 20 * (SCALE - 1) + time.monotonic() - begun)

    def test_saved_again_it_is_the_same(self):
        """Restored and not run, a machine saves the state that it came from."""
        with self.begin("pc"):
            self.veneer("monitor", "one", "pause")
            self.veneer("save", "one", self.saved())
        self.restore("two", "--paused")
        self.wait_until(lambda: [m["state"] for m in self.list() if m["name"] == "two"] == ["paused"])
        again = self.saved() + "-again"
        self.veneer("save", "two", again)
        with open(self.saved(), "rb") as one, open(again, "rb") as two:
            one_header, two_header = one.read(72), two.read(72)
            one.seek(4096)
            two.seek(4096)
            differing = sum(a != b for a, b in zip(one.read(65536), two.read(65536)))
        self.assertEqual(one_header[48:64], two_header[48:64])  # size and checksum of RAM
        self.assertEqual(one_header[24:32], two_header[24:32])  # size of the state
        # Between restoring and pausing the clocks ran for some milliseconds: what is left of timers differs.
        self.assertLess(differing, 200)


class Processors(WithSaved):
    def test_four_at_work(self):
        """Each adds up numbers, and all wake one another, while the machine is saved: three times in a row."""
        self.veneer(*self.command("one", "--cpus", "4", "--memory", "128M"))
        with self.attach("one") as console:
            console.wait_for_prompt()
            console.type(COUNTER_ON + "for c in 0 1 2 3; do taskset $(printf %x $((1 << c))) sh /tmp/count $c & done\n")
            console.type("while :; do echo x | cat | cat; done >/dev/null &\n")
            for c in range(4):
                console.expect(rf"cpu{c} \d+000\r", 60)
        machine = "one"
        for after in ("two", "three", "four"):
            self.veneer("save", machine, self.saved())
            self.veneer("kill", machine)
            self.restore(after)
            with self.attach(after) as console:
                for c in range(4):
                    console.expect(rf"cpu{c} \d+000\r", 60)
            machine = after
        with self.attach(machine) as console:
            console.type("kill $(jobs -p); killall sh cat; sleep 1\n")
            time.sleep(2)
            console.type("\n")
            self.assertNotRegex(console.console, r"(?m)^WRONG")
            self.assertEqual(console.run("nproc")[1], "4")
            self.assertEqual(console.run("dmesg | grep -E 'BUG|Oops|stall|soft lockup|unstable|WARNING'")[1], "")
        self.veneer("stop", machine)

    def test_halted_and_not_started(self):
        """Two run and are idle, one was taken off, one has never been started: all come on after the restore."""
        self.veneer(*self.command("one", "--cpus", "4", "--memory", "128M", cmdline="console=ttyS0 quiet maxcpus=3"))
        with self.attach("one") as console:
            console.wait_for_prompt()
            self.assertEqual(console.run("echo 0 >/sys/devices/system/cpu/cpu1/online; nproc"), (0, "2"))
        self.veneer("save", "--stop", "one", self.saved())
        self.restore("two")
        with self.attach("two") as console:
            console.type("\n")
            self.assertEqual(console.run("nproc")[1], "2")
            self.assertEqual(console.run("for c in 1 3; do echo 1 >/sys/devices/system/cpu/cpu$c/online; done; nproc"), (0, "4"))
            self.assertEqual(console.run("for c in 1 2 4 8; do taskset $c sh -c 'echo -n $((6 * 7))' & done; wait")[1].count("42"), 4)
            self.assertEqual(console.run("dmesg | grep -E 'BUG|Oops|stall|soft lockup|unstable|WARNING'")[1], "")
        self.veneer("stop", "two")


class Disks(WithSaved):
    """The guest writes and flushes numbered blocks while the machine is saved; the restored one goes on with the same disk."""
    WRITER = ("i=0; while :; do i=$((i+1)); printf '%015d\\n' $i | dd of={device} bs=512 seek=$((i % 2000)) conv=sync,notrunc,fsync 2>/dev/null"
              " || echo WRONG write $i; [ $((i % 20)) = 0 ] && echo wrote $i; done &")
    # Every block that the guest believes written is there.
    CHECK = ("for k in $(seq $((last - 15)) $last); do [ \"$(dd if={device} bs=512 skip=$((k % 2000)) count=1 2>/dev/null | head -c 15)\" = "
             "$(printf %015d $k) ] || echo WRONG block $k; done; echo checked")

    def goes_on(self, options, format_name, device, cpus="1"):
        image = os.path.join(self.runtime.name, "disk")
        self.veneer("disk", "create", "-f", format_name, image, "16M")
        disk = f"{image},format={format_name}{options}"
        self.veneer(*self.command("one", "--cpus", cpus, "--memory", "128M", "--disk", disk))
        with self.attach("one") as console:
            console.wait_for_prompt()
            console.type(self.WRITER.format(device=device) + "\n")
            console.expect(r"^wrote \d+\r", 60)
        self.veneer("save", "one", "--stop", self.saved())
        self.restore("two")
        with self.attach("two") as console:
            first = int(console.expect(r"^wrote (\d+)\r", 60)[1])
            last = int(console.expect(rf"^wrote ({first + 40})\r", 60)[1])
            console.type("kill %1; sleep 1\n")
            time.sleep(1.5)
            console.type("\n")
            console.run("echo 3 >/proc/sys/vm/drop_caches")
            self.assertEqual(console.run(f"last={last}; " + self.CHECK.format(device=device))[1], "checked")
            self.assertNotRegex(console.console, r"(?m)^WRONG")
            self.assertEqual(console.run("dmesg | grep -E 'BUG|Oops|stall|I/O error|timeout|WARNING'")[1], "")
        self.veneer("kill", "two")
        if format_name == "qcow2":
            self.veneer("disk", "check", image)

    def test_virtio_raw(self):
        self.goes_on("", "raw", "/dev/vda")

    def test_virtio_qcow2_on_four_processors(self):
        self.goes_on("", "qcow2", "/dev/vda", "4")

    def test_nvme_qcow2(self):
        self.goes_on(",if=nvme", "qcow2", "/dev/nvme0n1", "2")

    def test_nvme_raw_with_threads_and_a_rate(self):
        self.goes_on(",if=nvme,aio=threads,iops=200", "raw", "/dev/nvme0n1")

    def save_with_disk(self, *flags):
        image = os.path.join(self.runtime.name, "disk")
        self.veneer("disk", "create", "-f", "raw", image, "16M")
        self.veneer(*self.command("one", "--machine", "micro", "--memory", "96M", "--disk", f"{image},format=raw"))
        with self.attach("one") as console:
            console.wait_for_prompt()
            console.run("echo before | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null")
        self.veneer("save", "one", *flags, self.saved())
        return image

    def refuses(self, message, *flags):
        self.veneer("run", "--restore", self.saved(), "--name", "two", *flags, status=1, stdin=subprocess.DEVNULL)
        self.assertIn(message, self.stderr)

    def test_refused(self):
        image = self.save_with_disk()
        self.refuses("disk vda")  # the first machine still has it
        self.veneer("kill", "one")
        shutil.copy(image, image + ".copy")
        self.refuses("--disk was given for 2", "--disk", image + ".copy,format=raw", "--disk", image + ",format=raw")
        with open(image, "r+b") as file:
            file.write(b"after")
        self.refuses("has been written since the machine was saved")
        os.truncate(image, 17 << 20)
        self.refuses("has 17825792 bytes, and the saved machine's had 16777216")
        os.unlink(image)
        self.refuses(image)
        # A copy, made in time, will do.
        self.restore("two", "--disk", image + ".copy,format=raw")
        with self.attach("two") as console:
            console.type("\n")
            self.assertEqual(console.run("dd if=/dev/vda bs=7 count=1 iflag=direct 2>/dev/null || head -c 6 /dev/vda")[1], "before")
        self.veneer("kill", "two")

    def test_dropped_changes_cannot_be_saved(self):
        image = os.path.join(self.runtime.name, "disk")
        self.veneer("disk", "create", "-f", "raw", image, "16M")
        self.veneer(*self.command("one", "--machine", "micro", "--memory", "96M", "--disk", f"{image},format=raw,snapshot"))
        self.veneer("save", "one", self.saved(), status=1)
        self.assertIn("snapshot=on", self.stderr)


class Monitor(WithSaved):
    def test_save_at_the_monitor(self):
        self.begin("micro").__exit__()
        self.veneer("monitor", "one", "save", self.saved())
        self.veneer("kill", "one")
        self.restore("two")
        with self.attach("two") as console:
            console.type("\n")
            self.assertEqual(console.run("echo $((6 * 7))")[1], "42")


class Refused(WithMachines):
    """Files that are no saved machine."""

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.runtime.name, "saved")

    def refused(self, content, message):
        if content is not None:
            with open(self.path, "wb") as file:
                file.write(content)
        self.veneer("run", "--restore", self.path, status=1)
        self.assertIn(message, self.stderr)

    def test_foreign_files(self):
        self.refused(None, "cannot open it")
        self.refused(b"", "too short")
        self.refused(b"hello" * 1000, "not a machine that veneer save has written")

    def test_damaged_files(self):
        self.start("one")
        self.wait_until(lambda: self.list()[0]["cpu_seconds"] > 0.3)
        self.veneer("save", "one", self.path)
        with open(self.path, "rb") as file:
            good = file.read()
        self.refused(good[:-4096], "cut short")
        self.refused(good[:4096], "cut short")
        other = good[8] ^ 0x80
        self.refused(good[:8] + bytes([other]) + good[9:], f"version {other} of the format")
        self.refused(good[:40] + b"\xff" + good[41:], "header is damaged")
        self.refused(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:], "state is damaged")
        middle = len(good) // 2
        at = next(i for i in range(middle, len(good)) if good[i])
        self.refused(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:], "memory is damaged")
        self.assertLess(os.stat(self.path).st_size, 120 << 20)

    def test_a_file_is_whole_or_not_there(self):
        self.start("one")
        self.veneer("save", "one", "/proc/saved", status=1)
        self.assertIn("making a file beside /proc/saved", self.stderr)
        self.veneer("save", "one", self.path)
        self.assertEqual([name for name in os.listdir(self.runtime.name) if name.startswith("saved")], ["saved"])


if __name__ == "__main__":
    assert SMALL
    unittest.main()
