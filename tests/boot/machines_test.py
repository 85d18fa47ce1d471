"""Several machines on one host: veneer ps, stop, kill, attach and monitor, with real guests."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from guest import PROMPT, SCALE, VENEER, Guest, veneer_command

SMALL = ["--machine", "micro", "--memory", "96M"]


class WithMachines(unittest.TestCase):
    """A run directory of its own for each test; no machine outlives it."""

    def setUp(self):
        self.runtime = tempfile.TemporaryDirectory()
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.runtime.name)

    def tearDown(self):
        for machine in self.list():
            os.kill(machine["pid"], signal.SIGKILL)
        self.wait_until(lambda: not self.list())
        self.runtime.cleanup()

    def veneer(self, *words, status=0, **more):
        """A command that ends by itself; its standard output."""
        run = subprocess.run([VENEER, *words], capture_output=True, text=True, errors="replace",
                             env=self.environment, timeout=120 * SCALE, **more)
        self.assertEqual(run.returncode, status, f"{words}: {run.stdout}{run.stderr}")
        self.stderr = run.stderr
        return run.stdout

    def start(self, name=None, *flags, cmdline="console=ttyS0 quiet"):
        command = veneer_command("--detach", *SMALL, *(["--name", name] if name else []), *flags, cmdline=cmdline)[1:]
        return self.veneer(*command, stdin=subprocess.DEVNULL).strip()

    def list(self):
        return json.loads(subprocess.run([VENEER, "ps", "--json"], capture_output=True, text=True, check=True,
                                         env=self.environment, timeout=60 * SCALE).stdout)

    def attach(self, name):
        return Attach(name, self.environment)

    def wait_until(self, condition, timeout=30):
        deadline = time.monotonic() + timeout * SCALE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)


class Attach(Guest):
    """veneer attach NAME; the rest is as with a guest in the foreground."""

    def __init__(self, name, environment):
        super().__init__(command=[VENEER, "attach", name], environment=environment)

    def wait_for_prompt(self):
        self.expect("Welcome to a Veneer guest", 120)
        self.expect(PROMPT)
        return self


class List(WithMachines):
    def test_nothing_runs(self):
        self.assertEqual(self.veneer("ps"), "no machines are running\n")
        self.assertEqual(json.loads(self.veneer("ps", "--json")), [])

    def test_what_it_says(self):
        self.start("web")
        (machine,) = self.list()
        self.assertEqual((machine["name"], machine["state"], machine["cpus"], machine["memory_bytes"]),
                         ("web", "running", 1, 96 << 20))
        self.assertEqual((machine["engine"], machine["machine"]), ("bt", "micro"))
        with open(f"/proc/{machine['pid']}/comm", encoding="ascii") as file:
            self.assertEqual(file.read().strip(), "veneer")
        self.wait_until(lambda: self.list()[0]["cpu_seconds"] > 0.05)
        self.assertGreater(self.list()[0]["resident_bytes"], 10 << 20)
        self.assertRegex(self.veneer("ps"), r"(?m)^web +\d+ +running +\d+s +1 +96 MiB +\d+ MiB +[\d.]+s$")

    def test_a_machine_in_the_foreground_is_listed(self):
        with Guest("--name", "front", *SMALL, environment=self.environment) as guest:
            guest.boot()
            self.assertEqual([m["name"] for m in self.list()], ["front"])
            guest.type("poweroff -f\n")
            self.assertEqual(guest.wait(), 0)
        self.assertEqual(self.list(), [])

    def test_paused(self):
        self.start("web")
        self.veneer("monitor", "web", "pause")
        self.wait_until(lambda: self.list()[0]["state"] == "paused")


class Names(WithMachines):
    def test_automatic(self):
        self.assertEqual([self.start(), self.start()], ["vm1", "vm2"])

    def test_taken(self):
        self.start("web")
        self.veneer(*veneer_command("--name", "web")[1:], status=1)
        self.assertIn("is running already", self.stderr)
        self.assertIn("veneer stop web", self.stderr)

    def test_bad(self):
        self.veneer(*veneer_command("--name", "../web")[1:], status=1)
        self.assertIn("cannot be a machine's name", self.stderr)

    def test_unknown(self):
        self.start("web")
        for command in ("stop", "kill", "attach", "monitor"):
            self.veneer(command, "wbe", status=1)
            self.assertIn('no machine named "wbe" is running (these are: web)', self.stderr)

    def test_a_run_directory_of_others(self):
        os.mkdir(f"{self.runtime.name}/veneer")
        os.chmod(f"{self.runtime.name}/veneer", 0o777)
        self.veneer(*veneer_command("--name", "web")[1:], status=1)
        self.assertIn("could take over machines", self.stderr)
        with Guest(*SMALL, environment=self.environment) as guest:  # without a name it runs, unlisted
            guest.boot()
            self.assertIn("veneer ps will not show this machine", guest.stderr())
        os.rmdir(f"{self.runtime.name}/veneer")


class Attaching(WithMachines):
    def test_machines_are_independent(self):
        self.start("one")
        self.start("two")
        with self.attach("one") as one, self.attach("two") as two:
            one.wait_for_prompt()
            two.wait_for_prompt()
            self.assertEqual(one.run("me=first; echo $me")[1], "first")
            self.assertEqual(two.run("echo ${me:-unset}")[1], "unset")
            self.assertEqual(one.run("echo $me")[1], "first")

    def test_detach_and_come_back(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            console.run("mark=here")
            console.type("\x01d")
            self.assertEqual(console.wait(20), 0)
            self.assertIn("detached", console.stderr())
        with self.attach("web") as console:
            console.expect("Welcome")  # the history
            console.expect("EN''D")
            console.expect(PROMPT)
            self.assertEqual(console.run("echo $mark")[1], "here")

    def test_two_at_one_machine(self):
        self.start("web")
        with self.attach("web") as one, self.attach("web") as two:
            one.wait_for_prompt()
            two.wait_for_prompt()
            one.type("echo both see th''is\n")
            one.expect("^both see this")
            two.expect("^both see this")

    def test_end_key(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            console.type("\x01x")
            self.assertEqual(console.wait(20), 0)
            self.assertIn("has ended", console.stderr())
        self.assertEqual(self.list(), [])

    def test_monitor_key(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            console.type("\x01cinfo status\r")
            console.expect("web: running, 1 CPU, engine bt")
            console.type("\x01c")
            console.type("\n")
            console.expect(PROMPT)

    def test_the_guest_ends(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            console.type("poweroff -f\n")
            self.assertEqual(console.wait(60), 0)

    def test_much_output_arrives_whole(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            self.assertEqual(console.run("seq 1 20000", 120)[1].split(), [str(i) for i in range(1, 20001)])

    def test_a_client_that_sleeps_does_not_stop_the_guest_for_good(self):
        self.start("web")
        with self.attach("web") as awake, self.attach("web") as asleep:
            awake.wait_for_prompt()
            asleep.wait_for_prompt()
            asleep.process.send_signal(signal.SIGSTOP)
            try:
                self.assertEqual(awake.run("seq 1 100000 | tail -n 60000 | wc -l; seq 1 90000 | md5sum", 120)[0], 0)
                awake.type("seq 1 150000; echo do''ne\n")
                awake.expect("^done", 120)
            finally:
                asleep.process.send_signal(signal.SIGCONT)


class Ending(WithMachines):
    def test_stop(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
            self.assertEqual(self.veneer("stop", "web"), "web has shut down\n")
            self.assertEqual(console.wait(), 0)
        self.assertEqual(os.listdir(f"{self.runtime.name}/veneer"), [])

    def test_stop_of_a_guest_that_ignores_it(self):
        self.start("web", cmdline="console=ttyS0 quiet rdinit=/bin/sh")
        with self.attach("web") as console:
            console.expect("# ", 120)
            self.veneer("stop", "web", "--timeout", "1", status=1)
            self.assertIn("still runs 1 s after its power button was pressed", self.stderr)
            self.assertIn("veneer kill web", self.stderr)
        self.assertEqual(len(self.list()), 1)

    def test_stop_of_a_paused_machine(self):
        self.start("web", "--paused")
        self.wait_until(lambda: self.list()[0]["state"] == "paused")
        self.veneer("stop", "web", status=1)
        self.assertIn("is paused", self.stderr)

    def test_kill(self):
        self.start("web")
        self.assertEqual(self.veneer("kill", "web"), "web has been ended\n")
        self.assertEqual(os.listdir(f"{self.runtime.name}/veneer"), [])

    def test_kill_of_a_process_that_does_not_answer(self):
        self.start("web")
        os.kill(self.list()[0]["pid"], signal.SIGSTOP)
        self.assertIn("did not answer; its process was killed", self.veneer("kill", "web"))
        self.assertEqual(self.list(), [])

    def test_a_killed_process_leaves_nothing(self):
        self.start("web")
        os.kill(self.list()[0]["pid"], signal.SIGKILL)
        self.wait_until(lambda: not self.list())
        self.assertEqual(os.listdir(f"{self.runtime.name}/veneer"), [])
        self.assertEqual(self.start("web"), "web")

    def test_last_words(self):
        self.start("web")
        os.kill(self.list()[0]["pid"], signal.SIGINT)
        self.wait_until(lambda: self.veneer("ps") == "no machines are running\n" or "last words" in self.stderr)
        self.assertIn('machine "web" is dead; its last words:\nveneer: ended by signal 2', self.stderr)

    def test_a_start_that_fails(self):
        self.veneer("run", "--detach", "--name", "web", "--kernel", "/nonexistent", status=1)
        self.assertIn("kernel /nonexistent: cannot open it", self.stderr)
        self.assertEqual(self.list(), [])
        self.assertEqual(os.listdir(f"{self.runtime.name}/veneer"), [])


class MonitorCommand(WithMachines):
    def test_one_command(self):
        self.start("web")
        self.assertEqual(self.veneer("monitor", "web", "info", "status"), "web: running, 1 CPU, engine bt\n")

    def test_a_prompt(self):
        self.start("web")
        output = self.veneer("monitor", "web", input="info status\npause\ninfo status\n")
        self.assertTrue(re.search("running(.|\n)*paused", output), output)

    def test_registers(self):
        self.start("web")
        self.assertRegex(self.veneer("monitor", "web", "info", "registers"), r"RIP +[0-9a-f]{16}")

    def test_looking_at_the_tlb_leaves_it_alone(self):
        self.start("web")
        with self.attach("web") as console:
            console.wait_for_prompt()
        self.veneer("monitor", "web", "info", "tlb")
        filled = re.findall(r"supervisor (\d+) filled", self.veneer("monitor", "web", "info", "tlb"))
        self.assertGreater(sum(int(n) for n in filled), 100)


if __name__ == "__main__":
    unittest.main()
