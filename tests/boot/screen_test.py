"""The screen and the keyboard from outside: info screen, screenshot, sendkey, type, and the mouse."""
import os
import struct
import subprocess
import tempfile
import time
import unittest
import zlib

from guest import GUEST_DIR, SCALE, VENEER, Guest, veneer_command
from machines_test import WithMachines

# Echoes keys that come through INT 16h; '!' ends the machine with status 7.
ECHO_KEYS = """
    org 0x7c00
    bits 16
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    mov si, ready
.print: lodsb
    test al, al
    jz .key
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    jmp .print
.key: xor ah, ah
    int 0x16
    cmp al, '!'
    je .end
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    jmp .key
.end: mov al, 3
    out 0xf4, al
ready: db 13, 10, "keys: ", 0
    times 510-($-$$) db 0
    dw 0xaa55
    times 1048576-($-$$) db 0
"""

# Mode 13h with one red pixel at (5, 3), color 4 of the BIOS's palette, and nothing else.
PIXEL = """
    org 0x7c00
    bits 16
    mov ax, 0x0013
    int 0x10
    push 0xa000
    pop es
    mov byte [es:3 * 320 + 5], 4
    hlt_: hlt
    jmp hlt_
    times 510-($-$$) db 0
    dw 0xaa55
    times 1048576-($-$$) db 0
"""


def read_png(path):
    """Width, height and rows of RGB bytes of a PNG file as Veneer writes them: no filter."""
    with open(path, "rb") as file:
        data = file.read()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", body[:8])
        if kind == b"IDAT":
            packed += body
        at += 12 + length
    lines = zlib.decompress(packed)
    step = width * 3 + 1
    return width, height, [lines[y * step + 1:(y + 1) * step] for y in range(height)]


class Firmware(WithMachines):
    def boot(self, source, *flags):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        with open(f"{self.folder}/boot.asm", "w") as file:
            file.write(source)
        subprocess.run(["nasm", "-f", "bin", "-o", f"{self.folder}/boot.img", f"{self.folder}/boot.asm"], check=True)
        self.veneer("run", "--detach", "--name", "one", "--memory", "64M", f"{self.folder}/boot.img,format=raw", *flags,
                    stdin=subprocess.DEVNULL)

    def screen(self):
        return self.veneer("monitor", "one", "info", "screen")

    def wait_for(self, text):
        self.wait_until(lambda: text in self.screen())

    def test_typed_text_reaches_int_16h(self):
        self.boot(ECHO_KEYS, "--debug-exit")
        self.wait_for("keys:")
        self.veneer("type", "one", "Hello, World [1+1=2]")
        self.wait_for("keys: Hello, World [1+1=2]")
        self.veneer("sendkey", "one", "shift-1")
        self.wait_until(lambda: not self.list())

    def test_monitor_types_too(self):
        self.boot(ECHO_KEYS)
        self.wait_for("keys:")
        self.veneer("monitor", "one", "type", "a\\nb")
        self.wait_for("\nb" if "keys: a" not in self.screen() else "keys: a")
        self.veneer("monitor", "one", "sendkey", "x y z")
        self.wait_for("xyz")

    def test_ctrl_alt_delete_restarts(self):
        self.boot(ECHO_KEYS)
        self.wait_for("keys:")
        self.veneer("type", "one", "before")
        self.wait_for("keys: before")
        self.veneer("sendkey", "one", "ctrl-alt-delete")
        self.wait_until(lambda: "keys:" in self.screen() and "before" not in self.screen())

    def test_picture_of_a_text_mode(self):
        self.boot(ECHO_KEYS)
        self.wait_for("keys:")
        picture = f"{self.folder}/screen.png"
        self.veneer("screenshot", "one", picture)
        width, height, rows = read_png(picture)
        self.assertEqual((width, height), (720, 400))
        self.assertGreater(sum(byte != 0 for row in rows for byte in row), 1000)

    def test_picture_of_a_graphics_mode(self):
        self.boot(PIXEL)
        self.wait_for("graphics mode")
        picture = f"{self.folder}/screen.png"
        time.sleep(0.5)
        self.veneer("monitor", "one", "screenshot", picture)
        width, height, rows = read_png(picture)
        self.assertEqual((width, height), (640, 400))
        lit = {(x, y): tuple(row[3 * x:3 * x + 3]) for y, row in enumerate(rows) for x in range(width)
               if any(row[3 * x:3 * x + 3])}
        red = (170, 0, 0)
        self.assertEqual(lit, {(10, 6): red, (11, 6): red, (10, 7): red, (11, 7): red})

    def test_wrong_keys_are_refused(self):
        self.boot(ECHO_KEYS)
        self.veneer("sendkey", "one", "ctrl-bang", status=1)
        self.assertIn('no key "bang"', self.stderr)

    def test_picture_that_cannot_be_written(self):
        self.boot(ECHO_KEYS)
        self.veneer("screenshot", "one", "/nonexistent/x.png", status=1)
        self.assertIn("/nonexistent/x.png", self.stderr)


class NoScreen(WithMachines):
    def test_directly_booted_kernel(self):
        self.start("one")
        self.assertIn("no screen", self.veneer("monitor", "one", "info", "screen"))
        picture = f"{self.runtime.name}/x.png"
        self.veneer("screenshot", "one", picture, status=1)
        self.assertIn("no screen", self.stderr)
        self.assertFalse(os.path.exists(picture))
        self.veneer("type", "one", "x", status=1)
        self.assertIn("no keyboard", self.stderr)


class Linux(WithMachines):
    """Debian's kernel for ordinary computers, which has drivers for both."""

    def test_keyboard_and_mouse(self):
        command = veneer_command("--name", "one", kernel=f"{GUEST_DIR}/vmlinuz-generic",
                                 initrd=f"{GUEST_DIR}/generic.initrd")
        with Guest(command=command, environment=self.environment) as guest:
            guest.boot(200)
            self.assertIn("AT Translated Set 2 keyboard", guest.run("cat /proc/bus/input/devices")[1])
            guest.run("insmod /lib/modules/psmouse.ko")
            guest.run("for i in 1 2 3 4 5 6 7 8 9 10; do grep -q Mouse /proc/bus/input/devices && break; sleep 1; done")
            self.assertRegex(guest.run("cat /proc/bus/input/devices")[1], "Generic Explorer Mouse|Wheel Mouse")

            # A line typed at the first virtual terminal.
            guest.type("head -n 1 /dev/tty1 | sed 's/^/TTY: /'\n")
            guest.expect("sed")
            time.sleep(1)
            self.veneer("type", "one", "What's up, Doc?\n")
            guest.expect("TTY: What's up, Doc\\?", 60)

            guest.type("dd if=/dev/input/mice bs=3 count=2 2>/dev/null | od -An -tx1 | sed 's/^/MICE:/'\n")
            guest.expect("sed")
            time.sleep(1)
            self.veneer("monitor", "one", "mouse_button", "left")
            self.veneer("monitor", "one", "mouse_move", "5", "3")
            guest.expect("MICE: 09 00 00 29 05 fd", 60)
            self.assertEqual(guest.run("dmesg | grep -iE 'i8042.*(fail|timeout)|psmouse.*(lost|fail)|BUG:'")[1], "")


if __name__ == "__main__":
    unittest.main()
