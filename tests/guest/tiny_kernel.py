"""Makes a bootable kernel image of a few lines of assembly: a bzImage header with the code at its 64-bit entry point.

Source is GNU as in Intel syntax (runtime.s beside this file stands in front of it and explains what it offers). The
image is loaded at 16 MiB; entry is in 64-bit mode with the boot protocol's page tables (4 GiB mapped one to one).
"""
import os
import struct
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
LOAD_ADDRESS = 0x1000000  # pref_address
ENTRY_64 = 0x200          # boot.rst, "64-bit Boot Protocol"
SETUP_BYTES = 1024        # boot sector and one setup sector
PARAGRAPH = 16
INIT_BYTES = 0x200000     # working room from the load address on


def assemble(source, folder, symbols=None, runtime=True):
    """Machine code of the source, linked for LOAD_ADDRESS + ENTRY_64. `symbols` are numbers that it may use."""
    base = os.path.join(folder, "tiny")
    with open(base + ".s", "w") as file:
        file.write(".intel_syntax noprefix\n")
        for name, value in ({"LOAD_ADDRESS": LOAD_ADDRESS, "SEED": 1} | (symbols or {})).items():
            file.write(f".set {name}, {value:#x}\n")
        if runtime:
            with open(os.path.join(HERE, "runtime.s")) as common:
                file.write(common.read())
        file.write(source + "\n")
    subprocess.run(["as", "--64", "-o", base + ".o", base + ".s"], check=True)
    subprocess.run(["ld", "-N", "-e", "0", "-Ttext", hex(LOAD_ADDRESS + ENTRY_64), "-o", base + ".elf", base + ".o"],
                   check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["objcopy", "-O", "binary", base + ".elf", base + ".bin"], check=True)
    with open(base + ".bin", "rb") as file:
        return file.read()


def bzimage(code):
    """The code as a kernel file."""
    payload = b"\xf4" * ENTRY_64 + code  # HLT where the 32-bit entry would be
    payload += b"\0" * (-len(payload) % PARAGRAPH)
    setup = bytearray(SETUP_BYTES)

    def put(offset, layout, value):
        struct.pack_into("<" + layout, setup, offset, value)

    put(0x1f1, "B", 1)                           # setup_sects
    put(0x1f4, "I", len(payload) // PARAGRAPH)   # syssize
    put(0x1fe, "H", 0xaa55)                      # boot_flag
    put(0x200, "H", 0x6aeb)                      # jump: the header ends at 0x26c
    put(0x202, "I", 0x53726448)                  # "HdrS"
    put(0x206, "H", 0x020f)                      # version
    put(0x211, "B", 1)                           # LOADED_HIGH
    put(0x22c, "I", 0x7fffffff)                  # initrd_addr_max
    put(0x230, "I", 0x200000)                    # kernel_alignment
    put(0x236, "H", 1)                           # XLF_KERNEL_64
    put(0x238, "I", 2047)                        # cmdline_size
    put(0x258, "Q", LOAD_ADDRESS)                # pref_address
    put(0x260, "I", max(INIT_BYTES, len(payload)))  # init_size
    return bytes(setup) + payload


def build(source, folder, symbols=None, runtime=True):
    """Path of a kernel file made of the source, in `folder`."""
    path = os.path.join(folder, "kernel")
    with open(path, "wb") as file:
        file.write(bzimage(assemble(source, folder, symbols, runtime)))
    return path
