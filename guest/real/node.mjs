// Node: worker threads and shared memory, code that is optimised and thrown away again, WebAssembly, the thread pool of
// libuv. Every line that it prints has one right answer (node.expected), whatever the number of processors.
import assert from "node:assert";
import crypto from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { promisify } from "node:util";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import zlib from "node:zlib";

const WORKERS = 4;

// What workers do.

function primesBetween(from, to) {
  const root = Math.floor(Math.sqrt(to)), small = new Uint8Array(root + 1), large = new Uint8Array(to - from);
  for (let i = 2; i <= root; i++) {
    if (small[i]) continue;
    for (let j = i * i; j <= root; j += i) small[j] = 1;
    for (let j = Math.max(i * i, Math.ceil(from / i) * i); j < to; j += i) large[j - from] = 1;
  }
  let count = 0;
  for (let i = Math.max(from, 2); i < to; i++) count += 1 - large[i - from];
  return count;
}

// Words of the shared array: 0 an atomic counter, 1 a lock, 2 what the lock guards, 3 a token that goes around.
function share(words, me) {
  for (let i = 0; i < 100000; i++) Atomics.add(words, 0, 1);
  for (let i = 0; i < 20000; i++) {
    while (Atomics.compareExchange(words, 1, 0, 1) !== 0) Atomics.wait(words, 1, 1);
    words[2] += 1;
    Atomics.store(words, 1, 0);
    Atomics.notify(words, 1, 1);
  }
  for (let round = 0; round < 500; round++) {
    for (;;) {
      const token = Atomics.load(words, 3);
      if (token % WORKERS === me) break;
      Atomics.wait(words, 3, token);
    }
    Atomics.add(words, 3, 1);
    Atomics.notify(words, 3);
  }
}

// (module (memory (import "m" "m") 1 16 shared)
//   (func (export "add") (param $n i32)              ;; n times: atomically one more at address 0
//     (loop (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
//       (br_if 0 (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
//   (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
//   (func (export "collatz") (param $n i64) (result i32) (local $steps i32)
//     (block (loop (br_if 1 (i64.le_u (local.get $n) (i64.const 1)))
//       (local.set $n (if (result i64) (i32.wrap_i64 (i64.and (local.get $n) (i64.const 1)))
//         (then (i64.add (i64.mul (local.get $n) (i64.const 3)) (i64.const 1)))
//         (else (i64.shr_u (local.get $n) (i64.const 1)))))
//       (local.set $steps (i32.add (local.get $steps) (i32.const 1))) (br 0)))
//     (local.get $steps)))
const sized = (...bytes) => [bytes.length, ...bytes];
const name = (text) => sized(...Buffer.from(text));
const WASM = new Uint8Array([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
  1, ...sized(3, 0x60, 1, 0x7f, 0, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7e, 1, 0x7f),
  2, ...sized(1, ...name("m"), ...name("m"), 2, 3, 1, 16),
  3, ...sized(3, 0, 1, 2),
  7, ...sized(3, ...name("add"), 0, 0, ...name("load"), 0, 1, ...name("collatz"), 0, 2),
  10, ...sized(3,
    ...sized(0, 3, 0x40, 0x41, 0, 0x41, 1, 0xfe, 0x1e, 2, 0, 0x1a, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x0b),
    ...sized(0, 0x20, 0, 0x28, 2, 0, 0x0b),
    ...sized(1, 1, 0x7f, 2, 0x40, 3, 0x40, 0x20, 0, 0x42, 1, 0x58, 0x0d, 1, 0x20, 0, 0x42, 1, 0x83, 0xa7, 4, 0x7e, 0x20, 0,
      0x42, 3, 0x7e, 0x42, 1, 0x7c, 5, 0x20, 0, 0x42, 1, 0x88, 0x0b, 0x21, 0, 0x20, 1, 0x41, 1, 0x6a, 0x21, 1, 0x0c, 0,
      0x0b, 0x0b, 0x20, 1, 0x0b)),
]);

function wasm(memory) {
  return new WebAssembly.Instance(new WebAssembly.Module(WASM), { m: { m: memory } }).exports;
}

const jobs = {
  primes: ([from, to]) => primesBetween(from, to),
  share: ([words, me]) => share(words, me),
  wasm: ([memory]) => wasm(memory).add(100000),
  // Garbage in a heap of its own, while the others collect theirs.
  garbage: ([seed]) => {
    let kept = [], sum = 0;
    for (let i = 0; i < 200000; i++) {
      const object = { i, text: `${seed}-${i}`, more: [i, i + 1] };
      if (i % 100 === 0) kept.push(object);
      if (kept.length > 500) kept = kept.slice(250);
      sum += object.text.length;
    }
    return sum + kept.reduce((a, o) => a + o.more[1] - o.i, 0);
  },
};

