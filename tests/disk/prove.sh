#!/bin/sh
# The long proofs of disks, one after the other: about two hours. `make prove-disk` runs it; docs/disk.md says what each shows.
#
# usage: prove.sh BUILD SECONDS; SECONDS is that of each run of fio (600), a third of libFuzzer's. Needs qemu-utils and clang.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
seconds=$2
export VENEER="$build/bin/veneer" VENEER_GUEST="$build/guest" DISK_EXERCISER="$build/bin/disk_exerciser"
export VENEER_DISK_TESTS=long VENEER_KILLS=40 VENEER_TIMEOUT_SCALE="${VENEER_TIMEOUT_SCALE:-5}"
cd "$source"
fio() { python3 bench/disk.py "$1" --guest "$build/guest" --veneer "$VENEER" --work "$build/bench-work" --seconds "$seconds" --format "$2"; }

python3 -B tests/disk/matrix_test.py
python3 -B tests/disk/kill_test.py
"$build/bin/disk_crash_test"
fio verify raw
fio verify qcow2
fio mirror qcow2
(cd tests/boot && python3 -B -m unittest -v disk_test.Kill)
tests/disk/fuzz/fuzz.sh "$build" $((3 * seconds))
echo "disks: all proofs passed"
