#!/usr/bin/env python3
"""Boots Linux inside Linux inside Veneer: the host's QEMU runs in the guest, by the guest's /dev/kvm, and boots the demo guest.

usage: tools/nested.py [--cpus N] [--inner-cpus N] [--shadow] [--veneer FILE] [--guest DIR]

Needs an AMD host, qemu-system-x86_64 on it, and DIR/kvm-qemu.cpio (guest/build_kvm.sh with VENEER_QEMU). The inner guest has to
come to its shell, give the right checksum (SHA-256 of a million zero bytes), and power off. --shadow: without nested paging.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/boot"))
from guest import Guest  # noqa: E402

ZEROS = "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--inner-cpus", default="1")
    parser.add_argument("--shadow", action="store_true")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--guest", default="build/guest")
    options = parser.parse_args()
    image = f"{options.guest}/kvm-qemu.cpio"
    if not os.path.exists(image):
        sys.exit(f"{image} is not there: install qemu-system-x86 and run make nested again")
    command = [options.veneer, "run", "--kernel", f"{options.guest}/vmlinuz", "--initrd", image,
               "--cmdline", "console=ttyS0 quiet", "--cpu", "host,+svm", "--cpus", options.cpus, "--memory", "1G"]
    with Guest(command=command) as guest:
        guest.boot()
        guest.run("cd /lib/kvm; insmod irqbypass.ko; insmod kvm.ko")
        status, output = guest.run(f"insmod kvm-amd.ko npt={0 if options.shadow else 1}")
        if status != 0:
            sys.exit(f"kvm_amd does not load: {output}")
        guest.type(f"cd /nested; ./qemu -L . -accel kvm -cpu host -M microvm -smp {options.inner_cpus} -m 192M -nodefaults -display none "
                   "-serial stdio -no-reboot -kernel vmlinuz -initrd initrd -append 'console=ttyS0 panic=-1'\n")
        guest.expect("Welcome to a Veneer guest.*", 180)
        guest.expect("veneer:.*# ", 60)
        guest.type("cat /proc/uptime; nproc; head -c 1000000 /dev/zero | sha256sum; poweroff\n")
        guest.expect(ZEROS, 60)
        guest.expect("reboot: Power down", 60)
        guest.expect("veneer:.*# ", 60)
        _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|Call Trace|rcu.*stall'")
        if output:
            sys.exit(f"the outer kernel complains: {output}")
    print("nested: the inner guest booted, computed and powered off")


if __name__ == "__main__":
    main()