function inWorkers(job, arguments_) {
  return Promise.all(arguments_.map(async (argument) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { job, argument } });
    const [[answer]] = await Promise.all([once(worker, "message"), once(worker, "exit")]);
    return answer;
  }));
}

// Code for the optimiser, with answers from the literature or from other implementations.

function nbody(steps) {
  const SOLAR = 4 * Math.PI * Math.PI, DAYS = 365.24;
  const body = (x, y, z, vx, vy, vz, m) => ({ x, y, z, vx: vx * DAYS, vy: vy * DAYS, vz: vz * DAYS, m: m * SOLAR });
  const bodies = [
    body(0, 0, 0, 0, 0, 0, 1),
    body(4.84143144246472090, -1.16032004402742839, -0.103622044471123109, 0.00166007664274403694, 0.00769901118419740425, -0.0000690460016972063023, 0.000954791938424326609),
    body(8.34336671824457987, 4.12479856412430479, -0.403523417114321381, -0.00276742510726411, 0.00499852801234917238, 0.0000230417297573763929, 0.000285885980666130812),
    body(12.8943695621391310, -15.1111514016986312, -0.223307578892655734, 0.00296460137564761618, 0.00237847173959480950, -0.0000296589568540237556, 0.0000436624404335156298),
    body(15.3796971148509165, -25.9193146099879641, 0.179258772950371181, 0.00268067772490389322, 0.00162824170038242295, -0.0000951592254519715870, 0.0000515138902046611451),
  ];
  for (const v of ["vx", "vy", "vz"]) bodies[0][v] = -bodies.reduce((sum, b) => sum + b[v] * b.m, 0) / SOLAR;
  const dt = 0.01;
  for (let step = 0; step < steps; step++) {
    for (let i = 0; i < 5; i++) {
      const a = bodies[i];
      for (let j = i + 1; j < 5; j++) {
        const b = bodies[j], dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z, d = dx * dx + dy * dy + dz * dz;
        const size = dt / (d * Math.sqrt(d));
        a.vx -= dx * b.m * size; a.vy -= dy * b.m * size; a.vz -= dz * b.m * size;
        b.vx += dx * a.m * size; b.vy += dy * a.m * size; b.vz += dz * a.m * size;
      }
    }
    for (const b of bodies) { b.x += dt * b.vx; b.y += dt * b.vy; b.z += dt * b.vz; }
  }
  let energy = 0;
  for (let i = 0; i < 5; i++) {
    const a = bodies[i];
    energy += 0.5 * a.m * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz);
    for (let j = i + 1; j < 5; j++) energy -= a.m * bodies[j].m / Math.hypot(a.x - bodies[j].x, a.y - bodies[j].y, a.z - bodies[j].z);
  }
  return energy.toFixed(9);
}

function fannkuch(n) {
  const p = Array.from({ length: n }, (_, i) => i), count = new Array(n).fill(0);
  let most = 0, sum = 0, sign = 1;
  for (let r = n; ;) {
    for (; r !== 1; r--) count[r - 1] = r;
    const q = p.slice();
    let flips = 0;
    for (let k; (k = q[0]) !== 0; flips++) for (let i = 0, j = k; i < j; i++, j--) [q[i], q[j]] = [q[j], q[i]];
    most = Math.max(most, flips);
    sum += sign * flips;
    sign = -sign;
    for (; ; r++) {
      if (r === n) return `${sum} ${most}`;
      const first = p[0];
      for (let i = 0; i < r; i++) p[i] = p[i + 1];
      p[r] = first;
      if (--count[r] > 0) break;
    }
  }
}

