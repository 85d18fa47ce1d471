"""Boot discs that others made, under SeaBIOS: ISOLINUX with its 32-bit modules, GRUB's rescue disc, iPXE with its own drivers.
And U-Boot in place of SeaBIOS.

By hand: guest/build_demo.sh, guest/build_xen.sh and guest/build_loaders.sh build/guest, then as boot_test.py.
"""
import functools
import http.server
import re
import threading
import unittest

from guest import GUEST_DIR, VENEER, Guest


def boot_disc(disc, *flags, memory="256M"):
    return Guest(command=[VENEER, "run", "--cdrom", f"{GUEST_DIR}/{disc}", "--memory", memory, "--no-reboot", *flags],
                 escapes=False)


def enter(guest, line):
    """Types a line no faster than it is read: SeaBIOS' keyboard buffer holds 15 characters."""
    for start in range(0, len(line), 8):
        part = line[start:start + 8]
        guest.type(part)
        guest.expect(re.escape(part), 30)
    guest.type("\r")


class Isolinux(unittest.TestCase):
    """Its core switches between protected mode and the BIOS for each sector and each character."""

    def test_memtest(self):
        with boot_disc("isolinux.iso", memory="16M") as guest:
            guest.expect("boot: ")
            enter(guest, "memtest")
            guest.expect("Memtest86\\+")
            guest.expect("#(?:[4-9]|10) +\\[", 120)
            errors = guest.expect("Errors: (\\d+)")
            self.assertEqual(errors[1], "0")

    def test_xen_by_multiboot(self):
        with boot_disc("isolinux.iso") as guest:
            guest.expect("boot: ")
            enter(guest, "xen")
            guest.expect("Bootloader: ISOLINUX")
            guest.expect("VGA is text mode 80x25")
            guest.expect("dom0 kernel not specified")

    def test_memory_map(self):
        with boot_disc("isolinux.iso") as guest:
            guest.expect("boot: ")
            enter(guest, "meminfo")
            guest.expect("DOS RAM: 639K")
            guest.expect("0000000000100000")


class UBoot(unittest.TestCase):
    """A firmware of its own kind: x86 from the reset vector to 64-bit code, and drivers for most devices."""

    def test_disks_and_network(self):
        disk = f"{GUEST_DIR}/boot.img"
        command = [VENEER, "run", "--firmware", f"{GUEST_DIR}/u-boot.rom", "--memory", "256M", "--no-reboot",
                   "--net", "user,model=e1000"]
        for interface in "nvme", "ide", "virtio":
            command += ["--disk", f"{disk},if={interface},snapshot"]
        with Guest(command=command, escapes=False) as guest:
            guest.expect("e1000: 52:56:")
            guest.expect("Hit any key to stop autoboot")
            guest.type(" ")
            guest.expect("=> ")
            enter(guest, "dhcp")
            guest.expect("DHCP client bound to address 10\\.0\\.2\\.15")
            guest.expect("=> ")
            enter(guest, "nvme scan; nvme info")
            guest.expect("Vendor: 0x1234")
            guest.expect("=> ")
            enter(guest, "ide reset")
            guest.expect("VENEER HARDDISK")
            guest.expect("=> ")
            enter(guest, "virtio scan; virtio info")
            guest.expect("VirtIO Block Device")
            guest.expect("=> ")
            enter(guest, "reset")
            self.assertEqual(guest.wait(), 0)


class GrubRescue(unittest.TestCase):
    def test_commands_and_power_off(self):
        with boot_disc("grub-rescue.iso") as guest:
            guest.expect("Change the colors")
            guest.type("c")
            guest.expect("grub> ")
            enter(guest, "lspci")
            guest.expect("8086:7000")  # the PIIX3
            guest.expect("grub> ")
            enter(guest, "halt")
            self.assertEqual(guest.wait(), 0)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Ipxe(unittest.TestCase):
    """Kernel and initial RAM disk come over HTTP from the host's loopback."""

    def boots_linux(self, model):
        handler = functools.partial(Quiet, directory=GUEST_DIR)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://10.0.2.2:{server.server_address[1]}"
            with boot_disc("ipxe.iso", "--net", f"user,model={model}") as guest:
                # Ctrl-B leads to the command line. It asks for two seconds; on a busy host it has to be there before that.
                guest.expect("iPXE initialising devices")
                guest.type("\x02")
                guest.expect("iPXE> ")
                # Without "-c dhcp" it waits for IPv6, too.
                for line in ("ifconf -c dhcp", f"kernel {url}/vmlinuz console=ttyS0 quiet", f"initrd {url}/initrd"):
                    enter(guest, line)
                    guest.expect(" ok\\r?\\n")
                    guest.expect("iPXE> ")
                enter(guest, "boot")
                guest.boot()
                self.assertEqual(guest.run("echo works"), (0, "works"))
            server.shutdown()

    def test_virtio(self):
        self.boots_linux("virtio")

    def test_e1000(self):
        self.boots_linux("e1000")


if __name__ == "__main__":
    unittest.main()
