"""Strings, regular expressions, parsers, tables and a database: what interpreters do all day."""
import collections
import csv
import hashlib
import io
import itertools
import json
import re
import sqlite3
import textwrap
import unicodedata

words = [f"{a}{b}{c}" for a, b, c in itertools.product("bcdfg", "aeiou", ["t", "nd", "rk", "l"])]
text = " ".join(words[(i * i + 7 * i) % len(words)] for i in range(20000))
count = collections.Counter(text.split())
print("words", len(count), count.most_common(5))
print("regex", len(re.findall(r"\b(\w)[aeiou]\w*k\b", text)), re.sub(r"(\w+) (\w+)", r"\2 \1", text)[:60])
print("backtracking", bool(re.match(r"(a|ab)(c|bcd)(d*)$", "abcd")), re.match(r"^(a+)+$", "a" * 18 + "b"))
tree = {"name": "root", "children": [{"id": i, "tags": words[i::17][:3], "ratio": i / 7} for i in range(200)]}
packed = json.dumps(tree, sort_keys=True)
print("json", len(packed), json.loads(packed) == tree, hashlib.sha256(packed.encode()).hexdigest())
table = io.StringIO()
csv.writer(table).writerows((i, w, f'say "{w}", twice') for i, w in enumerate(words))
print("csv", sum(len(row) for row in csv.reader(io.StringIO(table.getvalue()))))
print("unicode", unicodedata.normalize("NFD", "Ünïcödé").encode(), "ß".upper(), "İ".lower().encode(), len("👩‍👩‍👧".encode()))
print(textwrap.fill(text[:200], 50))
database = sqlite3.connect(":memory:")
database.execute("create table t (id integer primary key, word text, n real)")
database.executemany("insert into t (word, n) values (?, ?)", ((w, i * 0.5) for i, w in enumerate(words * 30)))
database.execute("create index by_word on t (word)")
print("sqlite", database.execute("select count(*), sum(n), max(word) from t where word like 'b%'").fetchall())
print("sqlite", database.execute("select word, count(*), avg(n) from t group by word order by word limit 3").fetchall())
