"""Networks of real guests: --net user with its address, its name server's place, transfers both ways, forwarded ports."""
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from guest import GUEST_DIR, SCALE, VENEER, Guest, veneer_command
from machines_test import WithMachines

MIB = 1 << 20


def content(size):
    """Bytes that no compression and no luck gives."""
    block = hashlib.shake_256(b"veneer").digest(MIB)
    return (block * (size // MIB + 1))[:size]


class Server:
    """A listener on the host's loopback; serve(connection) for each one that comes, on a thread of its own."""

    def __init__(self, serve, kind=socket.SOCK_STREAM, address="127.0.0.1"):
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]
        self.served = 0
        self._serve = serve
        if kind == socket.SOCK_STREAM:
            self.socket.listen(200)
            threading.Thread(target=self._accept, daemon=True).start()
        else:
            threading.Thread(target=self._datagrams, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.served += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with connection:
            self._serve(connection)

    def _datagrams(self):
        while True:
            try:
                data, sender = self.socket.recvfrom(65536)
            except OSError:
                return
            self.served += 1
            self.socket.sendto(self._serve(data), sender)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def read_all(connection, digest):
    while True:
        data = connection.recv(1 << 16)
        if not data:
            return digest.hexdigest()
        digest.update(data)


def wait_for_address(guest):
    status, output = guest.run("n=0; until ip -4 addr show eth0 | grep -q inet || [ $n = 200 ]; do sleep 0.1; "
                               "n=$((n + 1)); done; ip -4 addr show eth0; ip route; cat /etc/resolv.conf; true", 60)
    assert status == 0 and "inet " in output, output
    return output


def free_port(address="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def connect(port, address="127.0.0.1"):
    """A forwarded port accepts at once, whether the guest listens or not: so ask until an answer comes."""
    return socket.create_connection((address, port), timeout=20 * SCALE)


def wait_for_address6(guest):
    """The guest makes one of the router's prefix; it may be used once nobody else claims it."""
    status, output = guest.run("n=0; until ip -6 addr show eth0 | grep fec0 | grep -qv tentative || [ $n = 200 ]; do sleep 0.1; "
                               "n=$((n + 1)); done; ip -6 addr show eth0; ip -6 route", 60)
    assert status == 0 and "inet6 fec0::" in output, output
    return output


# Where much is sent it is "busybox seq": the guest's shell runs seq itself, with its terminal's buffering, a write for each line.
class WithNetwork(unittest.TestCase):
    flags = ("--net", "user")

    def network(self, *flags, **where):
        guest = Guest(*(flags or self.flags), **where)
        self.addCleanup(guest.__exit__)
        guest.boot()
        self.addresses = wait_for_address(guest)
        return guest


class User(WithNetwork):
    """--net user, inside the sandbox as always."""

    def test_dhcp(self):
        guest = self.network()
        self.assertIn("inet 10.0.2.15/24", self.addresses)
        self.assertIn("default via 10.0.2.2", self.addresses)
        self.assertIn("nameserver 10.0.2.3", self.addresses)
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0)

    def test_the_gateway_answers_ping(self):
        guest = self.network()
        self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 10.0.2.2")[1])
        self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 -s 4000 10.0.2.2")[1])  # in fragments

    def test_download(self):
        data = content(64 * MIB + 12345)
        with Server(lambda connection: connection.sendall(data)) as server:
            guest = self.network()
            status, output = guest.run(f"nc 10.0.2.2 {server.port} </dev/null | sha256sum", 200)
            self.assertEqual((status, output.split()[0]), (0, hashlib.sha256(data).hexdigest()))

    def test_upload(self):
        results = []
        with Server(lambda connection: results.append(read_all(connection, hashlib.sha256()))) as server:
            guest = self.network()
            status, output = guest.run("dd if=/dev/urandom of=/tmp/data bs=1M count=48 2>/dev/null; "
                                       f"nc 10.0.2.2 {server.port} </tmp/data; sha256sum /tmp/data", 200)
            self.assertEqual(status, 0)
            deadline = time.monotonic() + 30 * SCALE
            while not results and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertEqual(results, [output.split()[0]])

    def test_both_ways_at_once(self):
        data = content(24 * MIB)

        sums = []
        with Server(lambda connection: connection.sendall(data)) as down, \
                Server(lambda connection: sums.append(read_all(connection, hashlib.sha256()))) as up:
            guest = self.network("--net", "user", "--cpus", "2")
            _, output = guest.run(f"busybox seq 1 3000000 | nc 10.0.2.2 {up.port} & "
                                  f"nc 10.0.2.2 {down.port} </dev/null | sha256sum; wait", 200)
            self.assertIn(hashlib.sha256(data).hexdigest(), output)
            expected = hashlib.sha256("".join(f"{i}\n" for i in range(1, 3000001)).encode()).hexdigest()
            self.assertEqual(sums, [expected])

    def test_many_connections(self):
        page = content(20000)

        def serve(connection):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)

        with Server(serve) as server:
            guest = self.network()
            script = f"get() {{ wget -q -O - http://10.0.2.2:{server.port}/ | md5sum; }}; " \
                "for round in 1 2 3 4 5 6 7 8 9 10; do for i in 1 2 3 4 5 6 7 8 9 10; do get & done; wait; done " \
                "2>/dev/null | grep -c " + hashlib.md5(page).hexdigest()
            _, output = guest.run(script, 120)
            self.assertEqual(output.split("\n")[-1], "100")
            self.assertEqual(server.served, 100)

    def test_udp(self):
        """A file by TFTP (RFC 1350, 2348), in blocks that need several frames each."""
        page, block = content(300000), 8192

        def serve(request):
            kind = int.from_bytes(request[:2], "big")
            if kind == 1:  # read request, with an option
                return b"\0\6blksize\0%d\0" % block
            number = int.from_bytes(request[2:4], "big")
            return b"\0\3" + (number + 1).to_bytes(2, "big") + page[number * block:(number + 1) * block]

        with Server(serve, socket.SOCK_DGRAM) as server:
            guest = self.network()
            _, output = guest.run(f"tftp -b {block} -g -l /tmp/page -r page 10.0.2.2 {server.port}; md5sum /tmp/page", 60)
            self.assertIn(hashlib.md5(page).hexdigest(), output)

    def test_forwarded_port(self):
        port = free_port()
        guest = self.network("--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:80")
        guest.run("mkdir /tmp/www; busybox seq 1 500000 >/tmp/www/page; httpd -p 80 -h /tmp/www")
        expected = "".join(f"{i}\n" for i in range(1, 500001)).encode()
        with connect(port) as client:
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            answer = b""
            while True:
                data = client.recv(1 << 16)
                if not data:
                    break
                answer += data
        self.assertTrue(answer.split(b"\r\n\r\n", 1)[1] == expected)

    def test_isolated(self):
        with Server(lambda connection: connection.sendall(b"secret")) as server:
            guest = self.network("--net", "user,isolated")
            _, output = guest.run(f"nc -w 3 10.0.2.2 {server.port} </dev/null; echo over", 60)
            self.assertNotIn("secret", output)
            self.assertEqual(server.served, 0)

    def test_two_cards(self):
        guest = self.network("--net", "user", "--net", "user,mac=52:56:00:00:00:42")
        self.assertIn("52:56:00:00:00:42", guest.run("cat /sys/class/net/eth1/address")[1])

    def test_more_queues(self):
        data = content(8 * MIB)
        with Server(lambda connection: connection.sendall(data)) as server:
            guest = self.network("--net", "user,queues=4", "--cpus", "2")
            self.assertIn("combined", guest.run("ls /sys/class/net/eth0/queues | sed 's/rx-.*/combined/'")[1])
            for _ in range(3):
                _, output = guest.run(f"nc 10.0.2.2 {server.port} </dev/null | sha256sum", 100)
                self.assertEqual(output.split()[0], hashlib.sha256(data).hexdigest())

    def test_micro(self):
        guest = self.network("--net", "user", "--machine", "micro")
        self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 10.0.2.2")[1])

    def test_a_reset_starts_it_anew(self):
        guest = self.network()
        guest.type("reboot\n")
        guest.boot()
        self.assertIn("inet 10.0.2.15/24", wait_for_address(guest))
        self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 10.0.2.2")[1])

    def test_as_nobody(self):
        wrapper = []
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            for source in (VENEER, f"{GUEST_DIR}/vmlinuz", f"{GUEST_DIR}/initrd"):
                shutil.copy(source, folder)
            if os.getuid() == 0:
                wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]
            port = free_port()
            guest = self.network("--net", f"user,hostfwd=tcp::{port}-:23", wrapper=wrapper,
                                 veneer=f"{folder}/{os.path.basename(VENEER)}", kernel=f"{folder}/vmlinuz",
                                 initrd=f"{folder}/initrd")
            self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 10.0.2.2")[1])
            guest.run("echo from inside >/tmp/word; (nc -l -p 23 </tmp/word >/dev/null &); sleep 0.5")
            with connect(port) as client:
                self.assertEqual(client.recv(100), b"from inside\n")

    def test_names(self):
        """The host's name server answers through 10.0.2.3, if this host has one that knows a name."""
        try:
            expected = {info[4][0] for info in socket.getaddrinfo("deb.debian.org", 80, socket.AF_INET)}
        except OSError:
            self.skipTest("this host resolves no names")
        guest = self.network()
        _, output = guest.run("nslookup -type=a deb.debian.org 10.0.2.3", 60)
        self.assertTrue(expected & set(re.findall(r"\d+\.\d+\.\d+\.\d+", output)), output)


