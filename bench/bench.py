#!/usr/bin/env python3
"""Benchmark a Linux guest under Veneer (and other VMMs) against the same programs run natively.

  bench.py build                       make the kernel, initramfs and chroot tree in --work
  bench.py run TARGET... [options]     run native | qemu | veneer | vmm, append to --out/runs.jsonl
  bench.py table                       print medians and ratios of everything in --out

See README.md.  Needs only the Python standard library.
"""
import argparse, csv, fcntl, glob, json, math, os, re, shlex, shutil, signal, statistics, subprocess, sys, threading, time

KIT = os.path.dirname(os.path.abspath(__file__))
def kernel_version():
    """Version of Debian's current cloud kernel, from apt's lists (run `apt-get update` once before)."""
    deps = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"linux-image-([0-9][^\s]*-cloud-amd64)", deps)
    return found.group(1) if found else "6.1.0-56-cloud-amd64"


QEMU = ("qemu-system-x86_64 -accel tcg -cpu max -smp {smp} -m {mem} -nodefaults -no-user-config "
        "-display none -serial stdio -no-reboot -kernel {kernel} -initrd {initrd} -append {append}")
VENEER = ("build/bin/veneer run --memory {mem}M --cpus {smp} --no-reboot --kernel {kernel} --initrd {initrd} "
          "--cmdline {append}")
GROUPS = {
    "cpu-int": "qsort sha256-c chase-512k zstd-3 gunzip xz-1 lua perl luajit",
    "cpu-fp": "nbody libm x87 matmul-sse2 matmul-best aes128gcm sha256-ossl",
    "memory": "memcpy-32m triad-48m rand-256m",
    "system": "getppid clock-gettime pipe-pingpong fork-exit fork-exec pagefault mprotect signal file-rw-4k shell",
    "compile": "tcc cc1-O1",
    # first run of each command in a fresh process: what a guest that has translated nothing yet sees
    "cold": "zstd-3.cold gunzip.cold xz-1.cold lua.cold perl.cold luajit.cold shell.cold tcc.cold cc1-O1.cold",
}
GROUPS = {g: names.split() for g, names in GROUPS.items()}
# Reported, but left out of the group means: dedicated instructions (AES/SHA-NI) that only some CPUs have,
# and a benchmark that measures the clock source.
NO_MEAN = {"aes128gcm", "sha256-ossl", "clock-gettime"}


def sh(cmd, **kw):
    return subprocess.run(cmd, shell=isinstance(cmd, str), check=True, **kw)


def out_of(cmd):
    return subprocess.run(cmd, shell=isinstance(cmd, str), check=True, stdout=subprocess.PIPE, text=True).stdout


# ------------------------------------------------------------------- build
def fetch(work, package):
    """dpkg -x a package (not installed on the host) into work/pkg."""
    done = f"{work}/pkg/.{package}"
    if not os.path.exists(done):
        os.makedirs(f"{work}/deb", exist_ok=True)
        sh(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], cwd=f"{work}/deb", stdout=subprocess.DEVNULL)
        for deb in glob.glob(f"{work}/deb/{package}_*.deb"):
            sh(["dpkg", "-x", deb, f"{work}/pkg"])
        open(done, "w").close()


