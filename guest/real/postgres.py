"""PostgreSQL: clients side by side, crashes and recovery, compiled and parallel queries, checks of indices and of all pages.

usage: postgres.py FOLDER, as root (the server runs as user postgres). Every line that it prints has one right answer
(postgres.expected), whatever the number of processors.
"""
import ctypes
import glob
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

BIN = glob.glob("/usr/lib/postgresql/*/bin")[0]
CLIENTS = 8
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_buffers = 32MB
max_connections = 40
max_wal_size = 64MB
checkpoint_timeout = 30s
autovacuum_naptime = 2s
dynamic_shared_memory_type = posix
jit_above_cost = 1000000000
logging_collector = off
deadlock_timeout = 200ms
"""


class Server:
    def __init__(self, folder):
        self.folder, self.data = folder, f"{folder}/data"
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        shutil.chown(folder, "postgres", "postgres")
        self.environment = {"PATH": f"{BIN}:/usr/bin:/bin", "PGHOST": folder, "PGUSER": "postgres", "PGDATABASE": "postgres", "LC_ALL": "C",
                            "PGDATA": self.data, "HOME": folder, "TZ": "UTC"}

    def program(self, *command, check=True, **more):
        more.setdefault("stdout", subprocess.PIPE)
        answer = subprocess.run(command, user="postgres", group="postgres", extra_groups=[], env=self.environment, cwd=self.folder,
                                stderr=subprocess.PIPE, text=True, **more)
        if check and answer.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: status {answer.returncode}\n{answer.stderr}\n{self.end_of_log()}")
        return answer

    def end_of_log(self):
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as log:
            return log.read()[-3000:]

    def create(self):
        self.program("initdb", "--data-checksums", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "postgres")
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as file:
            file.write(SETTINGS.format(folder=self.folder))

    def start(self):
        self.program("pg_ctl", "start", "-w", "-t", "900", "-l", f"{self.folder}/log", stdout=subprocess.DEVNULL)

    def stop(self, mode):
        self.program("pg_ctl", "stop", "-w", "-t", "900", "-m", mode)

    def ask(self, text, database="postgres", settings=""):
        return self.program("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", settings or "select 1 where false", "-c", text).stdout.strip()

    def postmaster(self):
        with open(f"{self.data}/postmaster.pid", encoding="utf-8") as file:
            return int(file.readline())

    def processes(self):
        """The postmaster's and those of all its children."""
        parents = {}
        for status in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(status, encoding="utf-8", errors="replace") as file:
                    pid, rest = file.read().split(" ", 1)
            except OSError:
                continue
            parents[int(pid)] = int(rest.rsplit(")", 1)[1].split()[1])
        main = self.postmaster()
        return [main] + [pid for pid, parent in parents.items() if parent == main]

    def wait_ready(self):
        for _ in range(3000):
            if self.program("psql", "-X", "-c", "select 1", check=False).returncode == 0:
                return
            time.sleep(0.2)
        raise SystemExit(f"the server does not come back\n{self.end_of_log()}")


BALANCES = """select (select sum(abalance) from pgbench_accounts) = (select coalesce(sum(delta), 0) from pgbench_history)
    and (select sum(tbalance) from pgbench_tellers) = (select coalesce(sum(delta), 0) from pgbench_history)
    and (select sum(bbalance) from pgbench_branches) = (select coalesce(sum(delta), 0) from pgbench_history)
    and not exists (select from pgbench_tellers t where tbalance <> (select coalesce(sum(delta), 0) from pgbench_history h where h.tid = t.tid))"""

TRANSFER = """\\set a random(1, 50)
\\set b random(1, 50)
\\set amount random(1, 20)
begin isolation level serializable;
select sum(money) from purse where id in (:a, :b);
update purse set money = money - :amount where id = :a;
update purse set money = money + :amount where id = :b;
end;
"""


def clients(server):
    server.program("pgbench", "-i", "-s", "4", "-q", "--foreign-keys")
    for protocol in ("simple", "extended", "prepared"):
        server.program("pgbench", "-c", str(CLIENTS), "-j", "4", "-t", "60", "-n", "-M", protocol)
    print("clients", server.ask("select count(*) from pgbench_history"), server.ask(BALANCES))


def serializable(server):
    """As if one after another: money is moved only by pairs of updates, what cannot be so is tried again."""
    server.ask("create table purse(id int primary key, money int); insert into purse select i, 1000 from generate_series(1, 50) i")
    with open(f"{server.folder}/transfer.sql", "w", encoding="utf-8") as file:
        file.write(TRANSFER)
    answer = server.program("pgbench", "-c", str(CLIENTS), "-j", "4", "-t", "40", "-n", "--max-tries=1000", "-f", f"{server.folder}/transfer.sql").stdout
    done = [line.split(":")[1].strip() for line in answer.splitlines() if line.startswith("number of transactions actually processed")]
    print("serializable", done, server.ask("select sum(money), count(*) from purse"))


