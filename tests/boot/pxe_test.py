"""Booting from the network: SeaBIOS with iPXE's ROM, OVMF with its own driver, files by TFTP out of a folder of the host.

By hand: guest/build_demo.sh build/guest, then as boot_test.py.
"""
import os
import shutil
import subprocess
import tempfile
import unittest

from guest import GUEST_DIR, VENEER, Guest

PXELINUX = "/usr/lib/PXELINUX/pxelinux.0"
LDLINUX = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
GRUB_MODULES = "/usr/lib/grub/x86_64-efi"


class Folder(unittest.TestCase):
    """With a folder that has the demo guest's kernel and initial RAM disk."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = f"{folder.name}/tftp"
        self.beside = folder.name
        os.mkdir(self.folder)
        for name in ("vmlinuz", "initrd"):
            shutil.copy(f"{GUEST_DIR}/{name}", f"{self.folder}/{name}")

    def write(self, name, text):
        path = f"{self.folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def machine(self, bootfile, net="", flags=()):
        network = f"user,tftp={self.folder},bootfile={bootfile}{net}"
        return Guest(command=[VENEER, "run", "--memory", "256M", "--net", network, "--no-reboot", *flags], escapes=False)

    def check(self, guest):
        guest.boot(180)
        self.assertEqual(guest.run("echo works"), (0, "works"))
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0, guest.story())
        self.assertNotIn("sandbox", guest.stderr())


class SeaBios(Folder):
    def test_script_of_ipxe(self):
        """The card is virtio; the file is a script, which iPXE carries out."""
        self.write("boot.ipxe", "#!ipxe\nkernel vmlinuz console=ttyS0 quiet\ninitrd initrd\nboot\n")
        with self.machine("boot.ipxe") as guest:
            guest.expect("iPXE")
            self.check(guest)

    def test_pxelinux(self):
        """PXELINUX loads through the PXE interface of the ROM (UNDI, UDP, TFTP), in real mode. The card is an e1000."""
        shutil.copy(PXELINUX, self.folder)
        shutil.copy(LDLINUX, self.folder)
        self.write("pxelinux.cfg/default", "SERIAL 0 115200\nDEFAULT linux\nLABEL linux\nKERNEL vmlinuz\n"
                   "INITRD initrd\nAPPEND console=ttyS0 quiet\n")
        with self.machine("pxelinux.0", ",model=e1000") as guest:
            guest.expect("PXELINUX")
            self.check(guest)

    def test_files_beside_the_folder_stay_unread(self):
        """Neither by a path that leads out nor by a symbolic link."""
        with open(f"{self.beside}/secret", "w") as file:
            file.write("#!ipxe\necho the secret was read\n")
        os.symlink(f"{self.beside}/secret", f"{self.folder}/link")
        self.write("boot.ipxe", "#!ipxe\nimgfetch link || echo no link\nimgfetch ../secret || echo no path\n"
                   "imgfetch nothing || echo no file\nimgfetch initrd && echo goes on\npoweroff\n")
        with self.machine("boot.ipxe") as guest:
            guest.expect("no link")
            guest.expect("no path")
            guest.expect("no file")
            guest.expect("goes on")

    def test_disk_comes_first_unless_asked_otherwise(self):
        """A disk that boots nothing is left for the network; --boot network starts there."""
        disk = f"{self.beside}/empty.img"
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        self.write("boot.ipxe", "#!ipxe\necho from the network\npoweroff\n")
        with self.machine("boot.ipxe", flags=(disk,)) as guest:
            guest.expect("Booting from Hard Disk")
            guest.expect("from the network")
        with self.machine("boot.ipxe", flags=(disk, "--boot", "network")) as guest:
            guest.expect("from the network")
            self.assertNotIn("Hard Disk", guest.console)


class Uefi(Folder):
    def test_grub_by_virtio(self):
        """OVMF's own driver and PXE client load GRUB, which loads the rest through them."""
        config = f"{self.beside}/grub.cfg"
        with open(config, "w") as file:
            file.write("serial --unit=0 --speed=115200\nterminal_output serial\necho GRUB by network\n"
                       "linux /vmlinuz console=ttyS0 quiet\ninitrd /initrd\nboot\n")
        subprocess.run(["grub-mkimage", "-d", GRUB_MODULES, "-O", "x86_64-efi", "-p", "(tftp,10.0.2.2)/", "-c", config,
                        "-o", f"{self.folder}/grub.efi", "efinet", "tftp", "net", "normal", "linux", "serial", "terminal",
                        "echo"], check=True)
        with self.machine("grub.efi", flags=("--firmware", "ovmf,vars=none", "--boot", "network")) as guest:
            guest.expect("GRUB by network", 180)
            self.check(guest)


class Refusals(unittest.TestCase):
    def complaint(self, *flags, status):
        done = subprocess.run([VENEER, "run", *flags], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr

    def test_no_directory(self):
        self.assertIn("is no directory", self.complaint("--net", "user,tftp=/nowhere,bootfile=x", status=1))

    def test_no_network(self):
        self.assertIn("--net user", self.complaint("--boot", "network", status=2))

    def test_no_rom(self):
        self.assertIn("no expansion ROM", self.complaint("--net", "user,rom=/etc/passwd,bootfile=x", status=1))


if __name__ == "__main__":
    unittest.main()
