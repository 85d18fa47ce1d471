"""Booting through firmware: SeaBIOS, GRUB, Linux, from disks and a CD-ROM; boot sectors of our own.

By hand: guest/build_demo.sh and guest/build_disks.sh build/guest, then as boot_test.py.
"""
import subprocess
import tempfile
import unittest

from guest import GUEST_DIR, VENEER, Guest

DISK = f"{GUEST_DIR}/boot.img"
DISC = f"{GUEST_DIR}/boot.iso"


def machine(*flags, memory="256M"):
    return Guest(command=[VENEER, "run", "--memory", memory, *flags])


class Linux(unittest.TestCase):
    """SeaBIOS finds the boot device, GRUB its menu, Linux its shell."""

    def shell_comes(self, *flags):
        with machine(*flags) as guest:
            guest.expect("SeaBIOS", 60)
            guest.expect("Veneer demo guest", 120)
            guest.boot(180)
            _, output = guest.run("dmesg | grep -E 'BUG:|WARNING:|Oops|general protection|Call Trace|ACPI.*rror'")
            self.assertEqual(output, "")
            self.assertEqual(guest.run("dmesg | grep -c 'DMI: '")[1], "1")
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(), 0)

    def test_image_alone(self):
        self.shell_comes(f"{DISK},snapshot")

    def test_ide_disk(self):
        self.shell_comes("--disk", f"{DISK},if=ide,snapshot")

    def test_nvme_disk(self):
        self.shell_comes("--disk", f"{DISK},if=nvme,snapshot")

    def test_ahci_disk(self):
        self.shell_comes("--disk", f"{DISK},if=ahci,snapshot")

    def test_ahci_cdrom(self):
        self.shell_comes("--cdrom", f"{DISC},if=ahci")

    def test_cdrom(self):
        self.shell_comes("--cdrom", DISC)

    def test_qcow2(self):
        with tempfile.TemporaryDirectory() as folder:
            image = f"{folder}/disk.qcow2"
            subprocess.run([VENEER, "disk", "convert", DISK, image], check=True, stdout=subprocess.DEVNULL)
            self.shell_comes(image)

    def test_four_processors_and_memory_above_4_gib(self):
        with machine(f"{DISK},snapshot", "--cpus", "4", memory="5G") as guest:
            guest.boot(240)
            self.assertEqual(guest.run("grep -c ^processor /proc/cpuinfo"), (0, "4"))
            _, kib = guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo")
            self.assertGreater(int(kib), 4_900_000)

    def test_three_reboots_in_a_row(self):
        with machine(f"{DISK},snapshot") as guest:
            for _ in range(3):
                guest.boot(180)
                guest.type("reboot\n")
                guest.expect("SeaBIOS", 60)
            guest.boot(180)

    def test_cdrom_before_disk(self):
        with machine(f"{DISK},snapshot", "--cdrom", DISC, "--boot", "cdrom") as guest:
            guest.expect("Booting from DVD/CD", 60)
            guest.boot(180)