@unittest.skipUnless(os.path.exists("/proc/net/if_inet6"), "this host has no IPv6")
class Ipv6(WithNetwork):
    """The other half of --net user; what it leads to is the host's ::1."""

    def test_both_ways_and_into_the_guest(self):
        data = content(24 * MIB + 12345)
        sums = []
        port = free_port("::1")
        with Server(lambda connection: connection.sendall(data), address="::1") as down, \
                Server(lambda connection: sums.append(read_all(connection, hashlib.sha256())), address="::1") as up:
            guest = self.network("--net", f"user,mac=52:56:00:00:00:07,hostfwd=tcp:[::1]:{port}-:80")
            addresses = wait_for_address6(guest)
            self.assertIn("inet6 fec0::5056:ff:fe00:7/64", addresses)
            self.assertRegex(addresses, "default via fe80::")
            self.assertIn("3 packets received", guest.run("ping -6 -c 3 -i 0.2 fec0::2")[1])
            _, output = guest.run(f"nc fec0::2 {down.port} </dev/null | sha256sum", 200)
            self.assertEqual(output.split()[0], hashlib.sha256(data).hexdigest())
            guest.run(f"busybox seq 1 2000000 | nc fec0::2 {up.port}", 200)
            expected = hashlib.sha256("".join(f"{i}\n" for i in range(1, 2000001)).encode()).hexdigest()
            deadline = time.monotonic() + 20 * SCALE
            while not sums and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertEqual(sums, [expected])
            guest.run("mkdir /tmp/www; seq 1 100000 >/tmp/www/page; httpd -p [::]:80 -h /tmp/www")
            with connect(port, "::1") as client:
                client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            self.assertTrue(answer.split(b"\r\n\r\n", 1)[1] == "".join(f"{i}\n" for i in range(1, 100001)).encode())
            self.assertNotIn("sandbox", guest.stderr())

    def test_off(self):
        guest = self.network("--net", "user,ipv6=off")
        self.assertNotIn("fec0", guest.run("sleep 5; ip -6 addr show eth0")[1])


