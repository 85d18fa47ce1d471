"""Processes that share work through multiprocessing: pools, queues, locks, shared memory."""
import hashlib
import multiprocessing
from multiprocessing import shared_memory


def digest(number):
    data = str(number).encode()
    for _ in range(200):
        data = hashlib.sha256(data).digest()
    return data.hex()[:8]


def add(value, lock, times):
    for _ in range(times):
        with lock:
            value.value += 1


def fill(name, start, step):
    block = shared_memory.SharedMemory(name)
    for i in range(start, len(block.buf), step):
        block.buf[i] = i % 251
    block.close()


if __name__ == "__main__":
    with multiprocessing.Pool(4) as pool:
        parallel = pool.map(digest, range(200), chunksize=5)
    print("pool", parallel == [digest(i) for i in range(200)])

    value, lock = multiprocessing.Value("q", 0, lock=False), multiprocessing.Lock()
    workers = [multiprocessing.Process(target=add, args=(value, lock, 1000)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("lock", value.value)

    block = shared_memory.SharedMemory(create=True, size=65536)
    workers = [multiprocessing.Process(target=fill, args=(block.name, i, 4)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("memory", sum(block.buf) == sum(i % 251 for i in range(65536)))
    block.close()
    block.unlink()
