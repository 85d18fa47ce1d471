"""Every way in which Linux restarts a PC, on both machines: with --no-reboot it is the end."""
import unittest

from guest import Guest


class Reset(unittest.TestCase):
    def restart(self, machine, how, status=0):
        with Guest("--no-reboot", "--machine", machine, cmdline=f"console=ttyS0 quiet reboot={how}") as guest:
            guest.boot()
            guest.type("reboot -f\n")
            self.assertEqual(guest.wait(30), status)

    def test_acpi_on_pc(self):
        self.restart("pc", "acpi")

    def test_keyboard_controller_on_pc(self):
        self.restart("pc", "kbd")

    def test_port_cf9_on_pc(self):
        self.restart("pc", "pci")

    def test_reset_vector_on_pc(self):
        self.restart("pc", "bios")

    def test_triple_fault_on_pc(self):
        self.restart("pc", "triple", status=3)

    def test_acpi_on_micro(self):
        self.restart("micro", "acpi")

    def test_port_cf9_on_micro(self):
        self.restart("micro", "pci")

    def test_reset_vector_on_micro(self):
        self.restart("micro", "bios")

    def test_reboot_on_micro(self):
        """Its ACPI is hardware-reduced: Linux asks EFI, which is not there, then the reset vector."""
        with Guest("--machine", "micro") as guest:
            guest.boot()
            guest.type("reboot -f\n")
            guest.boot()
            guest.type("poweroff\n")
            self.assertEqual(guest.wait(30), 0)

    def test_panic_on_micro(self):
        with Guest("--no-reboot", "--machine", "micro", cmdline="console=ttyS0 quiet panic=-1") as guest:
            guest.boot()
            guest.type("echo c > /proc/sysrq-trigger\n")
            guest.expect("Kernel panic", 30)
            self.assertEqual(guest.wait(30), 0)


if __name__ == "__main__":
    unittest.main()
