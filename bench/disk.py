#!/usr/bin/env python3
"""fio in the demo guest, under Veneer and under QEMU's TCG: throughput of a disk, or verification under load.

usage: bench/disk.py compare|verify|mirror [--seconds N] [--guest DIR] [--work DIR] [--veneer FILE] [--if virtio|nvme] [--cache MODE]
                                    [--format raw|qcow2] [--size MIB]

compare: the same image, kernel and fio on both, one vCPU; prints MB/s and requests a second, and the ratios.
verify: writes with checksums on 8 queues, with flushes, discards and write-zeroes mixed in, all read back; then qemu-img checks the
image, compares it with a copy that veneer disk convert made, and must read what the guest read.
mirror: the same random writes, write-zeroes and discards to a raw and a qcow2 disk at once; qemu-img compares the two.
Needs the images of guest/build_demo.sh and guest/build_fio.sh, and qemu-img.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "boot"))
import guest as guests  # noqa: E402

DIRECT = "--direct=1 --ioengine=libaio --time_based --norandommap"
# name: fio's options. Direct I/O in the guest measures the disk alone; through the guest's page cache, as programs have it, each
# pass begins with the cache empty and ends with the data on the disk.
JOBS = {
    "sequential read": f"{DIRECT} --rw=read --bs=1M --iodepth=8",
    "sequential write": f"{DIRECT} --rw=write --bs=1M --iodepth=8",
    "64 KiB sequential read": f"{DIRECT} --rw=read --bs=64k --iodepth=8",
    "64 KiB sequential write": f"{DIRECT} --rw=write --bs=64k --iodepth=8",
    "4 KiB random read": f"{DIRECT} --rw=randread --bs=4k --iodepth=32",
    "4 KiB random write": f"{DIRECT} --rw=randwrite --bs=4k --iodepth=32",
    "4 KiB random read, one at a time": f"{DIRECT} --rw=randread --bs=4k --iodepth=1",
    "4 KiB random write, one at a time": f"{DIRECT} --rw=randwrite --bs=4k --iodepth=1",
    "sequential read, page cache": "--rw=read --bs=128k --invalidate=1",
    "sequential write, page cache": "--rw=write --bs=128k --end_fsync=1",
}
PASSES = 5  # of the jobs without a time


class Qemu(guests.Guest):
    """The same guest under QEMU's translator."""

    def __init__(self, disk, fio, options):
        self.qemu = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1", "-nographic",
                     "-no-reboot", "-kernel", f"{options.guest}/vmlinuz", "-initrd", f"{options.guest}/initrd",
                     "-append", "console=ttyS0 quiet"]
        for index, (path, image_format) in enumerate(((disk, options.format), (fio, "raw"))):
            cache = options.cache if index == 0 else "writeback"
            read_only = ",readonly=on" if index == 1 else ""
            self.qemu += ["-drive", f"file={path},format={image_format},if=none,id=d{index},cache={cache},discard=unmap{read_only}"]
            self.qemu += ["-device", f"virtio-blk-pci,drive=d{index}"]
        super().__init__(command=self.qemu)


def veneer(disk, fio, options):
    extra = f",queues={options.queues}" if options.queues else ""
    return guests.Guest("--memory", "1G", "--cpus", str(options.cpus), "--disk",
                        f"{disk},format={options.format},if={options.interface},cache={options.cache}{extra}",
                        "--disk", f"{fio},format=raw,readonly", veneer=options.veneer, kernel=f"{options.guest}/vmlinuz",
                        initrd=f"{options.guest}/initrd")


def devices(options, qemu):
    """(the disk, fio's file system) as the guest names them."""
    if options.interface == "nvme" and not qemu:
        return "/dev/nvme0n1", "/dev/vda"
    return "/dev/vda", "/dev/vdb"


def prepare(guest, fio_device):
    guest.boot(300)
    for command in (f"mount -o ro {fio_device} /mnt", "mount --bind /dev /mnt/dev", "mount -t proc proc /mnt/proc",
                    "mount -t sysfs sysfs /mnt/sys", "mount -t tmpfs tmpfs /mnt/tmp"):
        status, output = guest.run(f"mkdir -p /mnt; {command}")
        if status != 0:
            raise SystemExit(f"in the guest: {command}: {output}")


def fio(guest, arguments, timeout):
    status, output = guest.run(f"chroot /mnt /usr/bin/fio --output-format=json {arguments}", timeout)
    if status != 0:
        raise SystemExit(f"fio ended with status {status}:\n{output[-3000:]}")
    return json.JSONDecoder().raw_decode(output[output.index("{"):])[0]


