#!/usr/bin/env python3
"""fio in the demo guest, under Veneer and under QEMU's TCG: throughput of a disk, or verification under load.

usage: bench/disk.py compare|verify [--seconds N] [--guest DIR] [--work DIR] [--veneer FILE] [--if virtio|nvme] [--cache MODE]
                                    [--format raw|qcow2] [--size MIB]

compare: the same image, kernel and fio on both, one vCPU; prints MB/s and requests a second, and the ratios.
verify: writes with checksums on 8 queues, with flushes, discards and write-zeroes mixed in, then reads all back; qemu-img check at
the end if it is qcow2. Needs the images of guest/build_demo.sh and guest/build_fio.sh, and qemu-img for qcow2.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "boot"))
import guest as guests  # noqa: E402

# name: fio's options. Direct I/O in the guest, so that the disk is measured and not the guest's page cache.
JOBS = {
    "sequential read": "--rw=read --bs=1M --iodepth=8",
    "sequential write": "--rw=write --bs=1M --iodepth=8",
    "4 KiB random read": "--rw=randread --bs=4k --iodepth=32",
    "4 KiB random write": "--rw=randwrite --bs=4k --iodepth=32",
    "4 KiB random read, one at a time": "--rw=randread --bs=4k --iodepth=1",
    "4 KiB random write, one at a time": "--rw=randwrite --bs=4k --iodepth=1",
}


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
    return guests.Guest("--memory", "1G", "--disk",
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
    return json.loads(output[output.index("{"):output.rindex("}") + 1])


def measure(guest, qemu, options):
    disk, fio_device = devices(options, qemu)
    prepare(guest, fio_device)
    results = {}
    # Every block exists before anything is measured.
    fio(guest, f"--name=fill --filename={disk} --direct=1 --ioengine=libaio --rw=write --bs=1M --iodepth=4", 600)
    for name, job in JOBS.items():
        report = fio(guest, f"--name=job --filename={disk} --direct=1 --ioengine=libaio --time_based --runtime={options.seconds} "
                            f"--norandommap {job}", options.seconds * 4 + 60)["jobs"][0]
        side = report["read"] if "read" in name else report["write"]
        results[name] = (side["bw_bytes"] / 1e6, side["iops"])
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


def verify(options):
    disk = image(options, "verify")
    options.queues = options.queues or 8
    with veneer(disk, f"{options.guest}/fio.raw", options) as guest:
        device, fio_device = devices(options, False)
        prepare(guest, fio_device)
        # Each job has its own quarter of the disk: what one trims is not what another verifies.
        quarter = f"{options.size // 4}m"
        report = fio(guest, f"--filename={device} --direct=1 --ioengine=libaio --verify_fatal=1 "
                            f"--name=small --rw=randwrite --bsrange=512-64k --blockalign=512 --iodepth=16 --size={quarter} --offset=0 "
                            f"--verify=crc32c --fdatasync=64 --loops=1000 --runtime={options.seconds} --do_verify=1 "
                            f"--name=large --rw=randwrite --bs=256k --iodepth=8 --size={quarter} --offset={quarter} "
                            f"--verify=crc32c --fsync=16 --loops=1000 --runtime={options.seconds} --do_verify=1 "
                            f"--name=trim --rw=trimwrite --bs=64k --iodepth=8 --size={quarter} "
                            f"--offset={options.size // 2}m --time_based --runtime={options.seconds} "
                            f"--name=zero --rw=randtrim --bs=128k --iodepth=4 --size={quarter} "
                            f"--offset={options.size // 4 * 3}m --time_based --runtime={options.seconds}",
                     options.seconds * 10 + 600)
        guest.type("poweroff\n")
        status = guest.wait(60)
    for job in report["jobs"]:
        print(f"{job['jobname']}: {job['write']['total_ios']} writes, {job['read']['total_ios']} verifying reads, "
              f"{job['trim']['total_ios']} discards, error {job['error']}")
        if job["error"]:
            return 1
    if options.format == "qcow2":
        subprocess.run(["qemu-img", "check", disk], check=True)
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "verify"])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--guest", default="build/guest")
    parser.add_argument("--work", default="build/bench-work")
    parser.add_argument("--veneer", default="build/bin/veneer")
    parser.add_argument("--if", dest="interface", choices=["virtio", "nvme"], default="virtio")
    parser.add_argument("--cache", choices=["writeback", "none", "writethrough"], default="writeback")
    parser.add_argument("--format", choices=["raw", "qcow2"], default="raw")
    parser.add_argument("--size", type=int, default=512, help="MiB")
    parser.add_argument("--queues", type=int, default=0)
    options = parser.parse_args()
    os.makedirs(options.work, exist_ok=True)
    if options.what == "compare" and not shutil.which("qemu-system-x86_64"):
        raise SystemExit("there is no qemu-system-x86_64 (Debian package qemu-system-x86)")
    return compare(options) if options.what == "compare" else verify(options)


if __name__ == "__main__":
    sys.exit(main())