function sha256(bytes) {
  const K = [], H = [], turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let n = 2; K.length < 64; n++) {
    if (primesBetween(n, n + 1) !== 1) continue;
    if (H.length < 8) H.push((Math.sqrt(n) % 1) * 0x100000000 | 0);
    K.push((Math.cbrt(n) % 1) * 0x100000000 | 0);
  }
  const data = new Uint8Array(((bytes.length + 72) >> 6) << 6), view = new DataView(data.buffer), w = new Int32Array(64);
  data.set(bytes);
  data[bytes.length] = 0x80;
  view.setUint32(data.length - 4, bytes.length * 8);
  for (let at = 0; at < data.length; at += 64) {
    for (let i = 0; i < 64; i++) {
      const s0 = i < 16 ? 0 : turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = i < 16 ? 0 : turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = i < 16 ? view.getInt32(at + i * 4) : (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = H;
    for (let i = 0; i < 64; i++) {
      const t1 = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const t2 = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { H[i] = (H[i] + value) | 0; });
  }
  return H.map((value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
}

// Functions that are optimised for one kind of value and then get others, again and again.
function changingTypes() {
  const values = [1, 2.5, "3", 2 ** 31, -0, null, { valueOf: () => 4 }, 7n, true, [5], NaN, undefined];
  let sum = 0, text = 0;
  for (let round = 0; round < 40; round++) {
    const add = new Function("a", "b", `/* ${round} */ return a + b;`);
    const look = new Function("o", `/* ${round} */ return o.p${round % 7} ?? -1;`);
    for (let i = 0; i < 5000; i++) sum = (sum + add(i, round)) | 0;
    for (const a of values) for (const b of values) {
      try { text += String(add(a, b)).length; } catch (error) { text += error instanceof TypeError ? 1000 : NaN; }
    }
    for (let i = 0; i < 3000; i++) {
      const object = { [`p${i % 7}`]: i };
      if (i % 500 === 499) object[`q${i}`] = 1;
      sum = (sum + look(object)) | 0;
    }
  }
  return `${sum} ${text}`;
}

function recursion() {
  let depth = 0;
  const down = () => { depth++; down(); };
  for (let i = 0; i < 20; i++) {
    depth = 0;
    assert.throws(down, RangeError);
    assert.ok(depth > 1000);
  }
  return "ended";
}

async function main() {
  const say = console.log;
  const step = 1000000;
  const counts = await inWorkers("primes", [0, 1, 2, 3].map((i) => [i * step, (i + 1) * step]));
  say("primes", counts.reduce((a, b) => a + b), counts.join(" "));

  const words = new Int32Array(new SharedArrayBuffer(16));
  await inWorkers("share", Array.from({ length: WORKERS }, (_, me) => [words, me]));
  say("share", words.join(" "));

  const memory = new WebAssembly.Memory({ initial: 1, maximum: 16, shared: true });
  await inWorkers("wasm", Array.from({ length: WORKERS }, () => [memory]));
  const { load, collatz } = wasm(memory);
  let steps = 0;
  for (let i = 1n; i < 30000n; i++) steps += collatz(i);
  let traps = 0;
  for (const address of [65533, 65536, -4, 0x7fffffff]) {
    try { load(address); } catch (error) { traps += error instanceof WebAssembly.RuntimeError; }
  }
  say("wasm", load(0), steps, traps, collatz(837799n));

  say("garbage", (await inWorkers("garbage", [[1], [22], [333], [4444]])).join(" "));
  say("nbody", nbody(1000), nbody(200000));
  say("fannkuch", fannkuch(7), fannkuch(9));
  const million = Buffer.alloc(300000, "a");
  say("sha256", sha256(Buffer.from("abc")), sha256(million) === crypto.createHash("sha256").update(million).digest("hex"));
  say("types", changingTypes());
  say("recursion", recursion());
  let factorial = 1n;
  for (let i = 2n; i <= 2000n; i++) factorial *= i;
  say("bigint", String(factorial).length, [...String(factorial)].reduce((a, b) => a + Number(b), 0));

  // RFC 7914 section 11, eight at a time on libuv's threads; and what is packed is unpacked.
  const pbkdf2 = promisify(crypto.pbkdf2), scrypt = promisify(crypto.scrypt);
  const keys = await Promise.all(Array.from({ length: 8 }, () => pbkdf2("Password", "NaCl", 80000, 64, "sha256")));
  say("pbkdf2", new Set(keys.map((key) => key.toString("hex"))).size, keys[0].toString("hex").slice(0, 32));
  say("scrypt", (await scrypt("password", "NaCl", 64, { N: 1024, r: 8, p: 16, maxmem: 1 << 26 })).toString("hex").slice(0, 32));
  const plain = Buffer.from(Array.from({ length: 60000 }, (_, i) => `${i} squared is ${i * i}\n`).join(""));
  const packed = await Promise.all([zlib.gzip, zlib.deflateRaw, zlib.brotliCompress, zlib.gzip].map((f) => promisify(f)(plain, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 5 } })));
  const unpacked = await Promise.all([zlib.gunzip, zlib.inflateRaw, zlib.brotliDecompress, zlib.gunzip].map((f, i) => promisify(f)(packed[i])));
  say("zlib", unpacked.filter((one) => one.equals(plain)).length, crypto.createHash("sha256").update(plain).digest("hex").slice(0, 16));

  const server = http.createServer((request, response) => response.end(request.url.repeat(1000))).listen(0, "127.0.0.1");
  await once(server, "listening");
  const get = async (path) => {
    const [response] = await once(http.get({ host: "127.0.0.1", port: server.address().port, path }), "response");
    let length = 0;
    for await (const part of response) length += part.length;
    return length;
  };
  say("http", (await Promise.all(Array.from({ length: 50 }, (_, i) => get(`/${i}`)))).reduce((a, b) => a + b));
  server.close();
}

if (isMainThread) await main();
else parentPort.postMessage(jobs[workerData.job](workerData.argument));
