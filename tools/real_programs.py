#!/usr/bin/env python3
"""Runs real programs with threads, processes and compilers of their own in guests with different numbers of virtual CPUs.

usage: tools/real_programs.py [--only GROUP,...] [--cpus N ...] [--veneer FILE] [--guest DIR] [-- FLAGS OF veneer run]

Each group (node, java, go, luajit, python, sqlite, postgres) runs in a guest of its own, started from DIR/real.qcow2
(guest/build_real.sh), whose changes are dropped. It fails when a program's answer is not the known one, when a check of
invariants in the guest fails, when the guest's kernel complains, and when the guest does not power off in order.
"""
import argparse
import os
import sys
import time

from stress import TROUBLE

GROUPS = ["node", "java", "go", "luajit", "python", "sqlite", "postgres"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), metavar="GROUP,...", help="some of " + ", ".join(GROUPS))
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 4], metavar="N")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one group")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--guest", default="build/guest", help="folder with vmlinuz, initrd and real.qcow2")
    parser.add_argument("--log", default="real-programs-failed.log", help="where the console of a failed run goes")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)  # argparse would lose what follows
    options = parser.parse_args(words[:split])
    options.groups = options.only.split(",")
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return options, words[split + 1:]


def run_group(group, cpus, options, flags):
    """Prints a line for each case as it ends. The number of cases, or Failed."""
    from guest import Failed, Guest
    with Guest("--memory", f"{options.memory}M", "--cpus", str(cpus), "--no-reboot",
               "--disk", f"{options.guest}/real.qcow2,format=qcow2,snapshot", *flags,
               cmdline=f"console=ttyS0 loglevel=5 panic=-1 root=/dev/vda rw real={group}") as guest:
        try:
            guest.expect(f"PROCESSORS {cpus}\\r?$", 300)
            while True:
                begun = time.monotonic()
                answer = guest.expect(r"^(PASS|FAIL) (\S+)\r?\n|^PROGRAMS: (\d+) passed, (\d+) failed", options.timeout)
                if answer[3]:
                    break
                print(f"{group:9}{cpus} processors  {answer[1]} {answer[2]} ({time.monotonic() - begun:.0f} s)", flush=True)
            if guest.wait(300) != 0 or answer[4] != "0" or answer[3] == "0":
                raise Failed(f"{answer[4]} of {group}'s cases failed with {cpus} processors\n{guest.story()}")
            trouble = TROUBLE.search(guest.console)
            if trouble:
                raise Failed(f"the guest's kernel says {trouble[0]!r}\n{guest.story()}")
        except Failed as failure:
            with open(options.log, "a", encoding="utf-8") as log:
                log.write(f"=== {group}, {cpus} processors\n{guest.console}\n--- stderr\n{guest.stderr()}\n")
            print(f"{group}, {cpus} processors: {failure}", flush=True)
            return 0
        return int(answer[3])


def main():
    options, flags = arguments()
    os.environ["VENEER"], os.environ["VENEER_GUEST"] = options.veneer, options.guest
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
    if os.path.exists(options.log):
        os.remove(options.log)
    passed, failed = 0, []
    for group in options.groups:
        for cpus in options.cpus:
            cases = run_group(group, cpus, options, flags)
            passed += cases
            if not cases:
                failed.append(f"{group} with {cpus}")
    if failed:
        sys.exit(f"real programs failed: {', '.join(failed)} (the whole consoles are in {options.log})")
    print(f"{passed} cases passed: {', '.join(options.groups)} with {' and '.join(map(str, options.cpus))} processors")


if __name__ == "__main__":
    main()
