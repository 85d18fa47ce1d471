"""Python's processes and threads: pools, pipes, queues, managers, shared memory, every way to start, and processes that die.

Every line that it prints has one right answer (processes.expected), whatever the number of processors.
"""
import concurrent.futures
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import shared_memory

PROCESSES = 6


def digest(number):
    data = str(number).encode()
    for _ in range(500):
        data = hashlib.sha256(data).digest()
    return data.hex()


def collatz(start):
    most = (0, 0)
    for number in range(start, start + 500):
        steps, value = 0, number
        while value > 1:
            value = value * 3 + 1 if value & 1 else value >> 1
            steps += 1
        most = max(most, (steps, number))
    return most


def pass_on(source, target, rounds):
    for _ in range(rounds):
        target.send(source.recv() + 1)


def consume(todo, done):
    total = 0
    for item in iter(todo.get, None):
        total += item["number"]
    done.put(total)


def count(value, array, lock, barrier, condition, turns, me):
    for _ in range(500):
        with lock:
            value.value += 1
            array[me] += 1
    barrier.wait()
    for turn in range(20):  # by turns, in the order of the numbers
        with condition:
            condition.wait_for(lambda: turns.value == turn * PROCESSES + me)
            turns.value += 1
            condition.notify_all()


def fill(name, me):
    block = shared_memory.SharedMemory(name)
    for i in range(me, block.size, PROCESSES):
        block.buf[i] = i * i % 253
    block.close()


def remember(shared, listed, lock, me):
    for i in range(50):
        with lock:
            shared["sum"] = shared.get("sum", 0) + i
        listed.append(me)


def lie_down():
    time.sleep(1000)


def square(number):
    return number * number


def run(context, target, arguments):
    workers = [context.Process(target=target, args=argument) for argument in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers), [worker.exitcode for worker in workers]


def main():
    fork = multiprocessing.get_context("fork")
    with fork.Pool(PROCESSES) as pool:
        digests = pool.map(digest, range(1200), chunksize=7)
        print("pool", hashlib.sha256("".join(digests).encode()).hexdigest()[:16])
        print("collatz", max(pool.imap_unordered(collatz, range(1, 40000, 500))))
        print("async", sum(answer.get() for answer in [pool.apply_async(square, (i,)) for i in range(1000)]))

    # A number goes around through pipes.
    ends = [fork.Pipe(duplex=False) for _ in range(PROCESSES + 1)]
    rounds = 300
    workers = [fork.Process(target=pass_on, args=(ends[i][0], ends[i + 1][1], rounds)) for i in range(PROCESSES)]
    for worker in workers:
        worker.start()
    number = 0
    for _ in range(rounds):
        ends[0][1].send(number)
        number = ends[-1][0].recv()
    for worker in workers:
        worker.join()
    print("pipes", number)

    todo, done = fork.Queue(maxsize=20), fork.Queue()
    workers = [fork.Process(target=consume, args=(todo, done)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for i in range(5000):
        todo.put({"number": i, "text": "x" * (i % 300)})
    for _ in workers:
        todo.put(None)
    print("queues", sum(done.get() for _ in workers))
    for worker in workers:
        worker.join()

    value, array, lock, turns = fork.Value("q", 0, lock=False), fork.Array("i", PROCESSES), fork.Lock(), fork.Value("i", 0)
    barrier, condition = fork.Barrier(PROCESSES), fork.Condition()
    run(fork, count, [(value, array, lock, barrier, condition, turns, me) for me in range(PROCESSES)])
    print("locks", value.value, list(array), turns.value)

    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    run(fork, fill, [(block.name, me) for me in range(PROCESSES)])
    print("memory", hashlib.sha256(bytes(block.buf[:1 << 20])).hexdigest()[:16])
    block.close()
    block.unlink()

    with fork.Manager() as manager:
        shared, listed, lock = manager.dict(), manager.list(), manager.Lock()
        run(fork, remember, [(shared, listed, lock, me) for me in range(PROCESSES)])
        print("manager", shared["sum"], sorted(listed) == sorted(list(range(PROCESSES)) * 50))

    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
            print(method, sum(pool.map(square, range(200), chunksize=10)))

    deaths = []
    for kill in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        for _ in range(5):
            worker = fork.Process(target=lie_down)
            worker.start()
            os.kill(worker.pid, kill)
            worker.join()
            deaths.append(-worker.exitcode)
    print("deaths", deaths)

    # Threads under one lock of the interpreter, handed over every few microseconds.
    sys.setswitchinterval(1e-5)
    total, guard = [0], threading.Lock()

    def add():
        for _ in range(20000):
            with guard:
                total[0] += 1

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    children = 0
    for _ in range(150):
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        children += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print("threads", total[0], children)


if __name__ == "__main__":
    main()