def measure(guest, qemu, options):
    disk, fio_device = devices(options, qemu)
    prepare(guest, fio_device)
    results = {}
    # Every block exists before anything is measured.
    fio(guest, f"--name=fill --filename={disk} --direct=1 --ioengine=libaio --rw=write --bs=1M --iodepth=4", 600)
    for name, job in JOBS.items():
        timed = "--time_based" in job
        rates = []
        for _ in range(1 if timed else PASSES):
            limit = f"--runtime={options.seconds}" if timed else ""
            report = fio(guest, f"--name=job --filename={disk} {limit} {job}", options.seconds * 4 + 120)["jobs"][0]
            side = report["read"] if "read" in name else report["write"]
            # A pass with its sync at the end takes what the whole job took.
            seconds = (report["job_runtime"] if not timed else side["runtime"]) / 1e3
            rates.append((side["io_bytes"] / 1e6 / seconds, side["total_ios"] / seconds))
        results[name] = tuple(map(statistics.median, zip(*rates)))
    guest.type("poweroff\n")
    guest.wait(60)
    return results


def image(options, name):
    path = os.path.join(options.work, f"{name}.{options.format}")
    if os.path.exists(path):
        os.unlink(path)
    if options.format == "qcow2":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, f"{options.size}M"], check=True)
    else:
        with open(path, "wb") as f:
            f.truncate(options.size << 20)
    return path


def compare(options):
    fio_image = f"{options.guest}/fio.raw"
    disk = image(options, "bench")
    with veneer(disk, fio_image, options) as guest:
        ours = measure(guest, False, options)
    disk = image(options, "bench")
    with Qemu(disk, fio_image, options) as guest:
        theirs = measure(guest, True, options)
    print("| job | Veneer MB/s | requests/s | QEMU TCG MB/s | requests/s | ratio |\n|---|---|---|---|---|---|")
    for name, (rate, iops) in ours.items():
        print(f"| {name} | {rate:.1f} | {iops:.0f} | {theirs[name][0]:.1f} | {theirs[name][1]:.0f} | {rate / theirs[name][0]:.2f} |")


# Write-zeroes of odd ranges within a mebibyte of text, each read back: fio has no such request.
ZEROER = """#!/bin/sh
device=$1 base=$2 seconds=$3
end=$(($(date +%s) + seconds)) n=0
while [ $(date +%s) -lt $end ]; do
    n=$((n + 1)) at=$((base + n * 7919 % 56 * 1048576)) skip=$((n * 1511 % 1200 * 512)) length=$((n * 977 % 800 * 512 + 512))
    yes "text $n" | head -c 1048576 >/tmp/text
    dd if=/tmp/text of=$device bs=64k seek=$((at / 65536)) oflag=direct conv=notrunc 2>/dev/null || exit 1
    chroot /mnt /usr/sbin/blkdiscard -z -o $((at + skip)) -l $length $device || exit 1
    [ $((n % 8)) -ne 0 ] || sync $device || exit 1
    wanted=$( (head -c $skip /tmp/text; head -c $length /dev/zero; tail -c +$((skip + length + 1)) /tmp/text) | md5sum)
    got=$(dd if=$device bs=64k skip=$((at / 65536)) count=16 iflag=direct 2>/dev/null | md5sum)
    [ "$got" = "$wanted" ] || { echo "wrong at $at: $skip zeros $length"; exit 1; }
done
echo "$n write-zeroes" >/tmp/zeroes
"""


def verifying_jobs(device, size, seconds):
    """Each job has its own part of the disk: what one trims is not what another verifies."""
    quarter = size // 4
    places = f"--size={quarter}m --offset="
    run = f"--runtime={seconds} --loops=1000 --verify=crc32c --do_verify=1 --verify_state_save=0"
    return (f"--filename={device} --direct=1 --ioengine=libaio --verify_fatal=1 "
            f"--name=small --rw=randwrite --bsrange=512-64k --blockalign=512 --iodepth=16 {places}0 {run} --fdatasync=64 "
            f"--name=large --rw=randwrite --bs=256k --iodepth=8 {places}{quarter}m {run} --fsync=16 "
            f"--name=trim --rw=trimwrite --bs=64k --iodepth=8 {places}{2 * quarter}m --time_based --runtime={seconds} "
            f"--name=discard --rw=randtrim --bs=128k --iodepth=4 --size={quarter // 2}m --offset={3 * quarter}m --time_based "
            f"--runtime={seconds}")


