"""Builds the hostile kernel (tests/guest/hostile) and drives one run of it."""
import os
import re
import signal
import subprocess
import tempfile
import time

from kernel import SCALE  # noqa: F401 (its path comes with it)
from guest import VENEER, Guest
from tiny_kernel import ENTRY_64, LOAD_ADDRESS, bzimage

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hostile")
STORMS = ("self_modifying aliases random_user_code page_tables locked stacks strange_code interrupts descriptors "
          "model_specific ports control_registers devices hypercalls own_lapic").split()
FLAGS = ("-std=gnu11 -O1 -ffreestanding -fno-stack-protector -fno-pic -mno-red-zone -mgeneral-regs-only -fno-builtin "
         "-fno-asynchronous-unwind-tables -Wall -Wextra -Werror").split()


def build(folder, seed, storms=STORMS, sources=("main.c", "memory.c", "system.c")):
    """Path of a kernel file in `folder` that does these storms; or one of other sources, that starts in the same way."""
    wanted = sum(1 << STORMS.index(storm) for storm in storms)
    with open(f"{folder}/choice.c", "w") as file:
        file.write(f"const unsigned long seed = {seed}, storms_wanted = {wanted};\n")
    objects = []
    for source in (f"{HERE}/start.S", *(f"{HERE}/{name}" for name in sources), f"{folder}/choice.c"):
        objects.append(f"{folder}/{os.path.basename(source)}.o")
        subprocess.run(["gcc", *FLAGS, "-c", "-o", objects[-1], source], check=True)
    with open(f"{folder}/script.ld", "w") as file:
        file.write(f"SECTIONS {{ . = {LOAD_ADDRESS + ENTRY_64:#x}; .text : {{ *(.text*) *(.rodata*) *(.data*) }}\n"
                   " . = ALIGN(0x200000); bss_begin = .; .bss : { *(.bss*) *(COMMON) } . = ALIGN(8); bss_end = .;\n"
                   " /DISCARD/ : { *(.note*) *(.comment) } }\n")
    subprocess.run(["ld", "-n", "--no-warn-rwx-segments", "-T", f"{folder}/script.ld", "-e", "0", "-o", f"{folder}/hostile.elf", *objects],
                   check=True)
    subprocess.run(["objcopy", "-O", "binary", "-R", ".bss", f"{folder}/hostile.elf", f"{folder}/hostile.bin"],
                   check=True)
    with open(f"{folder}/hostile.bin", "rb") as file:
        code = file.read()
    path = f"{folder}/kernel"
    with open(path, "wb") as file:
        file.write(bzimage(code))
    return path


class Report:
    """What one run came to. `failures` is empty when all is well."""

    def __init__(self):
        self.failures = []
        self.memory_mib = []    # resident memory, about once a second
        self.quiet_s = 0        # the longest time without a letter: much of it, and little was tested
        self.console = ""
        self.messages = ""

    @property
    def steps(self):
        return 64 * sum(self.console.count(letter) for letter in "abcdefgh")

    @property
    def starts(self):
        return self.console.count(">")

    def line(self):
        return (f"about {self.steps} steps, {self.starts} starts of the machine, {self.console.count('!')} of a lost "
                f"processor, silent for {self.quiet_s:.0f} s at most; resident "
                f"{self.memory_mib[0]:.0f} MiB at first, {max(self.memory_mib):.0f} at most, "
                f"{self.memory_mib[-1]:.0f} at the end"
                + ("" if can_tell_growth(self.memory_mib) else " (too short to see growth)"))


def can_tell_growth(memory_mib):
    """Five minutes: on 8 processors, under ASan, 246 MiB after 40 s had become 261 after two minutes, and no more."""
    return len(memory_mib) >= 300


def grows(memory_mib):
    """Whether a second half needs more than its first: what fills up does so in the first half; a leak goes on."""
    half = len(memory_mib) // 2
    return can_tell_growth(memory_mib) and max(memory_mib[half:]) > 1.1 * max(memory_mib[:half]) + 16


def resident_mib(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def stopped(pid):
    """By a signal (job control)."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def bound_mib(cpus):
    """Guest memory, code cache with its tables, and per processor what its contexts may fill; then the program."""
    return 64 + 64 + cpus * 12 * 9 + 64


def run(cpus, seconds, seed, storms=STORMS, flags=(), silence=60, allow_mib=0, veneer=VENEER):
    """Runs the kernel for so long. Fails: an end of its own, a finding of a sanitizer, no sign of life, memory without
    bound or still growing in the second half, no end when told to."""
    report = Report()
    longest = min(silence * SCALE, max(15, seconds / 2))  # seconds; silent for longer, it tests too little
    with tempfile.TemporaryDirectory() as folder:
        kernel = build(folder, seed, storms)
        with Guest("--memory", "64M", "--cpus", str(cpus), *flags, kernel=kernel, initrd="", cmdline="",
                   veneer=veneer) as guest:
            try:
                guest.expect("^>", 60)
            except AssertionError as problem:
                report.failures.append(f"it did not start: {problem}")
            deadline = time.monotonic() + seconds
            heard, quiet = "", 0  # seconds; not those in which somebody had stopped the machine, or us
            while not report.failures and time.monotonic() < deadline:
                nap = min(1, max(0.05, deadline - time.monotonic()))
                time.sleep(nap)
                if guest.process.poll() is not None:
                    report.failures.append(f"it ended by itself, with status {guest.process.poll()}")
                    break
                report.memory_mib.append(resident_mib(guest.process.pid))
                if len(guest.console) != len(heard):
                    heard, quiet = guest.console, 0
                elif not stopped(guest.process.pid):
                    quiet += nap
                    report.quiet_s = max(report.quiet_s, quiet)
                if quiet > longest:
                    report.failures.append(f"nothing was heard of it for {quiet:.0f} s")
                    break
            report.memory_mib = report.memory_mib or [0]
            if guest.process.poll() is None:
                guest.signal(signal.SIGINT)
                try:
                    status = guest.wait(20)
                    if status != 1:
                        report.failures.append(f"told to end, it ended with status {status}")
                except AssertionError:
                    report.failures.append("told to end, it went on")
            report.console, report.messages = guest.console, guest.stderr()
    if found := re.search(r"Sanitizer|runtime error|ASSERT|assert|internal|Segmentation|sandbox.*call", report.messages):
        report.failures.append(f"a finding ({found[0]})")
    if max(report.memory_mib) > bound_mib(cpus) + allow_mib:
        report.failures.append(f"{max(report.memory_mib):.0f} MiB resident, more than {bound_mib(cpus) + allow_mib}")
    if grows(report.memory_mib):
        series = " ".join(f"{mib:.0f}" for mib in report.memory_mib[::max(1, len(report.memory_mib) // 20)])
        report.failures.append(f"it grows: {series} MiB")
    return report