def crash(server, kind, seed):
    """Ends the server while clients write: each that was told of its commit finds it afterwards, and nothing is there in half."""
    before = int(server.ask("select count(*) from pgbench_history"))
    for old in glob.glob(f"{server.folder}/bench.*"):
        os.remove(old)
    bench = subprocess.Popen(["pgbench", "-c", str(CLIENTS), "-j", "2", "-T", "3000", "-n", "-l", "--log-prefix=bench"], user="postgres", group="postgres",
                             extra_groups=[], env=server.environment, cwd=server.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while int(server.ask("select count(*) from pgbench_history")) < before + 50:
        time.sleep(0.1)
    time.sleep(random.Random(seed).random())
    if kind == "backend":
        while not (pids := server.ask("select pid from pg_stat_activity where application_name = 'pgbench'").split()):
            pass
        os.kill(int(pids[0]), signal.SIGKILL)
        bench.wait()
        server.wait_ready()
    elif kind == "all":
        killed = server.processes()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        for pid in killed:  # a process that nobody has waited for would seem to live
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
        bench.wait()
        server.start()
    else:
        server.stop("immediate")
        bench.wait()
        server.start()
    told = 0
    for log in glob.glob(f"{server.folder}/bench.*"):
        with open(log, encoding="utf-8") as file:
            told += sum(1 for line in file if line.endswith("\n"))
    there = int(server.ask("select count(*) from pgbench_history")) - before
    return told > 0, told <= there <= told + CLIENTS, server.ask(BALANCES)


def check_all(server):
    server.program("pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--parent-check", "--rootdescend", "-j", "2")
    return "sound"


def maintenance(server):
    """Indices are made anew and tables packed while clients write."""
    bench = subprocess.Popen(["pgbench", "-c", "4", "-j", "2", "-t", "150", "-n"], user="postgres", group="postgres", extra_groups=[], env=server.environment,
                             cwd=server.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for statement in ("vacuum (analyze, parallel 2) pgbench_accounts", "reindex table concurrently pgbench_accounts", "vacuum full pgbench_tellers",
                      "create index concurrently by_balance on pgbench_accounts(abalance)", "checkpoint", "vacuum (freeze, analyze)"):
        server.ask(statement)
    status = bench.wait()
    return status, server.ask(BALANCES)


FILL = """create table t as select i as a, (i::bigint * 7919 % 10007)::int as b, md5(i::text) as c, (i % 1000) / 8.0::float8 as d,
    jsonb_build_object('k', i % 97, 'l', array[i % 11, i % 13]) as e, point(i % 313, i % 317) as f from generate_series(1, 60000) i;
create table s as select i as a, i * 3 % 1009 as b from generate_series(1, 5000) i;
create function collatz(n bigint) returns int language plpgsql immutable parallel safe as $$
declare steps int := 0; begin while n > 1 loop n := case when n % 2 = 0 then n / 2 else 3 * n + 1 end; steps := steps + 1; end loop; return steps; end $$;
analyze"""

QUERIES = [
    "select count(*), sum(a), sum(b), max(c), sum(d) from t where b between 500 and 1500",
    "select b % 10, count(*), avg(a)::numeric(20, 4), min(c), stddev_pop(b)::numeric(20, 6) from t group by 1 order by 1",
    "select count(*), sum(t.a + s.a) from t join s on t.b = s.b where t.c < 'c'",
    "select a, c from t where c like 'ab%' order by c",
    "select sum(x) from (select sum(b) over (partition by a % 100 order by a rows 10 preceding) as x from t) y",
    "select count(*) from t where e @> '{\"k\": 5}' or e->'l' @> '[3]'",
    "select count(*), sum(a) from t where f <@ box(point(10, 10), point(50, 60))",
    "select sum(collatz(a)) from t where a < 6000",
    "select md5(string_agg(c, ',' order by c desc)) from t",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 5000) select sum(n::numeric * n * n), count(distinct n % 37) from r",
    "select length(factorial(1500)::text), (2::numeric ^ 300)::text, round(exp(1::numeric(60, 50)), 40)",
    "select count(*) from t a where exists (select from t b where b.a = a.b and b.b < a.a) and c ~ '^[0-9]{3}'",
]


def queries(server):
    """The same answers compiled by LLVM and interpreted, by one process and by several, with and without indices."""
    server.ask(FILL)
    ways = {
        "plain": "set max_parallel_workers_per_gather = 0; set jit = off",
        "compiled": "set max_parallel_workers_per_gather = 0; set jit_above_cost = 0; set jit_inline_above_cost = 0; set jit_optimize_above_cost = 0",
        "parallel": "set max_parallel_workers_per_gather = 3; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set work_mem = '256kB'",
    }
    answers = {}
    for name, settings in ways.items():
        answers[name] = [server.ask(query, settings=settings) for query in QUERIES]
    server.ask("create index on t(a); create index on t using brin(b); create index on t using hash(c); create index on t(c text_pattern_ops); create index on t using gin(e); "
               "create index on t using gist(f); create index on s(b) include (a); analyze")
    answers["indexed"] = [server.ask(query, settings="set enable_seqscan = off; set work_mem = '64kB'") for query in QUERIES]
    for i, query in enumerate(QUERIES):
        for name in ways.keys() | {"indexed"}:
            if answers[name][i] != answers["plain"][i]:
                print("DIFFERENT", name, query, answers[name][i][:300], answers["plain"][i][:300])
    used = server.ask("explain (analyze) select count(*) from t where b = 1", settings=ways["compiled"])
    print("queries", hashlib.sha256("\n".join(answers["plain"]).encode()).hexdigest()[:16], "JIT" in used, answers["plain"][7])


def dump(server):
    def lines(database):  # without a word that is different each time
        return [line for line in server.program("pg_dump", database).stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]

    server.ask("create database copy template template0")
    server.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copy", input=server.program("pg_dump", "postgres").stdout)
    return lines("copy") == lines("postgres")


def main():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the server becomes this process' child
    server = Server(sys.argv[1])
    server.create()
    server.start()
    clients(server)
    serializable(server)
    queries(server)
    for seed, kind in enumerate(["backend", "all", "immediate", "all"]):
        print("crash", kind, *crash(server, kind, seed), check_all(server), flush=True)
    print("maintenance", *maintenance(server), check_all(server))
    print("dump", dump(server))
    server.stop("fast")
    report = server.program("pg_checksums", "--check").stdout
    print("checksums", [line for line in report.splitlines() if "Bad" in line], "in production" in server.program("pg_controldata").stdout)


if __name__ == "__main__":
    main()
