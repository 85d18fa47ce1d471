#!/usr/bin/env python3
"""Fails when a document names a path that is gone, or a `path:function` whose function is not in that file any more.

usage: check_paths.py ROOT. Looks at README.md, CONTRIBUTING.md and docs/*.md: at names in backticks that start with a folder of
the repository, and at relative links.
"""
import glob
import os
import re
import sys

FOLDERS = ("src", "tests", "docs", "guest", "bench", "tools", "scripts", "third_party")


def problems(root, document):
    with open(os.path.join(root, document), encoding="utf-8") as f:
        lines = f.readlines()
    fenced = False
    for number, line in enumerate(lines, 1):
        where = f"{document}:{number}"
        if line.startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        for name in re.findall(r"`((?:%s)/[^`\s]*)`" % "|".join(FOLDERS), line):
            path, _, function = name.partition(":")
            found = glob.glob(os.path.join(root, path))
            if not found:
                yield f"{where}: there is no {path}"
            elif function:
                # Class::method is looked up by its last part: in the class's body it stands without the class.
                last = re.escape(function.removesuffix("()").split("::")[-1])
                if not any(re.search(rf"(?<![A-Za-z0-9_]){last}(?![A-Za-z0-9_])", open(file, encoding="utf-8").read())
                           for file in found):
                    yield f"{where}: {path} has no {function}"
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", line):
            if not os.path.exists(os.path.join(root, os.path.dirname(document), link)):
                yield f"{where}: the link to {link} leads nowhere"


def main():
    root = sys.argv[1]
    documents = [d for d in ("README.md", "CONTRIBUTING.md") if os.path.exists(os.path.join(root, d))]
    documents += sorted(os.path.relpath(d, root) for d in glob.glob(os.path.join(root, "docs", "*.md")))
    found = [p for document in documents for p in problems(root, document)]
    architecture = os.path.join(root, "docs", "ARCHITECTURE.md")
    if os.path.exists(architecture) and (length := sum(1 for _ in open(architecture, encoding="utf-8"))) > 250:
        found.append(f"docs/ARCHITECTURE.md has {length} lines; 250 are allowed")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
