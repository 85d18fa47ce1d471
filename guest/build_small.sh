#!/bin/sh
# The demo guest's kernel for guests with little memory: OUT/vmlinux from OUT/vmlinuz (guest/build_demo.sh OUT first).
#
# usage: guest/build_small.sh OUT
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_small.sh OUT}

exec 9>"$out/.small-lock"
flock 9

if [ "$out/vmlinux" -nt "$out/vmlinuz" ] && [ "$out/vmlinux" -nt "$here/extract_vmlinux.py" ]; then
    exit 0
fi
"$here/extract_vmlinux.py" "$out/vmlinuz" "$out/vmlinux"
