"""The sandbox from outside: what the threads of a running machine have given up, and what stops one that wants more."""
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from guest import GUEST_DIR, SCALE, VENEER, Guest, veneer_command

# Where each kind of thread comes from, and flags that make one.
FLAGS = {"main": [], "vcpu": [], "events": [], "console": [], "signals": [], "output": [],
         "server": ["--gdb", "tcp:127.0.0.1:0"], "watchdog": ["--hang-dump", "60"], "net": ["--net", "user"],
         "netfiles": ["--net", f"user,tftp={GUEST_DIR}"]}
# What is attempted (sandbox/test_attempt.h), and the system call that the message names.
CALLS = {"execve": "execve", "open": "openat", "socket": "socket", "fork": "clone", "ptrace": "ptrace",
         "kill": "kill", "exec-memory": "mmap", "type": "ioctl"}
SANITIZED = bool(os.environ.get("VENEER_SANITIZED"))  # such builds have no filters (sandbox/sandbox.h)


def refused(kind, call, flags):
    command = veneer_command(*flags, "--sandbox-test", f"{kind}:{call}")
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          timeout=60 * SCALE)


def thread_statuses(pid):
    """{name: {field: value}} of every thread."""
    result = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        result[f"{fields['Name']}-{task}"] = fields
    return result


@unittest.skipIf(SANITIZED, "no filters in sanitized builds")
class Refused(unittest.TestCase):
    """A forbidden call on a thread of each kind ends the machine with a message that says what it was."""

    def check(self, kind, flags=None):
        for call, name in CALLS.items():
            if kind in ("net", "netfiles") and call == "socket":
                continue  # what this kind is for
            with self.subTest(call=call):
                run = refused(kind, call, flags or FLAGS[kind])
                if kind in ("net", "netfiles") and call == "open":  # libslirp may try, and fails
                    self.assertEqual(run.returncode, 98, run.stderr)
                    continue
                self.assertEqual(run.returncode, 1, run.stderr)
                self.assertIn("the sandbox stopped the thread", run.stderr)
                self.assertIn(f"at the system call {name} (number", run.stderr)
                self.assertIn("--sandbox off", run.stderr)

    def test_main(self):
        self.check("main")

    def test_vcpu(self):
        self.check("vcpu")

    def test_events(self):
        self.check("events")

    def test_console(self):
        self.check("console")

    def test_signals(self):
        self.check("signals")

    def test_output(self):
        self.check("output")

    def test_server(self):
        self.check("server")

    def test_watchdog(self):
        self.check("watchdog")

    def test_worker(self):
        with tempfile.NamedTemporaryFile() as image:
            image.truncate(1 << 20)
            self.check("worker", ["--disk", f"{image.name},format=raw"])

    def test_remote(self):
        """A worker whose disk is on a server."""
        if not shutil.which("qemu-nbd"):
            self.skipTest("needs qemu-nbd (package qemu-utils)")
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/image", "wb") as image:
                image.truncate(1 << 20)
            server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-k", f"{folder}/socket", f"{folder}/image"])
            try:
                while not os.path.exists(f"{folder}/socket") and server.poll() is None:
                    time.sleep(0.05)
                self.check("remote", ["--disk", f"nbd+unix:///?socket={folder}/socket"])
            finally:
                server.kill()
                server.wait()

    def test_net(self):
        self.check("net")

    def test_netfiles(self):
        self.check("netfiles")

    def test_off(self):
        """Off means off, and says so."""
        with Guest("--sandbox", "off", "--sandbox-test", "vcpu:open") as guest:
            guest.boot()
            self.assertIn("--sandbox off: what breaks out of this guest has all rights", guest.stderr())


@unittest.skipIf(SANITIZED, "no filters in sanitized builds")
class GivenUp(unittest.TestCase):
    """What /proc says of a machine that runs."""

    def test_every_thread(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--net", "user", "--hang-dump", "600", "--gdb", "tcp:127.0.0.1:0", "--stats", f"{folder}/stats"]
            with Guest(*flags) as guest:
                guest.boot()
                threads = thread_statuses(guest.process.pid)
                self.assertGreaterEqual(len(threads), 9, threads.keys())
                for name, fields in threads.items():
                    with self.subTest(thread=name):
                        self.assertEqual(fields["Seccomp"], "2")
                        self.assertEqual(fields["NoNewPrivs"], "1")
                        for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                            self.assertEqual(int(fields[capabilities], 16), 0, capabilities)
                        if os.geteuid() == 0:
                            self.assertEqual(int(fields["CapBnd"], 16), 0)
                guest.type("poweroff -f\n")
                self.assertEqual(guest.wait(), 0)
            self.assertGreater(os.path.getsize(f"{folder}/stats"), 100)

    def test_inherited_descriptors_are_closed(self):
        if os.geteuid() != 0:
            self.skipTest("looking at the descriptors of a process that hides needs root")
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_inheritable(fd, True)
        process = subprocess.Popen(veneer_command("--paused"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   close_fds=False)
        try:
            os.close(writer)
            self.assertEqual(os.read(reader, 1), b"")  # the end of the file: nobody has the other end any more
        finally:
            process.kill()
            process.wait()
            os.close(reader)

    def test_memory_is_hidden_from_the_same_user(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to become another user")
        nobody = 65534
        with Guest("--paused", wrapper=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]) as guest:
            guest.type("\x01h")
            guest.expect("Ctrl-A")
            probe = (f"import os; os.setgid({nobody}); os.setuid({nobody}); "
                     f"open('/proc/{guest.process.pid}/mem', 'rb')")
            run = subprocess.run(["python3", "-c", probe], capture_output=True, text=True)
            self.assertIn("PermissionError", run.stderr)

    def test_socket_files_are_removed_at_the_end(self):
        with tempfile.TemporaryDirectory() as folder:
            with Guest("--serial", f"unix:{folder}/console") as guest:
                while not os.path.exists(f"{folder}/console"):
                    self.assertIsNone(guest.process.poll(), guest.stderr())
                    time.sleep(0.01)
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(60 * SCALE)
                    client.connect(f"{folder}/console")
                    self.assertTrue(client.recv(1))  # the guest runs, so everything is confined
                guest.signal()
                self.assertEqual(guest.wait(), 1)
            self.assertEqual(os.listdir(folder), [])


class Doctor(unittest.TestCase):
    def test_tries_the_sandbox(self):
        run = subprocess.run([VENEER, "doctor", "--plain"], capture_output=True, text=True, timeout=60 * SCALE)
        self.assertRegex(run.stdout, r"(?m)^(ok|lack|--) +sandbox ")


if __name__ == "__main__":
    assert os.path.isdir(GUEST_DIR)
    unittest.main()
