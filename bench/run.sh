#!/bin/sh
# Runs the benchmark kit on this host: bench/run.sh BUILD REPS. Native and QEMU (if it is installed), then Veneer; then
# the table. Native and QEMU runs are kept, so that only Veneer is measured again when it changed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: run.sh BUILD REPS}" && pwd)
reps=${2:-3}
work=$build/bench-work out=$build/bench-out
kit() {
    what=$1
    shift
    python3 "$here/bench.py" "$what" "$@" --build "$build" --work "$work" --out "$out"
}

if [ "$(id -u)" != 0 ]; then
    echo "bench: the native column needs a chroot, so this must run as root" >&2
    exit 1
fi
# Build again after a change in the kit.
inputs=$(cat "$here"/bench.py "$here"/guest/* "$here"/src/* | sha256sum)
if [ "$(cat "$work/.inputs" 2>/dev/null)" != "$inputs" ]; then
    kit build
    echo "$inputs" >"$work/.inputs"
    rm -f "$out/runs.jsonl"
fi

measured() { grep -qs "\"target\": \"$1\"" "$out/runs.jsonl"; }
measured native || kit run native --reps "$reps"
if command -v qemu-system-x86_64 >/dev/null; then
    measured qemu-tcg || kit run qemu --reps "$reps"
else
    echo "bench: no qemu-system-x86_64 here, its column is left out"
fi
# Veneer's earlier runs are of another build.
[ ! -f "$out/runs.jsonl" ] || sed -i '/"target": "veneer"/d' "$out/runs.jsonl"
kit run veneer --reps "$reps"
kit table
