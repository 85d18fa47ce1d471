"""A guest under veneer, driven from a test: start it, type at its console, read what it answers, see how it ends."""
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import threading
import time

VENEER = os.environ.get("VENEER", "build/bin/veneer")
GUEST_DIR = os.environ.get("VENEER_GUEST", "build/guest")
# Sanitized builds and busy hosts are slower; every timeout below is multiplied by this.
SCALE = float(os.environ.get("VENEER_TIMEOUT_SCALE", "1"))
# A folder for the console of every run, as it comes: to watch what a long test does.
LOG_DIR = os.environ.get("VENEER_CONSOLE_LOGS")
# What moves a terminal's cursor or changes its colours; at the end of a read it may be cut.
ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[^\[])")
CUT_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*)?\Z")
PROMPT = r"veneer:[^\n]*# "
SANITIZED_NOTE = "veneer: sandbox: this build has sanitizers"


class Failed(AssertionError):
    """The guest did not do what was waited for; the text has the end of its console."""


def veneer_command(*flags, cmdline="console=ttyS0 quiet", kernel=None, initrd=None, veneer=None):
    """The command line that boots the demo guest; an empty initrd means none."""
    command = [veneer or VENEER, "run", "--kernel", kernel or f"{GUEST_DIR}/vmlinuz", "--cmdline", cmdline]
    if initrd != "":
        command += ["--initrd", initrd or f"{GUEST_DIR}/initrd"]
    return command + list(flags)


class Guest:
    """One run of veneer. Use it in a with statement: it is killed at the end if it still runs."""

    def __init__(self, *flags, terminal=False, wrapper=(), command=None, environment=None, escapes=True, **where):
        """escapes=False drops ESCAPE: SeaBIOS puts cursor movements into the middle of words."""
        self.started = time.monotonic()
        self.console = ""   # all output so far
        self._read = 0      # how much of it expect() has passed
        self._stderr_file = tempfile.TemporaryFile("w+", errors="replace")
        self._new_output = threading.Condition()
        command = command or list(wrapper) + veneer_command(*flags, **where)
        if terminal:
            # The guest's keyboard and screen is a terminal, as for a person; its settings are to be looked at later.
            self.terminal, slave = pty.openpty()
            self.settings_before = termios.tcgetattr(slave)
            self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=self._stderr_file,
                                            start_new_session=True, preexec_fn=_take_terminal, env=environment)
            self.slave = slave
            self._input = self._output = self.terminal
        else:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self._stderr_file, start_new_session=True, env=environment)
            self._input, self._output = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._escapes = escapes
        self._cut = ""  # the beginning of an escape sequence
        self._log = open(f"{LOG_DIR}/console-{self.process.pid}.log", "w", buffering=1) if LOG_DIR else None
        self._closing = False
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self):
        while True:
            ready, _, _ = select.select([self._output], [], [], 0.2)
            if ready:
                try:
                    data = os.read(self._output, 65536)
                except OSError:
                    data = b""
                if not data:
                    break
                text = data.decode("utf-8", "replace")
                if self._log:
                    self._log.write(text)
                    self._log.flush()
                if not self._escapes:
                    text = ESCAPE.sub("", self._cut + text)
                    found = CUT_ESCAPE.search(text)
                    self._cut = found[0] if found else ""
                    text = text[:len(text) - len(self._cut)]
                with self._new_output:
                    self.console += text
                    self._new_output.notify_all()
            elif self._closing:
                break
        self._closing = True
        with self._new_output:
            self._new_output.notify_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._closing = True
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout, self._stderr_file, self._log):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    # Reading

    def expect(self, pattern, timeout=60):
        """Waits for pattern after what earlier calls matched; returns the match."""
        deadline = time.monotonic() + timeout * SCALE
        with self._new_output:
            while True:
                found = re.compile(pattern, re.MULTILINE).search(self.console, self._read)
                if found:
                    self._read = found.end()
                    return found
                left = deadline - time.monotonic()
                if self._closing or left <= 0:
                    reason = "the output ended" if self._closing else f"nothing like that in {timeout * SCALE:.0f} s"
                    raise Failed(f"waiting for {pattern!r}: {reason}\n{self.story()}")
                self._new_output.wait(min(left, 1))

    def stderr(self):
        """What it said; without the word of a sanitized build on its sandbox, which is not about the machine."""
        self._stderr_file.seek(0)
        return "".join(line for line in self._stderr_file.read().splitlines(True) if SANITIZED_NOTE not in line)

    def story(self):
        """The end of the console and of stderr, for messages."""
        return f"--- console, the end:\n{self.console[-3000:]}\n--- stderr, the end:\n{self.stderr()[-2000:]}---"

    # Typing

    def type(self, text):
        os.write(self._input, text.encode())

    def boot(self, timeout=120):
        """Waits for the first prompt."""
        self.expect("Welcome to a Veneer guest", timeout)
        self.expect(PROMPT, timeout)
        return self

    def run(self, command, timeout=60):
        """Runs a shell command in the guest: (status, output). The quotes keep the echo from looking like the answer."""
        self.type(f"echo BE''GIN; {command}\necho EN''D $?\n")
        self.expect(r"^BEGIN\r*$", timeout)
        start = self._read
        end = self.expect(r"^END (\d+)\r*$", timeout)
        output = self.console[start:end.start()].replace("\r", "")
        # Between the answer and END stands the prompt with the echo of the second line.
        output = re.sub(r"\n?[^\n]*" + PROMPT + r"[^\n]*echo EN''D[^\n]*\n?\Z", "", output)
        self.expect(PROMPT, timeout)
        return int(end[1]), output.strip("\n")

    def processor_seconds(self):
        """What veneer has used so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # Ending

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, timeout=60):
        """The exit status; a status below zero is a signal."""
        try:
            status = self.process.wait(timeout * SCALE)
        except subprocess.TimeoutExpired:
            raise Failed(f"veneer did not end in {timeout * SCALE:.0f} s\n{self.story()}") from None
        self._closing = True
        self._reader.join(5)
        return status


def _take_terminal():
    import fcntl
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