@unittest.skipUnless(shutil.which("passt"), "this host has no passt")
class Passt(WithNetwork):
    """A network in another process; its guest has the host's own addresses."""

    def download(self, guest):
        """The sum of what comes; the gateway stands for the host's loopback. (Ping needs rights that passt's user may lack,
        and Debian 12's passt sends all again and again to a guest that has closed its own direction.)"""
        def serve(connection):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + content(16 * MIB))

        with Server(serve) as server:
            gateway = re.search(r"default via (\S+)", guest.run("ip route")[1])[1]
            return guest.run(f"wget -q -O - http://{gateway}:{server.port}/ | sha256sum", 100)[1].split()[0]

    def test_started_with_the_machine(self):
        port = free_port()
        guest = self.network("--net", f"passt,hostfwd=tcp:127.0.0.1:{port}-:80")
        self.assertEqual(self.download(guest), hashlib.sha256(content(16 * MIB)).hexdigest())
        guest.run("mkdir /tmp/www; busybox seq 1 500000 >/tmp/www/page; httpd -p 80 -h /tmp/www")
        with connect(port) as client:
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        self.assertTrue(answer.split(b"\r\n\r\n", 1)[1] == "".join(f"{i}\n" for i in range(1, 500001)).encode())
        guest.type("poweroff\n")
        self.assertEqual(guest.wait(), 0)
        self.assertNotIn("sandbox", guest.stderr())

    def test_one_that_runs_and_ends(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)  # root's passt becomes nobody
            path = f"{folder}/socket"
            passt = subprocess.Popen(["passt", "--foreground", "--quiet", "--socket", path],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                deadline = time.monotonic() + 20 * SCALE
                while not os.path.exists(path) and time.monotonic() < deadline:
                    time.sleep(0.05)
                guest = self.network("--net", f"passt,socket={path}")
                self.assertEqual(self.download(guest), hashlib.sha256(content(16 * MIB)).hexdigest())
            finally:
                passt.kill()
                passt.wait()
            guest.run("sleep 1")
            self.assertIn("leads nowhere from now on", guest.stderr())  # closed, or reset where it had not read all

    def test_a_port_in_use(self):
        with Server(lambda connection: None) as server, \
                Guest("--net", f"passt,hostfwd=tcp:127.0.0.1:{server.port}-:22") as guest:
            self.assertEqual(guest.wait(), 1, guest.story())
            self.assertIn("passt did not start", guest.stderr())
            self.assertIn(str(server.port), guest.stderr())

    def test_nobody_listens(self):
        with Guest("--net", "passt,socket=/nowhere/socket") as guest:
            self.assertEqual(guest.wait(), 1, guest.story())
            self.assertIn("no passt listens at /nowhere/socket", guest.stderr())


class E1000(unittest.TestCase):
    """The card for guests without virtio, under Linux's driver (Debian's cloud kernel has none: this is the generic one)."""

    def network(self, *flags):
        guest = Guest("--net", "user,model=e1000", *flags, kernel=f"{GUEST_DIR}/vmlinuz-generic",
                      initrd=f"{GUEST_DIR}/generic.initrd")
        self.addCleanup(guest.__exit__)
        guest.boot(200)
        return guest, wait_for_address(guest)

    def test_everything(self):
        data = content(24 * MIB)
        sums = []
        with Server(lambda connection: connection.sendall(data)) as down, \
                Server(lambda connection: sums.append(read_all(connection, hashlib.sha256()))) as up:
            guest, addresses = self.network()
            self.assertIn("inet 10.0.2.15/24", addresses)
            self.assertIn("0x100e", guest.run("cat /sys/class/net/eth0/device/device")[1])
            self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 10.0.2.2")[1])
            self.assertIn("3 packets received", guest.run("ping -c 3 -i 0.2 -s 4000 10.0.2.2")[1])
            _, output = guest.run(f"nc 10.0.2.2 {down.port} </dev/null | sha256sum", 200)
            self.assertEqual(output.split()[0], hashlib.sha256(data).hexdigest())
            guest.run(f"busybox seq 1 2000000 | nc 10.0.2.2 {up.port}", 200)
            expected = hashlib.sha256("".join(f"{i}\n" for i in range(1, 2000001)).encode()).hexdigest()
            deadline = time.monotonic() + 20 * SCALE
            while not sums and time.monotonic() < deadline:
                time.sleep(0.1)
            self.assertEqual(sums, [expected])
            self.assertEqual(guest.run("dmesg | grep -iE 'e1000.*(hang|error|unable|fail)|BUG:|WARNING:'")[1], "")


class Lives(WithMachines):
    """A network and what happens to its machine."""

    def begin(self, *flags):
        self.veneer(*veneer_command("--detach", "--name", "one", "--memory", "128M", "--net", "user", *flags)[1:])
        console = self.attach("one")
        self.addCleanup(console.__exit__)
        console.wait_for_prompt()
        wait_for_address(console)
        return console

    def test_a_transfer_survives_a_pause(self):
        data = content(40 * MIB)
        with Server(lambda connection: connection.sendall(data)) as server:
            console = self.begin()
            console.type(f"nc 10.0.2.2 {server.port} </dev/null | sha256sum; echo fin''ished\n")
            for _ in range(3):
                time.sleep(0.3)
                self.veneer("monitor", "one", "pause")
                time.sleep(0.7)
                self.veneer("monitor", "one", "resume")
            console.expect(hashlib.sha256(data).hexdigest(), 120)
            console.expect("^finished", 10)

    def test_the_monitor_shows_it(self):
        console = self.begin()
        console.run("ping -c 2 -i 0.2 10.0.2.2")
        text = self.veneer("monitor", "one", "info", "network")
        self.assertRegex(text, r"^net0: virtio, 52:56:[0-9a-f:]+, cable in; user, 10\.0\.2\.0/24")
        self.assertGreater(int(re.search(r"sent (\d+) frames", text)[1]), 3)

    def test_the_address_is_the_names(self):
        first = self.begin().run("cat /sys/class/net/eth0/address")[1]
        self.veneer("kill", "one")
        self.wait_until(lambda: not self.list())
        self.assertEqual(self.begin().run("cat /sys/class/net/eth0/address")[1], first)

    def test_pulling_the_cable(self):
        console = self.begin()
        self.veneer("monitor", "one", "link", "net0", "off")
        self.assertEqual(console.run("sleep 0.5; cat /sys/class/net/eth0/carrier")[1], "0")
        self.assertIn(" 0 packets received", console.run("ping -c 1 -W 1 10.0.2.2")[1])
        self.veneer("monitor", "one", "link", "net0", "on")
        self.assertEqual(console.run("sleep 0.5; cat /sys/class/net/eth0/carrier")[1], "1")
        self.assertIn("2 packets received", console.run("ping -c 2 -i 0.2 10.0.2.2")[1])

    def test_saved_and_restored(self):
        console = self.begin()
        saved = os.path.join(self.runtime.name, "saved")
        self.veneer("save", "one", saved)
        self.veneer("kill", "one")
        self.wait_until(lambda: not self.list())
        port = free_port()
        self.veneer("run", "--detach", "--name", "two", "--restore", saved, "--net",
                    f"user,hostfwd=tcp::{port}-:80")
        with self.attach("two") as console:
            console.type("\n")
            self.assertIn("3 packets received", console.run("ping -c 3 -i 0.2 10.0.2.2")[1])
            console.run("mkdir /tmp/www; echo still here >/tmp/www/page; httpd -p 80 -h /tmp/www")
            with connect(port) as client:
                client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                self.assertIn(b"200 OK", client.recv(1000))

    def test_restored_without_its_card(self):
        self.begin()
        saved = os.path.join(self.runtime.name, "saved")
        self.veneer("save", "one", saved)
        self.veneer("run", "--detach", "--name", "two", "--restore", saved, status=1)
        self.assertIn("--net", self.stderr)


class Refusals(unittest.TestCase):
    def refused(self, value, status, text):
        with Guest("--net", value) as guest:
            self.assertEqual(guest.wait(), status, guest.story())
            self.assertIn(text, guest.stderr())
            self.assertEqual(guest.stderr().count("\n"), 1)

    def test_a_port_in_use(self):
        with Server(lambda connection: None) as server:
            self.refused(f"user,hostfwd=tcp:127.0.0.1:{server.port}-:22", 1,
                         f"tcp:127.0.0.1:{server.port}: the port is in use")

    def test_a_tap_that_is_not_ours(self):
        if os.path.exists("/dev/net/tun") and os.geteuid() == 0:
            self.skipTest("root may")
        self.refused("tap,ifname=veneer7", 1, "--net user")

    def test_values(self):
        for value in ("bridge", "user,hostfwd=22", "user,nonsense", "tap", "user,mac=1:2", "user,queues=0"):
            with self.subTest(value=value):
                self.refused(value, 2, "--net")


if __name__ == "__main__":
    unittest.main()
