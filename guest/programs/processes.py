"""Threads, processes, pipes, signals, sockets and mapped memory."""
import ctypes
import mmap
import os
import queue
import signal
import socket
import subprocess
import threading
import time

# Threads that take turns on a queue
work, done = queue.Queue(), queue.Queue()


def worker():
    while (item := work.get()) is not None:
        done.put(item * item)


threads = [threading.Thread(target=worker) for _ in range(4)]
for thread in threads:
    thread.start()
for i in range(2000):
    work.put(i)
for _ in threads:
    work.put(None)
for thread in threads:
    thread.join()
print("threads", sum(done.get() for _ in range(2000)))

# Children, their pipes and statuses
total = 0
for i in range(20):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, bytes([i] * i))
        os._exit(i)
    os.close(write)
    total += len(os.read(read, 100)) * 1000 + os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(read)
print("children", total)
print("subprocess", subprocess.run(["sh", "-c", "cat; exit 3"], input=b"through a pipe", capture_output=True))

# Copy on write, and memory that is shared
private, shared = bytearray(1 << 20), mmap.mmap(-1, 1 << 20)
child = os.fork()
if child == 0:
    for page in range(0, 1 << 20, 4096):
        private[page] = shared[page] = 7
    os._exit(0)
os.waitpid(child, 0)
print("memory", sum(private), sum(shared[page] for page in range(0, 1 << 20, 4096)))

# Signals, timers and system calls that they interrupt
hits = []
signal.signal(signal.SIGALRM, lambda number, frame: hits.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
start = time.monotonic()
while len(hits) < 10:
    signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0)
print("timer", 0.19 < time.monotonic() - start < 10)
signal.signal(signal.SIGUSR1, lambda number, frame: hits.append(number))
for _ in range(1000):
    os.kill(os.getpid(), signal.SIGUSR1)
print("signals", hits.count(signal.SIGUSR1))
crash = subprocess.run(["python3", "-c", "import ctypes; ctypes.string_at(0)"], stderr=subprocess.DEVNULL)
print("crash", signal.Signals(-crash.returncode).name)

# Sockets
server = socket.create_server(("127.0.0.1", 0))
received = []


def serve():
    connection, _ = server.accept()
    while data := connection.recv(65536):
        received.append(len(data))
    connection.close()


thread = threading.Thread(target=serve)
thread.start()
with socket.create_connection(server.getsockname()) as client:
    client.sendall(b"x" * 3_000_000)
thread.join()
print("socket", sum(received))

# Calls into C, with a callback from it
libc = ctypes.CDLL(None)
numbers = (ctypes.c_int * 1000)(*((i * 7919) % 1000 for i in range(1000)))
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
libc.qsort(numbers, 1000, 4, compare(lambda a, b: a[0] - b[0]))
print("qsort", list(numbers) == sorted(numbers), numbers[0], numbers[999])
