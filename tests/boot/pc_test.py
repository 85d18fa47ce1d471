"""The devices of a pc under Linux's drivers: the HPET."""
import unittest

from guest import Guest


class Hpet(unittest.TestCase):
    def test_linux_lists_it_and_keeps_time_by_it(self):
        """The clock source and, with the local APICs' timers off, the source of all interrupts of time, too."""
        with Guest(cmdline="console=ttyS0 quiet clocksource=hpet nolapic_timer no-kvmclock") as guest:
            guest.boot(200)
            clocks = "/sys/devices/system/clocksource/clocksource0"
            self.assertIn("hpet", guest.run(f"cat {clocks}/available_clocksource")[1])
            self.assertEqual(guest.run(f"cat {clocks}/current_clocksource")[1], "hpet")
            self.assertIn("hpet", guest.run("grep -w 'Clock Event Device:' /proc/timer_list")[1])
            ticks = "awk '$1 == \"0:\" {print $2}' /proc/interrupts"
            before = int(guest.run(ticks)[1])
            status, _ = guest.run("sleep 1")
            self.assertEqual(status, 0)
            self.assertGreater(int(guest.run(ticks)[1]), before)
            self.assertEqual(guest.run("dmesg | grep -iE 'hpet.*(fail|lost)|unstable|BUG:'")[1], "")


if __name__ == "__main__":
    unittest.main()
