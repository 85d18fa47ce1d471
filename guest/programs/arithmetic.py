"""Integers, floats, decimals and digests with answers that do not depend on the machine."""
import array
import decimal
import fractions
import hashlib
import math
import random
import struct
import zlib


def pi_digits(count):
    """Gibbons' spigot: big integers."""
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    digits = []
    while len(digits) < count:
        if 4 * q + r - t < m * t:
            digits.append(m)
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2
    return "".join(map(str, digits))


def mandelbrot(size):
    rows = []
    for y in range(size):
        row = 0
        for x in range(size):
            c = complex(2.0 * x / size - 1.5, 2.0 * y / size - 1.0)
            z = 0j
            for _ in range(50):
                z = z * z + c
                if abs(z) > 2.0:
                    break
            else:
                row += 1
        rows.append(row)
    return rows


print("pi", pi_digits(400))
print("factorial", hashlib.sha256(str(math.factorial(1000)).encode()).hexdigest())
print("pow", pow(3, 10 ** 50, 10 ** 40 + 7))
print("gcd", math.gcd(2 ** 200 * 3 ** 50, 2 ** 100 * 3 ** 80 * 7), math.isqrt(10 ** 60 + 12345))
print("mandelbrot", sum(mandelbrot(60)), zlib.crc32(repr(mandelbrot(40)).encode()))
print("sqrt", *(math.sqrt(i).hex() for i in (2, 3, 5, 1e300, 5e-324)))
print("float", (0.1 + 0.2).hex(), (1e16 + 1).hex(), float("1e-320").hex(), math.fma(2, 3, 4) if hasattr(math, "fma") else 10.0)
print("fsum", math.fsum([0.1] * 1000), sum([0.1] * 1000))
print("divmod", divmod(-7, 2), divmod(7, -2), -7.5 % 2, math.fmod(-7.5, 2), round(2.5), round(-3.5))
decimal.getcontext().prec = 60
print("decimal", decimal.Decimal(2).sqrt(), decimal.Decimal(1).exp())
print("fraction", sum(fractions.Fraction(1, i) for i in range(1, 60)))
generator = random.Random(12345)
numbers = [generator.getrandbits(64) for _ in range(20000)]
print("random", numbers[0], hashlib.sha256(struct.pack("<20000Q", *sorted(numbers))).hexdigest())
print("floats", hashlib.sha256(array.array("d", [generator.random() for _ in range(10000)]).tobytes()).hexdigest())
for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2b", "blake2s"):
    print(name, hashlib.new(name, b"The quick brown fox jumps over the lazy dog" * 1000).hexdigest())
data = bytes(range(256)) * 400
for level in (1, 6, 9):
    packed = zlib.compress(data, level)
    print("zlib", level, zlib.decompress(packed) == data, zlib.adler32(data), zlib.crc32(data))
