"""SQLite: transfers between accounts by several processes, kills in the middle and recovery, and queries with known answers.

usage: sqlite.py FOLDER. Every line that it prints has one right answer (sqlite.expected), whatever the number of processors.
"""
import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

WRITERS, ACCOUNTS, MONEY = 4, 100, 1000
MODES = {"wal": "pragma journal_mode=wal", "rollback": "pragma journal_mode=delete", "truncate": "pragma journal_mode=truncate"}


def connect(path):
    connection = sqlite3.connect(path, timeout=600, isolation_level=None)
    connection.execute("pragma synchronous=full")
    return connection


def create(path, mode):
    for end in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + end):
            os.remove(path + end)
    db = connect(path)
    db.execute(MODES[mode])
    db.execute("create table account(id integer primary key, balance integer not null check (balance >= 0))")
    db.execute("create table log(writer integer, number integer, source integer references account, target integer, amount integer)")
    db.execute("create index by_writer on log(writer, number)")
    db.execute("create index by_balance on account(balance)")
    db.executemany("insert into account values(?, ?)", [(i, MONEY) for i in range(ACCOUNTS)])
    db.close()


def transfer(path, writer, first, count, report=None):
    """Number after number; each that is committed is reported."""
    db, choose = connect(path), random.Random(writer * 1000003 + first)
    for number in range(first, first + count):
        source, target, amount = choose.randrange(ACCOUNTS), choose.randrange(ACCOUNTS), choose.randrange(1, 50)
        db.execute("begin immediate")
        balance, = db.execute("select balance from account where id=?", (source,)).fetchone()
        amount = min(amount, balance)
        db.execute("update account set balance = balance - ? where id=?", (amount, source))
        db.execute("update account set balance = balance + ? where id=?", (amount, target))
        db.execute("insert into log values(?, ?, ?, ?, ?)", (writer, number, source, target, amount))
        if number % 10 == 9:
            db.execute("savepoint half")
            db.execute("delete from account where id < 50")
            db.execute("rollback to half")
        db.execute("rollback" if number % 25 == 24 and report is None else "commit")
        if report is not None:
            os.write(report, b"x")
    db.close()


def look(path, stop, answer):
    """Sums while others write: a transaction is there as a whole or not at all."""
    db, looks, wrong = connect(path), 0, 0
    while not stop.is_set():
        looks += 1
        total, = db.execute("select sum(balance) from account").fetchone()
        wrong += total != ACCOUNTS * MONEY
        time.sleep(0.002)
    answer.put((looks > 0, wrong))
    db.close()


def state(path):
    """What has to hold at all times, as text; and the balances that the log tells."""
    db = connect(path)
    total, = db.execute("select sum(balance) from account").fetchone()
    told = {i: MONEY for i in range(ACCOUNTS)}
    for source, target, amount in db.execute("select source, target, amount from log"):
        told[source] -= amount
        told[target] += amount
    same = told == dict(db.execute("select id, balance from account"))
    answer = f"{db.execute('pragma integrity_check').fetchone()[0]} {db.execute('pragma foreign_key_check').fetchall()} {total} {same}"
    db.close()
    return answer


def transfers(folder, mode):
    path = f"{folder}/{mode}.db"
    create(path, mode)
    stop, answer = multiprocessing.Event(), multiprocessing.Queue()
    reader = multiprocessing.Process(target=look, args=(path, stop, answer))
    writers = [multiprocessing.Process(target=transfer, args=(path, w, 0, 100)) for w in range(WRITERS)]
    for process in [reader] + writers:
        process.start()
    for process in writers:
        process.join()
    stop.set()
    looked = answer.get()
    reader.join()
    db = connect(path)
    logged = db.execute("select count(*) from log").fetchone()[0]
    db.close()
    print("transfers", mode, [process.exitcode for process in writers], looked, logged, state(path))


