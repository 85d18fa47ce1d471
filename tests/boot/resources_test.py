"""What a machine costs its host: memory besides the guest's, processor time of an idle guest.

tests/boot/CMakeLists.txt runs each method as one ctest. By hand, as in boot_test.py.
"""
import os
import re
import time
import unittest

from guest import Guest

MIB = 1 << 20


def resident_bytes(pid):
    """(guest RAM, everything else) in bytes, from the process's mappings."""
    ram = rest = 0
    in_ram = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                in_ram = "/memfd:veneer-" in line and not re.search(r"veneer-(code|vcpu)", line)
            elif line.startswith("Pss:"):
                size = int(line.split()[1]) * 1024
                if in_ram:
                    ram += size
                else:
                    rest += size
    return ram, rest


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Resources(unittest.TestCase):
    def test_memory_beyond_the_guests(self):
        with Guest("--memory", "512M") as guest:
            guest.boot()
            guest.run("find / -xdev -type f | head -200 | xargs md5sum >/dev/null; head -c 50000000 /dev/zero | md5sum")
            ram, rest = resident_bytes(guest.process.pid)
            self.assertGreater(ram, 30 * MIB, "the guest's memory was not found among the mappings")
            self.assertLess(rest, 512 * MIB // 10 + 64 * MIB)

    def test_an_idle_guest_sleeps(self):
        with Guest() as guest:
            guest.boot()
            time.sleep(5)
            before = cpu_seconds(guest.process.pid)
            time.sleep(20)
            used = cpu_seconds(guest.process.pid) - before
            self.assertLess(used / 20, 0.02)
