#!/usr/bin/env python3
"""Boots the demo guest N times in a row and powers it off each time; stops at the first that fails.

usage: tools/boots.py N [--veneer FILE] [--guest DIR] [-- FLAGS OF veneer run]
"""
import argparse
import os
import statistics
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, metavar="N")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--guest", default="build/guest", help="folder with vmlinuz and initrd")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one boot")
    parser.add_argument("--log", default="boots-failed.log", help="where the console of a failed boot goes")
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)  # argparse would lose what follows
    options = parser.parse_args(arguments[:split])
    flags = arguments[split + 1:]

    os.environ["VENEER"], os.environ["VENEER_GUEST"] = options.veneer, options.guest
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "boot"))
    from guest import Failed, Guest

    prompts, ends = [], []
    for boot in range(1, options.count + 1):
        with Guest(*flags) as guest:
            try:
                guest.boot(options.timeout)
                prompts.append(time.monotonic() - guest.started)
                status, answer = guest.run(f"echo $(({boot} * 3))")
                if (status, answer) != (0, str(boot * 3)):
                    raise Failed(f"wrong answer: {status}, {answer!r}")
                guest.type("poweroff\n")
                status = guest.wait(options.timeout)
                if status != 0:
                    raise Failed(f"exit status {status}\n{guest.story()}")
                ends.append(time.monotonic() - guest.started)
            except Failed as failure:
                with open(options.log, "w") as log:
                    log.write(guest.console + "\n--- stderr\n" + guest.stderr())
                sys.exit(f"boot {boot} of {options.count} failed: {failure}\n(the whole console is in {options.log})")
        print(f"boot {boot}: prompt after {prompts[-1]:.2f} s, off after {ends[-1]:.2f} s", flush=True)
    print(f"{options.count} boots; prompt after {statistics.median(prompts):.2f} s (median; least {min(prompts):.2f}, "
          f"most {max(prompts):.2f}), off after {statistics.median(ends):.2f} s")


if __name__ == "__main__":
    main()
