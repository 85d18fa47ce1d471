"""Guests with several processors: all of them work, go off and on, restart and end."""
import os
import shutil
import tempfile
import time
import unittest

from guest import GUEST_DIR, VENEER, Guest

# Every processor adds up the same numbers at the same time, each bound to its own.
ALL_WORK = ("(for c in $(seq 0 $(($(nproc) - 1))); do taskset $(printf %x $((1 << c))) sh -c "
            "'i=0; s=0; while [ $i -lt 3000 ]; do i=$((i + 1)); s=$((s + i)); done; echo $s' & done; wait)")


class Smp(unittest.TestCase):
    def works(self, guest, cpus):
        self.assertEqual(guest.run("nproc"), (0, str(cpus)))
        status, sums = guest.run(ALL_WORK)
        self.assertEqual((status, sums.split()), (0, ["4501500"] * cpus))

    def ends(self, guest):
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(60), 0)

    def test_four_processors(self):
        with Guest("--cpus", "4") as guest:
            guest.boot()
            self.works(guest, 4)
            self.assertNotRegex(guest.run("dmesg")[1], r"BUG|WARNING|rcu.*stall|soft lockup|Call Trace")
            self.ends(guest)

    def test_four_processors_as_nobody(self):
        wrapper = []
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            for source in (VENEER, f"{GUEST_DIR}/vmlinuz", f"{GUEST_DIR}/initrd"):
                shutil.copy(source, folder)
            if os.getuid() == 0:
                wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]
            with Guest("--cpus", "4", wrapper=wrapper, veneer=f"{folder}/{os.path.basename(VENEER)}",
                       kernel=f"{folder}/vmlinuz", initrd=f"{folder}/initrd") as guest:
                guest.boot()
                self.works(guest, 4)
                self.ends(guest)

    def test_on_micro(self):
        with Guest("--cpus", "3", "--machine", "micro") as guest:
            guest.boot()
            self.works(guest, 3)
            self.ends(guest)

    def test_sixteen_processors(self):
        with Guest("--cpus", "16") as guest:
            guest.boot()
            self.assertEqual(guest.run("nproc"), (0, "16"))
            self.ends(guest)

    def test_maxcpus(self):
        with Guest("--cpus", "4", cmdline="console=ttyS0 quiet maxcpus=2") as guest:
            guest.boot()
            self.works(guest, 2)
            self.assertEqual(guest.run("cat /sys/devices/system/cpu/offline")[1], "2-3")
            self.assertEqual(guest.run("echo 1 > /sys/devices/system/cpu/cpu2/online")[0], 0)
            self.works(guest, 3)
            self.ends(guest)

    def test_off_and_on(self):
        with Guest("--cpus", "4") as guest:
            guest.boot()
            for _ in range(3):
                for cpu in (1, 2, 3):
                    self.assertEqual(guest.run(f"echo 0 > /sys/devices/system/cpu/cpu{cpu}/online")[0], 0)
                self.works(guest, 1)
                for cpu in (3, 1, 2):
                    self.assertEqual(guest.run(f"echo 1 > /sys/devices/system/cpu/cpu{cpu}/online")[0], 0)
                self.works(guest, 4)
            self.ends(guest)

    def test_reboot(self):
        with Guest("--cpus", "4") as guest:
            for _ in range(2):
                guest.boot()
                self.works(guest, 4)
                guest.type("reboot -f\n")
            guest.boot()
            self.works(guest, 4)
            self.ends(guest)

    def test_stolen_time(self):
        """Four busy processors on one core of the host: most of the time is somebody else's."""
        core = str(min(os.sched_getaffinity(0)))
        with Guest("--cpus", "4", wrapper=["taskset", "-c", core]) as guest:
            guest.boot()
            steal, used, clock = self.steal(guest), guest.processor_seconds(), time.monotonic()
            guest.run("(for c in 0 1 2 3; do timeout 3 sh -c 'while :; do :; done' & done; wait)")
            steal, used, clock = (self.steal(guest) - steal, guest.processor_seconds() - used, time.monotonic() - clock)
            self.assertGreater(steal, 0.6 * (4 * 3 - used), (used, clock))
            self.assertLess(steal, 4 * clock - used + 0.5, (used, clock))
            self.ends(guest)

    def steal(self, guest):
        """Seconds that the guest's processors did not get, all together."""
        return int(guest.run("head -n 1 /proc/stat")[1].split()[8]) / 100

    def test_panic_of_one_stops_all(self):
        with Guest("--cpus", "4", "--no-reboot", cmdline="console=ttyS0 quiet panic=-1") as guest:
            guest.boot()
            guest.type("taskset 4 sh -c 'echo c > /proc/sysrq-trigger'\n")
            self.assertEqual(guest.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