def install(root, src, dst, strip=""):
    """Copy a program to root/dst and the shared libraries it needs to the paths ldd gives."""
    os.makedirs(os.path.dirname(root + dst), exist_ok=True)
    shutil.copy2(os.path.realpath(src), root + dst)
    ldd = subprocess.run(["ldd", src], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for lib in re.findall(r"(/\S+) \(0x", ldd):
        # a library from an unpacked package goes to the path it would have if installed
        to = root + (lib[len(strip):] if strip and lib.startswith(strip + "/") else lib)
        if not os.path.exists(to):
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy2(os.path.realpath(lib), to)


def cpio(root, path):
    with open(path, "wb") as f:
        sh("find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0", cwd=root, stdout=f)


def skeleton(root, work):
    shutil.rmtree(root, ignore_errors=True)
    for d in "bin usr/bin proc sys dev tmp data".split():
        os.makedirs(f"{root}/{d}")
    busybox = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
    if not busybox or "not a dynamic" not in subprocess.run(["ldd", busybox], capture_output=True, text=True).stderr:
        fetch(work, "busybox-static")
        busybox = f"{work}/pkg/bin/busybox"
    shutil.copy2(busybox, f"{root}/bin/busybox")
    for applet in "sh mount cat cut echo sed awk uname gzip poweroff true".split():
        os.symlink("busybox", f"{root}/bin/{applet}")
    shutil.copy2(f"{KIT}/guest/init", f"{root}/init")
    os.chmod(f"{root}/init", 0o755)


def build(work, guest):
    os.makedirs(f"{work}/obj", exist_ok=True)
    kernel = f"{guest}/vmlinuz"  # the demo guest's, if it is there
    if not os.path.exists(kernel):
        kver = kernel_version()
        kernel = f"{work}/pkg/boot/vmlinuz-{kver}"
        if not os.path.exists(kernel):
            fetch(work, f"linux-image-{kver}")
    shutil.copy2(kernel, f"{work}/vmlinuz")

    # the micro benchmarks
    src, obj = f"{KIT}/src", f"{work}/obj"
    sh(["gcc", "-O3", "-DMATMUL_NAME=matmul_sse2", "-c", f"{src}/matmul.c", "-o", f"{obj}/mm_sse2.o"])
    sh(["gcc", "-O3", "-march=x86-64-v3", "-DMATMUL_NAME=matmul_v3", "-c", f"{src}/matmul.c", "-o", f"{obj}/mm_v3.o"])
    sh(["gcc", "-O2", "-Wall", "-static", f"{src}/ub.c", f"{obj}/mm_sse2.o", f"{obj}/mm_v3.o", "-o", f"{obj}/ub", "-lm"])

    # /init and busybox only, for the boot time
    skeleton(f"{work}/bootroot", work)
    cpio(f"{work}/bootroot", f"{work}/boot.cpio")

    # everything
    root = f"{work}/root"
    skeleton(root, work)
    for p in "lua5.4 luajit tcc libstb-dev libreadline8 libtinfo6".split():
        fetch(work, p)
    pkg = f"{work}/pkg"
    install(root, f"{obj}/ub", "/bin/ub")
    for name in "zstd xz perl openssl".split():
        install(root, shutil.which(name), f"/usr/bin/{name}")
    os.environ["LD_LIBRARY_PATH"] = f"{pkg}/usr/lib/x86_64-linux-gnu:{pkg}/lib/x86_64-linux-gnu"
    for name in "lua5.4 luajit tcc".split():
        install(root, f"{pkg}/usr/bin/{name}", f"/usr/bin/{name}", pkg)
    del os.environ["LD_LIBRARY_PATH"]
    install(root, out_of(["gcc", "-print-prog-name=cc1"]).strip(), "/usr/bin/cc1")
    sh(["strip", f"{root}/usr/bin/cc1"])

    data = f"{root}/data"
    for f in glob.glob(f"{KIT}/guest/prog.*") + [f"{KIT}/guest/jit.lua"]:
        shutil.copy2(f, data)
    shutil.copy2(f"{KIT}/guest/bench.sh", root)
    with open(f"{data}/text8m", "wb") as f:
        sh([f"{obj}/ub", "gendata", str(8 << 20)], stdout=f)
    sh(f"gzip -n -6 < {data}/text8m > {data}/text8m.gz; head -c 1000000 {data}/text8m > {data}/text1m")
    stb = "#define STB_IMAGE_IMPLEMENTATION\n#define STBI_ONLY_PNG\n#include <stb/stb_image.h>\n"
    with open(f"{obj}/stb.c", "w") as f:
        f.write(stb)
    inc = f"-I{pkg}/usr/include"
    sh(["gcc", "-E", "-P", inc, f"{obj}/stb.c", "-o", f"{data}/stb-gcc.i"])
    with open(f"{obj}/stb.c", "w") as f:
        f.write("#define STBI_NO_SIMD\n" + stb.replace("#define STBI_ONLY_PNG\n", ""))
    tcc_lib = f"{pkg}/usr/lib/x86_64-linux-gnu/tcc"
    sh([f"{pkg}/usr/bin/tcc", "-E", "-P", f"-I{tcc_lib}/include", inc, f"{obj}/stb.c", "-o", f"{data}/stb-tcc.c"])
    cpio(root, f"{work}/bench.cpio")
    for f in ("vmlinuz", "boot.cpio", "bench.cpio"):
        print(f"{work}/{f}: {os.path.getsize(f'{work}/{f}') / 1e6:.1f} MB")


# --------------------------------------------------------------------- run
def parse(lines):
    """lines: [(host seconds since start, text)] -> result record"""
    r = {"bench": {}, "unit": {}, "check": {}, "info": {}, "marks": []}
    for t, line in lines:
        w = line.split()
        if not w:
            continue
        if w[0] == "BENCH" and len(w) == 4:
            try:
                r["bench"][w[1]] = float(w[2])
                r["unit"][w[1]] = w[3]
            except ValueError:
                pass
        elif w[0] == "CHECK" and len(w) == 3:
            r["check"][w[1]] = w[2]
        elif w[0] == "INFO" and len(w) > 1:
            r["info"][w[1]] = " ".join(w[2:])
        elif w[0] == "MARK" and len(w) == 3:
            r["marks"].append((w[1], float(w[2]), t))
        elif w[0] == "BOOT" and len(w) == 2:
            r["boot_uptime"], r["boot_wall"] = float(w[1]), t
        elif w[0] == "DONE":
            r["done"] = True
    m = r["marks"]
    if len(m) > 1:  # does the guest's clock agree with the host's?
        inner, host = m[-1][1] - m[0][1], m[-1][2] - m[0][2]
        r["clock_err"] = inner / host - 1
        r["clock_err_worst"] = max(((b[0], (b[1] - a[1]) - (b[2] - a[2])) for a, b in zip(m, m[1:])), key=lambda x: abs(x[1]))
    return r


def busy():
    """CPU seconds since boot: used by everything on this host, stolen by the hypervisor below it."""
    with open("/proc/stat") as f:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, f.readline().split()[1:9])
    hz = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / hz, steal / hz


