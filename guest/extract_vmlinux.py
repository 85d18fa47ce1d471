#!/usr/bin/env python3
"""Takes the kernel proper out of a bzImage: the ELF file that its boot code would unpack.

usage: guest/extract_vmlinux.py BZIMAGE VMLINUX

A bzImage unpacks itself where it will run and needs as much memory again to do it, which a small guest does not have.
An ELF file is loaded where it belongs, and started at its PVH entry.
Spec: Linux, Documentation/x86/boot.rst (payload_offset, payload_length).
"""
import os
import struct
import subprocess
import sys

# The first bytes of the payload, and the program that unpacks it. What Linux appends, the size in four bytes, makes some of
# these complain at the end.
FORMATS = [
    (b"\x1f\x8b", ["gzip", "-dcq"]),
    (b"\xfd7zXZ\0", ["xz", "-dcq", "--single-stream"]),
    (b"\x5d\0\0", ["xz", "-dcq", "--format=lzma"]),
    (b"BZh", ["bzip2", "-dcq"]),
    (b"\x02\x21\x4c\x18", ["lz4", "-dcq"]),
    (b"\x28\xb5\x2f\xfd", ["zstd", "-dcq"]),
]


def payload(image):
    if image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise ValueError("no bzImage of boot protocol 2.08 or later")
    setup_sectors = image[0x1F1] or 4
    offset, size = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    if begin + size > len(image):
        raise ValueError("it is cut")
    return image[begin:begin + size]


def unpack(data):
    (size,) = struct.unpack_from("<I", data, len(data) - 4)
    for magic, program in FORMATS:
        if data.startswith(magic):
            result = subprocess.run(program, input=data[:-4] if magic != b"\x1f\x8b" else data, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, check=False)
            if len(result.stdout) != size or not result.stdout.startswith(b"\x7fELF"):
                raise ValueError(f"{program[0]} does not unpack it: {result.stderr.decode(errors='replace').strip()}")
            return result.stdout
    raise ValueError(f"compressed in an unknown way (it begins with {data[:6].hex()})")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    try:
        with open(source, "rb") as f:
            kernel = unpack(payload(f.read()))
    except (OSError, ValueError) as failure:
        sys.exit(f"extract_vmlinux: {source}: {failure}")
    with open(target + ".new", "wb") as f:
        f.write(kernel)
    os.rename(target + ".new", target)


if __name__ == "__main__":
    main()
