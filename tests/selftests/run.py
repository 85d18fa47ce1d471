#!/usr/bin/env python3
"""The Linux kernel's x86 selftests in a guest, against the list of expected results.

usage: run.py --selftests OUT --kernel VMLINUZ (--veneer BINARY | --qemu) [--width 64|32] [--cpus N]
OUT is what build.sh made. expected.txt has a line for each program: name, exit status under the 64-bit kernel and
under an i386 one (- where it is not run), FAIL lines allowed, and the reason. Exit status 1 when anything differs.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def expected(width):
    """Program -> (status, number of [FAIL] lines)."""
    rows = {}
    for line in (HERE / "expected.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, in_64, in_32, fails = line.split(None, 4)[:4]
        status = in_64 if width == 64 else in_32
        if status != "-":
            rows[name] = (int(status), int(fails))
    return rows


def run(arguments, console):
    initrd = f"{arguments.selftests}/initrd-{arguments.width}"
    cmdline = "console=ttyS0 quiet panic=-1"
    if arguments.qemu:
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(arguments.cpus), "-m", "512",
                   "-kernel", arguments.kernel, "-initrd", initrd, "-append", cmdline, "-no-reboot", "-display", "none",
                   "-monitor", "none", "-serial", f"file:{console}"]
    else:
        command = [arguments.veneer, "run", "--kernel", arguments.kernel, "--initrd", initrd, "--cmdline", cmdline,
                   "--memory", "512M", "--cpus", str(arguments.cpus), "--no-reboot", "--serial", f"file:{console}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=arguments.timeout, check=False)


def results(text):
    """Program -> (status, number of [FAIL] lines), from the console."""
    found = {}
    for match in re.finditer(r"^BEGIN (\S+)\r?\n(.*?)^END \1 (\d+)", text, re.M | re.S):
        found[match[1]] = (int(match[3]), match[2].count("[FAIL]"))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selftests", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--qemu", action="store_true", help="under QEMU's TCG, to compare")
    parser.add_argument("--width", type=int, choices=(64, 32), default=64)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=3600)
    parser.add_argument("--console", help="keep the console there")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as work:
        console = arguments.console or f"{work}/console"
        run(arguments, console)
        text = pathlib.Path(console).read_text(errors="replace")
    found, wanted = results(text), expected(arguments.width)
    bad = 0
    for name in sorted(found.keys() | wanted.keys()):
        have, want = found.get(name), wanted.get(name)
        if have != want:
            bad += 1
            print(f"{name}: (status, failures) {have}, expected {want}")
    print(f"{len(found)} programs, {bad} not as expected")
    if "ALL-DONE" not in text:
        print("the guest did not get to the end")
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
