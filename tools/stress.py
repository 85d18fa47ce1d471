#!/usr/bin/env python3
"""Runs stress-ng with --verify in a guest and looks for anything that goes wrong in it or grows around it.

usage: tools/stress.py [--seconds S] [--cpus N] [--memory MIB] [--veneer FILE] [--guest DIR] [-- FLAGS OF veneer run]

A round runs each phase for the same time; rounds follow one another until the time is over. It fails when stress-ng finds a wrong
result or ends badly, when the guest's kernel reports a bug, a warning, a stall, a hung task or a lockup, when the guest
stops answering, and when the process takes more host memory than the bound in `bound_bytes` allows, or still grows in
the last half of a long run. Prints a line for each phase; exit status 1 for a failure, with the console in --log.
"""
import argparse
import os
import re
import sys
import time

MIB = 1 << 20

# Each for the number of CPUs that the guest has; memory is bounded, so that the guest does not kill for the lack of it.
PHASES = {
    "cpu": "--cpu {n} --cpu-method all --matrix 1 --crypt 1",
    "vm": "--vm {n} --vm-method all --vm-bytes {quarter}M",
    "fork": "--fork {n} --vfork 1 --exec 1",
    "mmap": "--mmap {n} --mmap-bytes {quarter}M --mremap 1 --mremap-bytes 8M --mprotect 1",
    "futex": "--futex {n} --mutex 1 --sem 1 --membarrier 1",
    "signal": "--signal 1 --sigsegv 1 --sigfpe 1 --sigq 1 --sigrt 1 --sigtrap 1 --signest 1 --sigpipe 1",
    "pthread": "--pthread {n} --pthread-max 64",
    "cache": "--cache {n} --icache 1 --atomic 1 --lockbus 1",
    "mixed": "--cpu 1 --vm 1 --vm-bytes {quarter}M --fork 1 --mmap 1 --mmap-bytes {quarter}M --futex 1 --signal 1 --pthread 1 --cache 1",
}

# What a kernel says when something is wrong; stress-ng's own segmentation faults are not among it.
TROUBLE = re.compile(r"BUG|WARNING:|Oops|Call Trace|RCU.*stall|rcu.*detected stalls|soft lockup|hard LOCKUP|blocked for more than|"
                     r"general protection fault.*(?:kernel|\[#)|unable to handle|Kernel panic|clocksource.*unstable|"
                     r"Out of memory|bad page|Bad page|irq \d+: nobody cared")


def bound_bytes(memory_mib, cpus):
    """Host memory beyond the guest's own: a tenth of it, 64 MiB, and each virtual CPU's TLB tables (12 contexts of 9 MiB, filled by use)."""
    return memory_mib * MIB // 10 + 64 * MIB + 12 * 9 * MIB * cpus


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long, boot not counted")
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--memory", type=int, default=768, metavar="MIB")
    parser.add_argument("--phases", default=",".join(PHASES), help="some of " + ", ".join(PHASES))
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--guest", default="build/guest", help="folder with vmlinuz and stress.cpio")
    parser.add_argument("--log", default="stress-failed.log", help="where the console of a failed run goes")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)  # argparse would lose what follows
    return parser.parse_args(words[:split]), words[split + 1:]


class Run:
    def __init__(self, guest, options, rest_of):
        self.guest, self.options, self.rest_of = guest, options, rest_of
        self.samples = []  # (seconds since the start, bytes beyond the guest's memory)
        self.begun = time.monotonic()

    def since(self):
        return time.monotonic() - self.begun

    def fail(self, why):
        from guest import Failed
        raise Failed(why)

    def prepare(self):
        run = self.guest.run
        # A host that stops the process for a while is no lockup of the guest's: thresholds of minutes.
        run("sysctl -q kernel.watchdog_thresh=60 kernel.hung_task_timeout_secs=240 kernel.print-fatal-signals=0; "
            "echo 120 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout; mkdir -p /tmp /dev/shm; "
            "mount -t tmpfs tmpfs /dev/shm; dmesg -n 4")
        status, cpus = run("nproc")
        if (status, cpus) != (0, str(self.options.cpus)):
            self.fail(f"the guest has {cpus!r} processors")

    def phase(self, name, seconds):
        stressors = PHASES[name].format(n=self.options.cpus, quarter=self.options.memory // 4)
        # Host time decides how long it may take: stress-ng ends by the guest's clock, then waits for all its children.
        status, output = self.guest.run(f"cd /tmp && stress-ng {stressors} --verify --timeout {seconds:.0f}s --temp-path /tmp --metrics-brief; cd",
                                        seconds * 4 + 240)
        done = dict(re.findall(r"metrc: \[\d+\] (\S+) +(\d+) ", output))
        if status != 0 or re.search(r"stress-ng: fail|failed|error: ", output):
            self.fail(f"stress-ng {stressors}: status {status}\n{output}")
        if not done:
            self.fail(f"stress-ng {stressors} says nothing of what it did:\n{output}")
        self.kernel_is_content()
        rest = self.rest_of(self.guest.process.pid)
        self.samples.append((self.since(), rest))
        bound = bound_bytes(self.options.memory, self.options.cpus)
        counts = ", ".join(f"{stressor} {count}" for stressor, count in done.items())
        print(f"{self.since():6.0f} s  {name:8} {rest / MIB:5.0f} MiB beyond the guest's; {counts}", flush=True)
        if rest > bound:
            self.fail(f"{rest / MIB:.0f} MiB of host memory beyond the guest's; the bound is {bound / MIB:.0f}")

    def kernel_is_content(self):
        _, messages = self.guest.run("dmesg -c", 120)
        trouble = [line for line in messages.split("\n") if TROUBLE.search(line)]
        if trouble:
            self.fail("the guest's kernel says:\n" + messages)

    def does_not_grow(self):
        """In a long run the peak of the last quarter is no more than that of the quarter before, plus what noise makes."""
        end = self.samples[-1][0]
        if end < 600:
            return
        third = max(rest for when, rest in self.samples if end / 2 <= when < end * 3 / 4)
        last = max(rest for when, rest in self.samples if when >= end * 3 / 4)
        if last > third + 16 * MIB:
            self.fail(f"host memory still grows: {third / MIB:.0f} MiB in the third quarter, {last / MIB:.0f} in the last")


def main():
    options, flags = arguments()
    os.environ["VENEER"], os.environ["VENEER_GUEST"] = options.veneer, options.guest
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
    from guest import Failed, Guest
    from resources_test import resident_bytes

    names = options.phases.split(",")
    each = max(1, min(30, options.seconds / len(names)))
    with Guest("--cpus", str(options.cpus), "--memory", f"{options.memory}M", *flags, initrd=f"{options.guest}/stress.cpio") as guest:
        try:
            guest.boot(240)
            run = Run(guest, options, lambda pid: resident_bytes(pid)[1])
            run.prepare()
            run.kernel_is_content()
            while True:
                for name in names:
                    run.phase(name, each)
                if run.since() >= options.seconds:
                    break
            run.does_not_grow()
            guest.type("poweroff\n")
            status = guest.wait(120)
            if status != 0:
                raise Failed(f"exit status {status}\n{guest.story()}")
        except Failed as failure:
            with open(options.log, "w", encoding="utf-8") as log:
                log.write(guest.console + "\n--- stderr\n" + guest.stderr())
            sys.exit(f"stress failed: {failure}\n(the whole console is in {options.log})")
    peak = max(rest for _, rest in run.samples)
    print(f"{len(run.samples)} phases in {run.since():.0f} s without a failure; at most {peak / MIB:.0f} MiB of host memory beyond the guest's")


if __name__ == "__main__":
    main()
