#!/usr/bin/env python3
"""The time from start to the login prompt of a disk image, under Veneer and under QEMU's translator, in turns.

usage: login.py IMAGE [--veneer FILE] [--qemu FILE] [--rounds N] [--firmware seabios|ovmf] [--memory SIZE] [--cpus N]
The image (veneer image build debian -o IMAGE) is not written to. Pairs run one after the other, so that other load on the host meets
both alike; printed are each pair's ratio and the medians.
"""
import argparse
import os
import shutil
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
from guest import Guest  # noqa: E402


def seconds(command):
    start = time.monotonic()
    with Guest(command=command, escapes=False) as guest:
        guest.expect("login: ", 600)
        return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64") or "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--firmware", default="seabios", choices=["seabios", "ovmf"])
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--cpus", default="1")
    options = parser.parse_args()

    veneer = [options.veneer, "run", f"{options.image},snapshot", "--memory", options.memory, "--cpus", options.cpus,
              "--net", "user"]
    qemu = [options.qemu, "-accel", "tcg", "-cpu", "max", "-m", options.memory, "-smp", options.cpus, "-nographic",
            "-snapshot", "-drive", f"file={options.image},if=virtio", "-netdev", "user,id=n0", "-device",
            "virtio-net-pci,netdev=n0"]
    if options.firmware == "ovmf":
        veneer += ["--firmware", "ovmf,vars=none"]
        qemu += ["-bios", "/usr/share/ovmf/OVMF.fd"]
    results = {"veneer": [], "qemu": []}
    for number in range(options.rounds):
        results["veneer"].append(seconds(veneer))
        text = f"pair {number + 1}: veneer {results['veneer'][-1]:.1f} s"
        if options.qemu:
            results["qemu"].append(seconds(qemu))
            text += f", qemu {results['qemu'][-1]:.1f} s, {results['qemu'][-1] / results['veneer'][-1]:.1f} times"
        print(text, flush=True)
    for name, values in results.items():
        if values:
            print(f"{name}: median {statistics.median(values):.1f} s")


if __name__ == "__main__":
    main()