def digest_of_file(path):
    """As QEMU reads the image."""
    raw = f"{path}.copy"
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    with open(raw, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    os.unlink(raw)
    return digest


def judge(options, disk):
    """The image by qemu-img, and by qemu-img against a copy that Veneer made. Raises if they differ."""
    if options.format == "qcow2":
        subprocess.run(["qemu-img", "check", disk], check=True)
    copy = f"{disk}.converted"
    other = "raw" if options.format == "qcow2" else "qcow2"
    subprocess.run([options.veneer, "disk", "convert", "--replace", "-f", options.format, "-O", other, disk, copy], check=True)
    subprocess.run(["qemu-img", "compare", "-f", options.format, "-F", other, disk, copy], check=True)
    os.unlink(copy)


def verify(options):
    disk = image(options, "verify")
    options.queues = options.queues or 8
    with veneer(disk, f"{options.guest}/fio.raw", options) as guest:
        device, fio_device = devices(options, False)
        prepare(guest, fio_device)
        guest.run("cat >/tmp/zeroer <<'EOF'\n" + ZEROER + "EOF")
        base = (options.size // 8 * 7) << 20
        guest.run(f"(sh /tmp/zeroer {device} {base} {options.seconds} >/tmp/zeroer.log 2>&1; echo $? >/tmp/zeroer.status) &")
        report = fio(guest, verifying_jobs(device, options.size, options.seconds), options.seconds * 10 + 600)
        status, zeroes = guest.run("while [ ! -e /tmp/zeroer.status ]; do sleep 1; done; cat /tmp/zeroer.log /tmp/zeroes; "
                                   "exit_status=$(cat /tmp/zeroer.status); [ $exit_status = 0 ]", options.seconds * 10 + 600)
        if status != 0:
            raise SystemExit(f"write-zeroes: {zeroes}")
        print(zeroes)
        guest.run("sync; echo 3 >/proc/sys/vm/drop_caches")
        seen = guest.run(f"sha256sum <{device}", 600)[1].split()[0]
        guest.type("poweroff\n")
        status = guest.wait(60)
    for job in report["jobs"]:
        print(f"{job['jobname']}: {job['write']['total_ios']} writes, {job['read']['total_ios']} verifying reads, "
              f"{job['trim']['total_ios']} discards, error {job['error']}")
        if job["error"]:
            return 1
    judge(options, disk)
    if digest_of_file(disk) != seen:
        raise SystemExit("the guest saw another disk than QEMU finds in the image")
    print(f"what the guest read is what QEMU reads: {seen}")
    return status


def mirror(options):
    """The same writes, write-zeroes and discards to a raw and a qcow2 disk, in rounds; they must be equal at the end."""
    paths = {}
    for options.format in ("raw", "qcow2"):
        paths[options.format] = image(options, "mirror")
    flags = ["--memory", "1G", "--cpus", str(options.cpus)]
    for image_format, path in paths.items():
        flags += ["--disk", f"{path},format={image_format},cache={options.cache},queues=8"]
    flags += ["--disk", f"{options.guest}/fio.raw,format=raw,readonly"]
    rounds = 0
    chance = random.Random(options.seed)
    with guests.Guest(*flags, veneer=options.veneer, kernel=f"{options.guest}/vmlinuz", initrd=f"{options.guest}/initrd") as guest:
        prepare(guest, "/dev/vdc")
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            rounds += 1
            job = (f"--name=mirror --direct=1 --ioengine=libaio --rw=randwrite --bsrange=512-128k --blockalign=512 --iodepth=16 "
                   f"--serialize_overlap=1 --size={options.size}m --io_size=24m --randseed={chance.randrange(1 << 30)} "
                   f"--refill_buffers --fdatasync={chance.choice((16, 100, 1000))}")
            sector = chance.randrange(options.size << 11)
            length = min(chance.randrange(1, 4096), (options.size << 11) - sector)
            cluster = chance.randrange(options.size * 16 - 32)
            changes = (f"chroot /mnt /usr/sbin/blkdiscard -z -o {sector * 512} -l {length * 512} /dev/$d && "
                       f"chroot /mnt /usr/sbin/blkdiscard -o {cluster * 65536} -l {chance.randrange(1, 32) * 65536} /dev/$d")
            command = (f"for d in vda vdb; do (chroot /mnt /usr/bin/fio --filename=/dev/$d {job} && {changes}) >/tmp/$d.log 2>&1 "
                       f"|| touch /tmp/failed & done; wait; [ ! -e /tmp/failed ]")
            status, _ = guest.run(command, 1800)
            if status != 0:
                raise SystemExit(guest.run("tail -n 20 /tmp/vd?.log")[1])
        guest.type("poweroff\n")
        status = guest.wait(60)
    subprocess.run(["qemu-img", "check", paths["qcow2"]], check=True)
    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", paths["raw"], paths["qcow2"]], check=True)
    print(f"{rounds} rounds")
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "verify", "mirror"])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--guest", default="build/guest")
    parser.add_argument("--work", default="build/bench-work")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--if", dest="interface", choices=["virtio", "nvme"], default="virtio")
    parser.add_argument("--cache", choices=["writeback", "none", "writethrough"], default="writeback")
    parser.add_argument("--format", choices=["raw", "qcow2"], default="raw")
    parser.add_argument("--size", type=int, default=512, help="MiB")
    parser.add_argument("--queues", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=0, help="virtual CPUs (default: 1 to compare, else 4)")
    parser.add_argument("--seed", type=int, default=1, help="mirror: of the writes")
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    if options.what == "compare" and not shutil.which("qemu-system-x86_64"):
        raise SystemExit("there is no qemu-system-x86_64 (Debian package qemu-system-x86)")
    options.cpus = options.cpus or (1 if options.what == "compare" else 4)
    return {"compare": compare, "verify": verify, "mirror": mirror}[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