def wait_quiet(limit):
    """Wait until other processes use less than a tenth of a CPU, at most limit seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        b, t = busy(), time.monotonic()
        time.sleep(1)
        if (busy()[0] - b[0]) / (time.monotonic() - t) < 0.1:
            return


def set_nice(nice):
    """In the new process: priority, also of its session (autogroup), within which alone nice would count."""
    os.nice(nice)
    if nice and os.path.exists("/proc/self/autogroup"):
        with open("/proc/self/autogroup", "w") as f:
            f.write(str(nice))


def launch(argv, log, timeout, nice):
    """Run argv, timestamp its output lines; the whole process group is ended at the timeout."""
    lines = []
    busy0, start = busy(), time.monotonic()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(log + ".err", "wb"),
                         start_new_session=True, preexec_fn=lambda: set_nice(nice))

    def reader():
        with open(log, "w") as f:
            for raw in p.stdout:
                t, s = time.monotonic() - start, raw.decode("utf-8", "replace").rstrip("\r\n")
                lines.append((t, s))
                f.write(f"{t:9.3f} {s}\n")
                f.flush()

    th = threading.Thread(target=reader, daemon=True)
    th.start()
    timer = threading.Timer(timeout, lambda: os.killpg(p.pid, signal.SIGKILL))
    timer.start()
    _, status, ru = os.wait4(p.pid, 0)
    wall = time.monotonic() - start
    others, steal = (x - y for x, y in zip(busy(), busy0))
    others -= ru.ru_utime + ru.ru_stime
    timer.cancel()
    th.join(5)
    r = parse(lines)
    r.update(wall=wall, other_cpu=others / wall, steal=steal / wall, cpu_time=ru.ru_utime + ru.ru_stime, status=os.waitstatus_to_exitcode(status),
             max_rss_mb=ru.ru_maxrss / 1024)
    return r


def vmm_argv(template, **kw):
    return [re.sub(r"\{(\w+)\}", lambda m: str(kw.get(m[1], m[0])), a) for a in shlex.split(template)]


def run(a):
    work, out = a.work, a.out
    os.makedirs(f"{out}/log", exist_ok=True)
    if not os.path.exists(f"{work}/bench.cpio"):
        build(work, f"{a.build}/guest")
    for rep in range(a.reps):
        for target in a.targets:
            for kind in a.kinds.split(","):
                if target == "native":
                    if kind == "boot":
                        continue
                    root = shlex.quote(f"{work}/root")
                    argv = ["unshare", "-m", "sh", "-c",
                            f"mount -t proc proc {root}/proc && mount -t tmpfs dev {root}/dev && mount -t sysfs sysfs {root}/sys && "
                            f"mknod -m 666 {root}/dev/null c 1 3 && mknod -m 666 {root}/dev/urandom c 1 9 && "
                            f"mount -t tmpfs tmpfs {root}/tmp && exec chroot {root} /bin/sh -c 'PATH=/bin:/usr/bin exec sh /bench.sh \"$@\"' sh \"$@\"",
                            "sh", a.time, a.only]
                    if a.smp == "1":  # one CPU, like the guest
                        argv = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] + argv
                    name = "native"
                else:
                    if target == "vmm" and not os.environ.get("VMM_CMD"):
                        sys.exit("VMM_CMD is not set")
                    template = {"vmm": os.environ.get("VMM_CMD"), "qemu": os.environ.get("QEMU_CMD", QEMU),
                                "veneer": os.environ.get("VENEER_CMD", VENEER.replace("build/bin", f"{a.build}/bin"))}[target]
                    append = f"console=ttyS0 quiet panic=-1 {a.append} bench_t={a.time} bench_only={a.only}"
                    argv = vmm_argv(template, kernel=f"{work}/vmlinuz", initrd=f"{work}/{kind}.cpio", append=append,
                                    mem=a.mem, smp=a.smp)
                    name = a.name or {"vmm": os.environ.get("VMM_NAME", "vmm"), "qemu": "qemu-tcg", "veneer": "veneer"}[target]
                log = f"{out}/log/{name}-{kind}-{time.strftime('%m%d-%H%M%S')}-{rep}"
                lock = open(a.lock, "w") if a.lock else None
                wait_quiet(a.quiet)
                if lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                r = launch(argv, log, a.timeout, a.nice)
                if lock:
                    lock.close()
                r.update(target=name, kind=kind, rep=rep, argv=argv, date=time.strftime("%FT%T"))
                r["marks"] = r["marks"] if target != "native" else []
                ok = r["status"] == 0 and (target == "native" or r.get("done"))
                with open(f"{out}/runs.jsonl", "a") as f:
                    f.write(json.dumps(r) + "\n")
                print(f"{name} {kind} rep {rep}: {'ok' if ok else 'FAILED, see ' + log} wall {r['wall']:.1f} s cpu {r['cpu_time']:.1f} s others {r['other_cpu']:.2f} steal {r['steal']:.2f} cpu "
                      f"{len(r['bench'])} results"
                      + (f" boot {r['boot_wall']:.2f} s (uptime {r['boot_uptime']})" if "boot_wall" in r else "")
                      + (f" guest clock {100 * r['clock_err']:+.2f}%" if target != "native" and "clock_err" in r else ""), flush=True)


# ------------------------------------------------------------------- table
def geomean(x):
    return math.exp(sum(map(math.log, x)) / len(x)) if x else None


def table(a):
    runs = [json.loads(l) for l in open(f"{a.out}/runs.jsonl")]
    total, runs = len(runs), [r for r in runs if r["cpu_time"] / r["wall"] >= a.min_share]
    if len(runs) < total:
        print(f"{total - len(runs)} of {total} runs left out: they got less than {a.min_share} CPU")
    targets = []
    for r in runs:
        if r["target"] not in targets:
            targets.append(r["target"])
    targets.sort(key=lambda t: (t != "native", t != "qemu-tcg"))
    if a.only:
        targets = [t for t in targets if t == "native" or t in a.only.split(",")]
    val, unit, check = {}, {}, {}
    for r in runs:
        for n, v in r["bench"].items():
            val.setdefault((r["target"], n), []).append(v)
            unit[n] = r["unit"][n]
        for n, c in r["check"].items():
            check.setdefault(n, {}).setdefault(c, set()).add(r["target"])
    med = {k: (max if a.stat == "best" else statistics.median)(v) for k, v in val.items()}
    guests = [t for t in targets if t != "native"]
    others = [t for t in guests if t != "qemu-tcg"] if "qemu-tcg" in guests else []
    head = ["group", "benchmark", "unit"] + targets + [f"native/{t}" for t in guests] + [f"{t}/qemu" for t in others]
    rows, full, means = [], [], []
    for g, names in GROUPS.items():
        ratios = {}
        for n in names:
            if n not in unit:
                continue
            v = [med.get((t, n)) for t in targets]
            nat, q = med.get(("native", n)), med.get(("qemu-tcg", n))
            slow = [nat / med[t, n] if nat and med.get((t, n)) else None for t in guests]
            vs = [med[t, n] / q if q and med.get((t, n)) else None for t in others]
            if n not in NO_MEAN:
                for t, s in zip(guests + [o + "/q" for o in others], slow + vs):
                    if s:
                        ratios.setdefault(t, []).append(s)
            rows.append([g, n + ("*" if n in NO_MEAN else ""), unit[n], *v, *slow, *vs])
            spread = [(max(x) - min(x)) / statistics.median(x) if (x := val.get((t, n))) else None for t in targets]
            full.append([g, n, unit[n], *v, *slow, *vs, *spread])
        if ratios:
            means.append([g, "geometric mean", "", *[None] * len(targets)]
                         + [geomean(ratios.get(t, [])) for t in guests + [o + "/q" for o in others]])
    fmt = lambda x: "-" if x is None else x if isinstance(x, str) else f"{x:.4g}"
    text = [head] + [list(map(fmt, r)) for r in rows] + [list(map(fmt, r)) for r in means]
    width = [max(len(r[i]) for r in text) for i in range(len(head))]
    for i, r in enumerate(text):
        if i in (1, 1 + len(rows)):
            print("-" * (sum(width) + 2 * len(width)))
        print("  ".join(c.ljust(w) if j < 3 else c.rjust(w) for j, (c, w) in enumerate(zip(r, width))).rstrip())
    print(f"{a.stat} of the runs. native/X: slowdown of X (lower is better); X/qemu: speed relative to QEMU TCG (higher is better). * not in the means.")
    for t in targets:
        rs = [r for r in runs if r["target"] == t]
        b = [r for r in rs if r["kind"] == "boot" and "boot_wall" in r]
        f = [r for r in rs if r["kind"] == "bench"]
        if b:
            print(f"{t}: boot to first line of /init {statistics.median(r['boot_wall'] for r in b):.2f} s wall, "
                  f"guest uptime there {statistics.median(r['boot_uptime'] for r in b):.2f} s, "
                  f"whole boot + power off {statistics.median(r['wall'] for r in b):.2f} s ({len(b)} runs)")
        if f:
            print(f"{t}: {len(f)} benchmark runs, {statistics.median(r['wall'] for r in f):.1f} s wall, "
                  f"{statistics.median(r['cpu_time'] for r in f):.1f} s host cpu, "
                  f"other processes {', '.join('%.2f' % r['other_cpu'] for r in f)} cpu, "
                  f"stolen {', '.join('%.2f' % r.get('steal', math.nan) for r in f)} cpu, "
                  f"{statistics.median(r['max_rss_mb'] for r in f):.0f} MB"
                  + (f"; guest clock against host {', '.join('%+.2f%%' % (100 * r['clock_err']) for r in f if 'clock_err' in r)}" if t != "native" else ""))
            print(f"    {f[-1]['info']}")
    bad = {n: c for n, c in check.items() if len(c) > 1}
    print(f"checksums: {len(check) - len(bad)} of {len(check)} benchmarks gave the same result everywhere"
          + (f"; DIFFERENT: {bad}" if bad else ""))
    with open(f"{a.out}/table-{a.stat}.csv", "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(head + [f"spread {t}" for t in targets])
        w.writerows([["" if x is None else x for x in r] for r in full])
        w.writerows([["" if x is None else x for x in r] for r in means])
    print(f"written: {a.out}/table-{a.stat}.csv")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["build", "run", "table"])
    p.add_argument("targets", nargs="*", help="run: native, qemu, veneer, vmm")
    p.add_argument("--work", default=os.path.abspath("build/bench-work"))
    p.add_argument("--out", default=os.path.abspath("build/bench-out"))
    p.add_argument("--build", default="build", help="where bin/veneer is")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--time", default="0.3", help="least seconds timed per benchmark")
    p.add_argument("--only", default="", help="run: benchmark names; table: targets (comma separated)")
    p.add_argument("--kinds", default="boot,bench", help="boot (small initramfs), bench")
    p.add_argument("--stat", choices=["median", "best"], default="median", help="table: over the runs; best is less disturbed by others")
    p.add_argument("--min-share", type=float, default=0, help="table: leave out runs that got less than this much of a CPU")
    p.add_argument("--mem", default="1024")
    p.add_argument("--smp", default="1")
    p.add_argument("--append", default="", help="more kernel parameters")
    p.add_argument("--name", default="", help="name of the target in the results (for variants)")
    p.add_argument("--lock", default="", help="flock this file around every single run")
    p.add_argument("--nice", type=int, default=0, help="priority of what is measured (-20: undisturbed on a busy host; root)")
    p.add_argument("--quiet", type=float, default=0, help="before each run wait up to this many seconds for an idle host")
    p.add_argument("--timeout", type=float, default=280, help="seconds for one native or guest run")
    a = p.parse_args()
    a.build = os.path.abspath(a.build)
    a.work, a.out = os.path.abspath(a.work), os.path.abspath(a.out)
    if a.what == "build":
        build(a.work, f"{a.build}/guest")
    elif a.what == "run":
        if not a.targets or set(a.targets) - {"native", "qemu", "veneer", "vmm"}:
            p.error("run needs targets: native, qemu, veneer, vmm")
        run(a)
    else:
        table(a)


if __name__ == "__main__":
    main()
