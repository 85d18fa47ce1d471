#!/usr/bin/env python3
"""Runs many idle guests at once and reports what each costs its host: memory, processor time, threads, wake-ups.

usage: tools/many.py [N] [--memory MIB] [--machine pc|micro] [--kernel FILE] [--append WORDS] [--seconds S]
                     [--max-cpu PERCENT] [--max-memory MIB] [--veneer FILE] [--guest DIR]

The kernel is DIR/vmlinux (guest/build_small.sh): Debian's bzImage wants 68 MiB just to unpack itself. It runs with
lockdown=confidentiality, since without it the files of tracefs alone take 5 MiB of the 18 that are left.

Every guest boots, is asked something at its console, sleeps for S seconds, and is asked again. Fails (status 1) when one
does not answer, or when the mean of processor time or of memory beyond the guest's is above its limit.
"""
import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=100, metavar="N")
    parser.add_argument("--memory", type=int, default=64, metavar="MIB")
    parser.add_argument("--kernel", metavar="FILE", help="instead of DIR/vmlinux")
    parser.add_argument("--append", default="lockdown=confidentiality", metavar="WORDS", help="for the kernel's command line")
    parser.add_argument("--machine", default="micro")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--at-once", type=int, default=2 * (os.cpu_count() or 1), help="how many boot at the same time")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one boot")
    parser.add_argument("--max-cpu", type=float, default=1.0, metavar="PERCENT", help="of one processor, mean of all guests")
    parser.add_argument("--max-memory", type=float, default=24, metavar="MIB", help="beyond the guest's, mean of all guests")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--guest", default="build/guest", help="folder with vmlinux and initrd")
    return parser.parse_args()


class Console:
    """A machine's serial console through its control socket (docs/control.md)."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(b'{"command": "attach"}\n')
        self.seen = b""

    def expect(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen, re.MULTILINE)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing like {pattern!r} in {timeout:.0f} s; the end of the console:\n" + self.seen[-600:].decode("utf-8", "replace"))
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                continue
            if not data:
                raise ConnectionError("the machine has gone; the end of its console:\n" + self.seen[-600:].decode("utf-8", "replace"))
            self.seen = (self.seen + data)[-65536:]
        self.seen = self.seen[found.end():]

    def answers(self, number, timeout):
        self.socket.sendall(f"echo $(({number} * 7))\n".encode())
        self.expect(rb"^%d\r" % (number * 7), timeout)


class Machine:
    def __init__(self, number, options, environment):
        self.number, self.name = number, f"many{number}"
        run = subprocess.run([options.veneer, "run", "--detach", "--name", self.name, "--machine", options.machine,
                              "--memory", f"{options.memory}M", "--kernel", options.kernel or f"{options.guest}/vmlinux",
                              "--initrd", f"{options.guest}/initrd", "--cmdline", f"console=ttyS0 quiet {options.append}"],
                             env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if run.returncode != 0:
            raise ChildProcessError(f"machine {number} does not start: {run.stderr}")
        folder = f"{environment['XDG_RUNTIME_DIR']}/veneer/{self.name}"
        with open(f"{folder}/pid", encoding="ascii") as f:
            self.pid = int(f.read())
        self.console = Console(f"{folder}/control")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self):
        """Times that a thread gave its processor away because it had nothing to do."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status", encoding="ascii") as f:
                total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.MULTILINE)[1])
        return total

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


def report(what, values, unit):
    print(f"{what:34} mean {statistics.mean(values):8.2f}  least {min(values):8.2f}  most {max(values):8.2f}  {unit}")


def run(options, environment, machines):
    from resources_test import resident_bytes
    started = time.monotonic()
    for number in range(1, options.count + 1):
        machines.append(Machine(number, options, environment))
        if number > options.at_once:
            machines[number - options.at_once - 1].console.expect(rb"veneer:[^\n]*# ", options.timeout)
    for machine in machines[-options.at_once:]:
        machine.console.expect(rb"veneer:[^\n]*# ", options.timeout)
    for machine in machines:
        machine.console.answers(machine.number, options.timeout)
    print(f"{options.count} guests of {options.memory} MiB ({options.machine}) answer after {time.monotonic() - started:.1f} s", flush=True)

    time.sleep(8)  # a guest that was idle for 5 s gives memory back
    begun = time.monotonic()
    before = [(m.cpu_seconds(), m.wakeups()) for m in machines]
    time.sleep(options.seconds)
    after = [(m.cpu_seconds(), m.wakeups()) for m in machines]
    slept = time.monotonic() - begun
    memory = [resident_bytes(m.pid) for m in machines]
    for machine in machines:
        machine.console.answers(machine.number + 1000, options.timeout)
    print(f"all answer again after {options.seconds:.0f} s of rest")

    cpu = [100 * (b[0] - a[0]) / slept for a, b in zip(before, after)]
    rest = [m[1] / MIB for m in memory]
    report("processor time of an idle guest", cpu, "% of one")
    report("wake-ups", [(b[1] - a[1]) / slept for a, b in zip(before, after)], "per second")
    report("the guest's memory that is in use", [m[0] / MIB for m in memory], "MiB")
    report("host memory beyond it", rest, "MiB")
    report("threads", [m.threads() for m in machines], "")
    print(json.dumps({"guests": options.count, "cpu_percent": statistics.mean(cpu), "rest_mib": statistics.mean(rest),
                      "ram_mib": statistics.mean(m[0] / MIB for m in memory)}))
    if statistics.mean(cpu) > options.max_cpu:
        raise ValueError(f"an idle guest takes {statistics.mean(cpu):.2f}% of a processor; the limit is {options.max_cpu}%")
    if statistics.mean(rest) > options.max_memory:
        raise ValueError(f"a guest takes {statistics.mean(rest):.1f} MiB beyond its own memory; the limit is {options.max_memory} MiB")


def main():
    options = arguments()
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
    machines = []
    with tempfile.TemporaryDirectory() as runtime:
        try:
            run(options, dict(os.environ, XDG_RUNTIME_DIR=runtime), machines)
        except (TimeoutError, ConnectionError, ChildProcessError, ValueError) as failure:
            sys.exit(f"many failed: {failure}")
        finally:
            for machine in machines:
                try:
                    os.kill(machine.pid, signal.SIGINT)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + 60
            while any(os.path.exists(f"/proc/{m.pid}") for m in machines) and time.monotonic() < deadline:
                time.sleep(0.1)


if __name__ == "__main__":
    main()
