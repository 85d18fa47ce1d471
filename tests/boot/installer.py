#!/usr/bin/env python3
"""Debian's installer, from the CD-ROM to the installed system's login: SeaBIOS, GRUB, an installation that answers itself
(guest/build_installer.sh), power off; then the disk boots by itself.

usage: tests/boot/installer.py (make install-debian). Needs Debian's mirror. Takes an hour or so; VENEER_CONSOLE_LOGS=DIR
keeps the console. The disk stays as build/guest/installed.qcow2.
"""
import argparse
import os
import re
import subprocess
import sys
import time

from guest import GUEST_DIR, VENEER, Guest

# The titles that the installer's text frontend prints, in their order; each with the seconds it may take to come (times
# VENEER_TIMEOUT_SCALE).
STAGES = [
    ("GRUB starts the installer's kernel", r"Install Debian", 120),
    ("the installer looks for the network", r"Detecting network hardware", 600),
    ("it has an address", r"Configuring the network with DHCP", 600),
    ("the mirror answers, and its signature is good", r"Loading additional components", 600),
    ("the disk is partitioned", r"Starting up the partitioner", 1800),
    ("the base system is being installed", r"Installing the base system", 1200),
    ("more software is being installed", r"Select and install software", 5400),
    ("GRUB is being installed", r"Installing GRUB boot loader", 3600),
    ("the installation is complete", r"Finishing the installation", 1800),
]
NO_COMPONENTS = r"failed to download a file from the mirror"


def say(started, text):
    print(f"{time.monotonic() - started:7.0f} s  {text}", flush=True)


def install(disk, iso, cpus, flags, started):
    if os.path.exists(disk):
        os.remove(disk)
    subprocess.run([VENEER, "disk", "create", disk, "6G"], check=True)
    command = [VENEER, "run", "--memory", "1G", "--cpus", str(cpus), "--disk", disk, "--cdrom", iso, "--boot", "cdrom",
               "--net", "user", "--no-reboot", *flags]
    with Guest(command=command) as guest:
        for what, pattern, seconds in STAGES:
            found = guest.expect(f"{pattern}|{NO_COMPONENTS}", seconds)
            if re.match(NO_COMPONENTS, found[0]):
                raise SystemExit("the installer cannot fetch its components: the mirror that this host reaches has no .udeb files "
                                 "(try http://deb.debian.org/debian/pool/main/a/anna/), or not those of the installer's version")
            say(started, what)
        status = guest.wait(1200)
        if status != 0:
            raise SystemExit(f"the machine ended with status {status}\n{guest.story()}")
    say(started, "the installer has powered the machine off")
    subprocess.run([VENEER, "disk", "check", disk], check=True)


def boot(disk, started):
    with Guest(command=[VENEER, "run", disk, "--memory", "512M", "--net", "user"]) as guest:
        guest.expect("GRUB", 120)
        guest.expect(r"installed login: ", 600)
        say(started, "the installed system asks for a login")
        guest.type("veneer\n")
        guest.expect("Password: ", 60)
        guest.type("veneer\n")
        guest.expect(r"\$ ", 60)
        guest.type("sudo -S poweroff\n")
        guest.expect("password for veneer", 60)
        guest.type("veneer\n")
        status = guest.wait(300)
        if status != 0:
            raise SystemExit(f"powering off ended with status {status}\n{guest.story()}")
    say(started, "it is off again")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--disk", default=f"{GUEST_DIR}/installed.qcow2")
    parser.add_argument("--iso", default=f"{GUEST_DIR}/installer.iso")
    parser.add_argument("--flags", default="", help="more of them for veneer run")
    parser.add_argument("--skip-install", action="store_true", help="boot what is on the disk already")
    options = parser.parse_args()
    started = time.monotonic()
    if not options.skip_install:
        install(options.disk, options.iso, options.cpus, options.flags.split(), started)
    boot(options.disk, started)
    print("Debian was installed from its installer, and boots.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
