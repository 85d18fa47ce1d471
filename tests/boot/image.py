#!/usr/bin/env python3
"""Builds a Debian image (veneer image build) and lives in it: SeaBIOS, GRUB, login on the serial port; apt-get update; ssh from the
host; files copied each way and compared; restarts, resets, power off. Then the same image through OVMF: login, ssh, what dmidecode
says of the SMBIOS tables, resets, power off. Another part: a build that is interrupted leaves nothing.

usage: tests/boot/image.py [--variant important] [--copy-mib 1024] [--image F] (make image-test). Needs Debian's mirror and mmdebstrap.
"""
import argparse
import glob
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from guest import SCALE, VENEER, Guest

SHELL = r"debian@debian:[^\n]*\$ "
started = time.monotonic()


def say(text):
    print(f"{time.monotonic() - started:7.0f} s  {text}", flush=True)


def check(condition, text):
    if not condition:
        raise SystemExit(f"FAILED: {text}")
    say(text)


def build(folder, options, key):
    image = f"{folder}/debian.qcow2"
    subprocess.run([VENEER, "image", "build", "debian", "-o", image, "--variant", options.variant, "--password", "secret",
                    "--packages", "dmidecode", "--ssh-key", f"{key}.pub"], check=True)
    check(not glob.glob(f"{folder}/veneer-image-*"), "the image is built, and nothing is left of the build")
    return image


def interrupt(folder):
    """Ctrl-C in the middle of the installation."""
    image = f"{folder}/interrupted.qcow2"
    process = subprocess.Popen([VENEER, "image", "build", "debian", "-v", "-o", image], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("Unpacking "):
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    check(process.wait() == 1 and "stopped" in rest, "an interrupted build says so")
    check(not glob.glob(f"{folder}/*interrupted*") and not glob.glob(f"{folder}/veneer-image-*"),
          "and leaves neither an image nor its folder behind")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def log_in(guest):
    guest.expect("login: ", 300)
    guest.type("debian\n")
    guest.expect("Password: ", 60)
    guest.type("secret\n")
    guest.expect(SHELL, 120)


def run(guest, command, timeout=120):
    """(status, output) of a command at the shell."""
    guest.type(f"clear; echo BE''GIN; {command}; echo EN''D $?\n")
    guest.expect("BEGIN", timeout)
    begin = guest._read
    end = guest.expect(r"^END (\d+)", timeout)
    guest.expect(SHELL, timeout)
    return int(end[1]), guest.console[begin:end.start()].replace("\r", "")


class Ssh:
    def __init__(self, key, port, folder):
        self.options = ["-i", key, "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known",
                        "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"]
        self.port = port

    def run(self, command, timeout=600, **streams):
        return subprocess.run(["ssh", *self.options, "-p", str(self.port), "debian@127.0.0.1", command], check=True,
                              timeout=timeout * SCALE, **streams)


def copy_each_way(ssh, folder, mib):
    """Through ssh, with the sum taken on both sides."""
    path, back = f"{folder}/there", f"{folder}/back"
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    expected = sum_of(path)
    with open(path, "rb") as file:
        ssh.run("cat >copy; sync", timeout=3600, stdin=file)
    there = ssh.run("sha256sum <copy", timeout=1200, capture_output=True, text=True).stdout.split()[0]
    check(there == expected, f"{mib} MiB into the guest: equal checksums")
    with open(back, "wb") as file:
        ssh.run("cat copy; rm copy", timeout=3600, stdout=file)
    check(sum_of(back) == expected, f"{mib} MiB out of the guest: equal checksums")


def sum_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def may_sudo(guest):
    guest.type("sudo -v\n")
    guest.expect("password for debian", 60)
    guest.type("secret\n")
    guest.expect(SHELL, 60)


def reset_three_times(guest):
    """From the monitor, as with a PC's button: nothing is shut down."""
    for number in range(3):
        guest.type("\x01c")
        guest.expect(r"\(veneer\) ", 60)
        guest.type("reset\n\x01c")
        guest.expect("GRUB", 200)
        guest.expect("login: ", 300)
        say(f"reset {number + 1}")


def press_power_button(guest):
    guest.type("\x01p")
    check(guest.wait(300) == 0, "the power button (Ctrl-A p) shuts it down")


def machine(image, port, options, *flags):
    return Guest(command=[VENEER, "run", image, "--memory", "1G", "--cpus", str(options.cpus), "--net",
                          f"user,hostfwd=tcp:127.0.0.1:{port}-:22", *flags])


def live(image, folder, key, options):
    port = free_port()
    with machine(image, port, options) as guest:
        guest.expect("GRUB", 60)
        log_in(guest)
        say("SeaBIOS, GRUB, login on the serial port")
        check(run(guest, "systemctl is-system-running --wait", 300)[1].strip() == "running", "all units run")
        may_sudo(guest)
        check(run(guest, "sudo apt-get -qq update && apt-cache policy hello | grep -c Candidate", 300)[0] == 0, "apt-get update")
        ssh = Ssh(key, port, folder)
        check("Linux" in ssh.run("uname -a", capture_output=True, text=True).stdout, "ssh from the host")
        copy_each_way(ssh, folder, options.copy_mib)
        guest.type("sudo systemctl reboot\n")
        guest.expect("GRUB", 200)
        log_in(guest)
        say("reboot")
        reset_three_times(guest)
        press_power_button(guest)
    subprocess.run([VENEER, "disk", "check", image], check=True)


def live_by_uefi(image, folder, key, options):
    port = free_port()
    with machine(image, port, options, "--firmware", f"ovmf,vars={folder}/settings") as guest:
        guest.expect("GRUB", 120)
        log_in(guest)
        check(run(guest, "test -d /sys/firmware/efi")[0] == 0, "OVMF, GRUB, login on the serial port")
        check("Linux" in Ssh(key, port, folder).run("uname -a", capture_output=True, text=True).stdout, "ssh from the host")
        may_sudo(guest)
        status, complaints = run(guest, "sudo dmidecode 2>&1 >/tmp/dmi.txt; "
                                 "grep -iE 'bad|invalid|truncated|out of spec|wrong' /tmp/dmi.txt; grep -q Veneer /tmp/dmi.txt")
        check(status == 0 and not complaints.strip(), "dmidecode finds nothing wrong with the SMBIOS tables")
        reset_three_times(guest)
        press_power_button(guest)
    subprocess.run([VENEER, "disk", "check", image], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="minbase")
    parser.add_argument("--copy-mib", type=int, default=64)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--image", help="live in this one, built by an earlier run with --keep")
    parser.add_argument("--keep", help="keep the image, and its key beside it, in this folder")
    options = parser.parse_args()
    folder = options.keep or tempfile.mkdtemp(prefix="veneer-image-test-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.environ["TMPDIR"] = folder
    key = f"{folder}/key"
    try:
        if not options.image:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            interrupt(folder)
        image = options.image or build(folder, options, key)
        live(image, folder, key, options)
        live_by_uefi(image, folder, key, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print("A Debian system was built, and lives.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
