#!/usr/bin/env python3
"""The hostile kernel on 2 to 8 processors for as long as one likes: make hostile SECONDS=3600.

usage: hostile.py SECONDS [--cpus 2,4,8] [--seed N] [--storm NAME ...] [--allow-mib N] [-- FLAGS of veneer run]

Each number of processors gets a part of the time, in pieces of about ten minutes with a seed of their own: long
enough to see memory grow (five minutes are the least; a shorter piece says that it cannot tell). Exit status 1 if any
of them failed; the end of its console and its messages are printed then.
"""
import argparse
import os
import sys

os.environ.setdefault("VENEER", "build/bin/veneer")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hostile_kernel  # noqa: E402


def main():
    own, _, flags = (sys.argv[1:], "", []) if "--" not in sys.argv else (
        sys.argv[1:sys.argv.index("--")], "", sys.argv[sys.argv.index("--") + 1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("--cpus", default="2,4,8")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storm", action="append", choices=hostile_kernel.STORMS)
    parser.add_argument("--allow-mib", type=int, default=0, help="more resident memory, for sanitizers")
    arguments = parser.parse_args(own)
    counts = [int(count) for count in arguments.cpus.split(",")]
    pieces = max(1, round(arguments.seconds / len(counts) / 600))
    failed, seed = 0, arguments.seed
    for _ in range(pieces):
        for cpus in counts:
            report = hostile_kernel.run(cpus, arguments.seconds / len(counts) / pieces, seed,
                                        arguments.storm or hostile_kernel.STORMS, flags, allow_mib=arguments.allow_mib)
            print(f"{cpus} processors, seed {seed}: {report.line()}", flush=True)
            if report.failures:
                failed += 1
                print(f"FAILED: {'; '.join(report.failures)}\n--- console, the end\n{report.console[-2000:]}\n"
                      f"--- messages\n{report.messages[-12000:]}", flush=True)
            seed += 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
