#!/usr/bin/env python3
"""iperf3 in the guest against the host's loopback, under Veneer and under QEMU's translator, in turns.

usage: network.py --guest DIR [--veneer FILE] [--qemu FILE] [--seconds N] [--rounds N] [--card virtio|e1000] [--parallel N]
DIR has what guest/build_demo.sh and guest/build_iperf.sh made. Both guests stay up, and are measured in turns, so that other load on the
host meets both alike; the numbers are still only worth something on a host that has a core to spare beside the guest's.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
from guest import Guest  # noqa: E402


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(guest, seconds, reverse, parallel):
    """Mbit/s as the receiver counts."""
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port), "-J"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        status, output = guest.run(f"sleep 0.5; iperf3 -c 10.0.2.2 -p {port} -t {seconds} -P {parallel} -f m"
                                   f"{' -R' if reverse else ''}", seconds * 4 + 60)
        lines = [line for line in output.split("\n") if "receiver" in line and (parallel == 1 or "SUM" in line)]
        if status != 0 or not lines:
            raise RuntimeError(output)
        return float(re.search(r"([\d.]+) Mbits/sec", lines[-1])[1])
    finally:
        server.kill()
        server.wait()


def start(command):
    guest = Guest(command=command)
    guest.boot(300)
    guest.run("n=0; until ip -4 addr show eth0 | grep -q inet || [ $n = 200 ]; do sleep 0.1; n=$((n + 1)); done", 60)
    return guest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--guest", required=True)
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64") or "")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--card", default="virtio", choices=["virtio", "e1000"])
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--kernel")
    parser.add_argument("--initrd")
    options = parser.parse_args()
    if not shutil.which("iperf3"):
        sys.exit("network.py: there is no iperf3 (Debian package iperf3)")
    kernel = options.kernel or f"{options.guest}/vmlinuz"
    initrd = options.initrd or f"{options.guest}/iperf.initrd"
    commands = {"veneer": [options.veneer, "run", "--memory", "512M", "--kernel", kernel, "--initrd", initrd,
                           "--cmdline", "console=ttyS0 quiet", "--net", f"user,model={options.card}"]}
    if options.qemu:
        card = {"virtio": "virtio-net-pci", "e1000": "e1000"}[options.card]
        commands["qemu"] = [options.qemu, "-accel", "tcg", "-cpu", "max", "-m", "512M", "-display", "none", "-monitor",
                            "none", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append",
                            "console=ttyS0 quiet", "-netdev", "user,id=n0", "-device", f"{card},netdev=n0"]
    guests = {}
    try:
        for name, command in commands.items():
            guests[name] = start(command)
        results = {name: {"out": [], "in": []} for name in guests}
        for _ in range(options.rounds):
            for direction in ("out", "in"):
                for name, guest in guests.items():
                    speed = measure(guest, options.seconds, direction == "in", options.parallel)
                    results[name][direction].append(speed)
                    print(f"{name:7} {direction:3} {speed:8.0f} Mbit/s", flush=True)
        for direction in ("out", "in"):
            medians = {name: statistics.median(values[direction]) for name, values in results.items()}
            text = ", ".join(f"{name} {value:.0f} Mbit/s" for name, value in medians.items())
            if "qemu" in medians:
                text += f", {medians['veneer'] / medians['qemu']:.1f} times"
            print(f"{direction}: {text}")
        print(json.dumps(results))
    finally:
        for guest in guests.values():
            guest.process.kill()
            guest.process.wait()


if __name__ == "__main__":
    main()