def kills(folder, mode):
    """Writers die in the middle of what they do. What was committed is there, nothing is there in half."""
    path, choose = f"{folder}/killed.db", random.Random(mode)
    create(path, mode)
    lost, invented, states, died = 0, 0, set(), 0
    for round_ in range(5):
        first, pipes, writers = round_ * 1000000, [], []
        for w in range(WRITERS):
            pipes.append(os.pipe())
            writers.append(multiprocessing.Process(target=transfer, args=(path, w, first, 900000, pipes[w][1])))
            writers[w].start()
            os.close(pipes[w][1])
        os.read(pipes[round_ % WRITERS][0], 1)  # at least one has committed
        time.sleep(choose.random() * 0.3)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for w, writer in enumerate(writers):
            writer.join()
            died += writer.exitcode == -signal.SIGKILL
            acknowledged = (1 if w == round_ % WRITERS else 0) + len(drain(pipes[w][0]))
            db = connect(path)
            there, = db.execute("select count(*) from log where writer=? and number between ? and ?", (w, first, first + 900000)).fetchone()
            db.close()
            lost += there < acknowledged
            invented += there > acknowledged + 1  # one may be committed and not reported yet
        states.add(state(path))
    print("kills", mode, died, lost, invented, sorted(states))


def drain(end):
    data = b""
    while True:
        more = os.read(end, 65536)
        if not more:
            os.close(end)
            return data
        data += more


def digest(rows):
    return hashlib.sha256(repr(list(rows)).encode()).hexdigest()[:16]


def queries(folder):
    """The same questions with and without indices, and others whose answers are known."""
    path = f"{folder}/queries.db"
    if os.path.exists(path):
        os.remove(path)
    db = connect(path)
    db.execute("pragma page_size=1024")
    db.execute("pragma cache_size=50")
    db.execute("create table t(a integer primary key, b integer, c text, d real, e blob)")
    db.execute("begin")
    db.execute("""with recursive n(i, x) as (select 1, 12345 union all select i + 1, (x * 1103515245 + 12345) % 2147483648 from n where i < 20000)
                  insert into t select i, x % 1000, printf('%08x', x), x / 16.0, zeroblob(x % 300) from n""")
    db.execute("commit")
    questions = ["select count(*), sum(b), max(c), total(d), sum(length(e)) from t {} where b between 100 and 200",
                 "select b, count(*) from t {} where b % 7 = 3 group by b order by 2 desc, 1",
                 "select a from t {} where c glob '00*' order by c",
                 "select x.a, y.a from t x join t y {} on y.b = x.b where x.a < 50 order by 1, 2",
                 "select a, sum(b) over (order by a rows 5 preceding) from t {} where a % 501 = 0"]
    without = [digest(db.execute(question.format("not indexed"))) for question in questions]
    for column in "bcd":
        db.execute(f"create index by_{column} on t({column})")
    db.execute("analyze")
    with_ = [digest(db.execute(question.format(""))) for question in questions]
    print("queries", without == with_, digest(with_))
    db.execute("delete from t where a % 3 = 0")
    db.execute("update t set e = randomblob(2000) where a % 50 = 1")
    db.execute("vacuum")
    print("changed", db.execute("select count(*), sum(b), sum(length(e)) from t").fetchone(), db.execute("pragma integrity_check").fetchone()[0])
    db.execute("create virtual table words using fts5(text)")
    db.executemany("insert into words values(?)", [(" ".join(f"w{i * k % 101}" for k in range(20)),) for i in range(1000)])
    db.execute("insert into words(words) values('integrity-check')")
    print("words", db.execute("select count(*) from words where words match 'w7 AND w14 NOT w21'").fetchone()[0],
          db.execute("select json_group_array(a) from (select a from t limit 3)").fetchone()[0])
    queens = """with recursive n(i) as (select 1 union all select i + 1 from n where i < 7),
        place(k, q) as (select 0, '' union all select k + 1, q || i from place, n where k < 7 and not exists
          (select 1 from n m where m.i <= k and (substr(q, m.i, 1) + 0 = n.i or abs(substr(q, m.i, 1) - n.i) = k + 1 - m.i)))
        select count(*) from place where k = 7"""
    print("queens", db.execute(queens).fetchone()[0])
    copy = sqlite3.connect(f"{folder}/copy.db")
    db.backup(copy, pages=100)
    print("backup", digest(copy.execute("select a, b, c, d, hex(e) from t")) == digest(db.execute("select a, b, c, d, hex(e) from t")))
    copy.close()
    db.close()
    dump = subprocess.run(["sqlite3", path, ".dump t"], check=True, capture_output=True).stdout
    again = subprocess.run(["sqlite3", ":memory:"], input=dump + b"\n.dump t\n", check=True, capture_output=True).stdout
    print("dump", again == dump)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    queries(folder)
    for mode in MODES:
        transfers(folder, mode)
    for mode in MODES:
        kills(folder, mode)


if __name__ == "__main__":
    main()