class BootSectors(unittest.TestCase):
    """Sectors of 16-bit code that use the BIOS's services."""

    def output_of(self, source, *flags):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/boot.asm", "w") as file:
                file.write("org 0x7c00\nbits 16\n" + source +
                           "\ntimes 510-($-$$) db 0\ndw 0xaa55\ntimes 1048576-($-$$) db 'S'\n")
            subprocess.run(["nasm", "-f", "bin", "-o", f"{folder}/boot.img", f"{folder}/boot.asm"], check=True)
            with machine(f"{folder}/boot.img,format=raw", "--debug-exit", *flags) as guest:
                status = guest.wait(90)
                return status, guest.console

    PRINT = """
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7000
        jmp start
    print:                  ; DS:SI, zero-terminated, through INT 10h
        lodsb
        test al, al
        jz .done
        mov ah, 0x0e
        mov bx, 7
        int 0x10
        jmp print
    .done: ret
    start:
    """

    def test_int10_teletype(self):
        status, console = self.output_of(self.PRINT + """
            mov si, text
            call print
            sti                     ; SeaBIOS writes the last characters to the serial port at a timer tick
            mov cx, 4
        .tick: hlt
            loop .tick
            mov al, 20
            out 0xf4, al
        text: db "hello from the boot sector", 13, 10, 0""")
        self.assertEqual(status, 41)
        self.assertIn("hello from the boot sector", console)

    def test_int13_reads_a_sector(self):
        status, _ = self.output_of(self.PRINT + """
            mov ax, 0x0201
            mov cx, 2
            xor dh, dh
            mov bx, 0x8000
            int 0x13
            jc .bad
            cmp word [0x8000], 'SS'
            jne .bad
            mov ah, 0x42
            mov si, packet
            int 0x13
            jc .bad
            cmp word [0x9000], 'SS'
            jne .bad
            mov al, 3
            out 0xf4, al
        .bad: mov al, 9
            out 0xf4, al
        align 4
        packet: db 16, 0
            dw 1, 0x9000, 0
            dq 700""")
        self.assertEqual(status, 7)

    def test_int15_memory_map(self):
        status, _ = self.output_of(self.PRINT + """
            xor ebx, ebx
            xor bp, bp
        .next: mov eax, 0xe820
            mov edx, 0x534d4150
            mov ecx, 20
            mov di, 0x8000
            int 0x15
            jc .bad
            cmp eax, 0x534d4150
            jne .bad
            inc bp
            test ebx, ebx
            jnz .next
            cmp bp, 4
            jb .bad
            mov al, 3
            out 0xf4, al
        .bad: mov al, 9
            out 0xf4, al""")
        self.assertEqual(status, 7)

    def test_int1a_clock_goes_on(self):
        status, _ = self.output_of(self.PRINT + """
            sti
            mov ah, 0
            int 0x1a
            mov bp, dx
        .wait: hlt
            mov ah, 0
            int 0x1a
            sub dx, bp
            cmp dx, 5
            jb .wait
            mov al, 3
            out 0xf4, al""")
        self.assertEqual(status, 7)


class Refusals(unittest.TestCase):
    def refused(self, message, *flags):
        done = subprocess.run([VENEER, "run", *flags], capture_output=True, text=True, timeout=60)
        self.assertIn(message, done.stderr)
        return done.returncode

    def test_unknown_firmware(self):
        self.assertEqual(self.refused("is no firmware", "--firmware", "coreboot"), 2)

    def test_unknown_boot_device(self):
        self.assertEqual(self.refused("is nothing to boot from", "--boot", "tape", DISK), 2)

    def test_firmware_and_kernel(self):
        self.assertEqual(self.refused("without firmware", "--firmware", "seabios", "--kernel", "x"), 2)

    def test_firmware_on_micro(self):
        self.assertEqual(self.refused("--machine pc", "--firmware", "seabios", "--machine", "micro"), 2)

    def test_two_images(self):
        self.assertEqual(self.refused("one IMAGE is enough", DISK, DISC), 2)

    def test_missing_image(self):
        self.assertEqual(self.refused("/nonexistent.img", "/nonexistent.img"), 1)

    def test_firmware_of_a_wrong_size(self):
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(b"x" * 1000)
            file.flush()
            self.assertEqual(self.refused("are no firmware image", "--firmware", file.name, DISK), 1)

    def test_disc_shorter_than_a_sector(self):
        with tempfile.NamedTemporaryFile(suffix=".iso") as file:
            file.write(b"x" * 1024)
            file.flush()
            self.assertEqual(self.refused("a CD-ROM's sector has 2048", "--cdrom", file.name), 1)

    def test_disc_that_is_cut_off(self):
        volume = bytearray(2048)
        volume[:6] = b"\1CD001"
        volume[80:84] = (5000).to_bytes(4, "little")
        for sectors, whole in ((4849, False), (4850, True)):  # padding of 150 sectors may be missing
            with tempfile.NamedTemporaryFile(suffix=".iso") as file:
                file.write(bytes(16 * 2048) + volume)
                file.truncate(sectors * 2048)
                flags = ["--cdrom", file.name, "--cdrom", "/nonexistent.iso"]
                message = "/nonexistent.iso" if whole else "is cut off: it has 9930752 bytes, and its volume 10240000"
                self.assertEqual(self.refused(message, *flags), 1)

    def test_missing_firmware(self):
        self.assertEqual(self.refused("./none.bin", "--firmware", "./none.bin", DISK), 1)


if __name__ == "__main__":
    unittest.main()
