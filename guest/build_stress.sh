#!/bin/sh
# Builds OUT/stress.cpio: the demo guest with Debian's stress-ng in it, for tools/stress.py.
#
# usage: guest/build_stress.sh OUT, after guest/build_demo.sh OUT. The packages are downloaded and unpacked, not
# installed; no root is needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_stress.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.stress-lock"
flock 9

inputs=$(cat "$here/build_stress.sh" "$here/../scripts/debs.sh" "$out/.demo-inputs" | sha256sum)
if [ -f "$out/stress.cpio" ] && [ "$(cat "$out/.stress-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.stress-work
rm -rf "$work"
# shellcheck disable=SC2046
debs_unpack "$work/packages" $(debs_closure stress-ng)

# The program and the libraries that it names, and those that they name: half of what the packages hold is for displays.
root=$work/root
libraries=$root/lib/x86_64-linux-gnu
mkdir -p "$root/bin" "$root/lib64" "$libraries"
needed() { readelf -d "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p'; }
take() { # NAME: the library and what it needs, once
    [ ! -e "$libraries/$1" ] || return 0
    found=$(find "$work/packages" -name "$1" | head -n 1)
    [ -n "$found" ] || { echo "guest: no package of stress-ng has $1" >&2; return 1; }
    cp -L "$found" "$libraries/$1"
    for name in $(needed "$libraries/$1"); do take "$name"; done
}
cp "$work/packages/usr/bin/stress-ng" "$root/bin/"
for name in $(needed "$root/bin/stress-ng"); do take "$name"; done
cp -L "$(find "$work/packages" -name ld-linux-x86-64.so.2 | head -n 1)" "$root/lib64/"

# One date and no inode numbers: the same inputs give the same bytes. The kernel unpacks archives one after another.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$work/overlay.cpio"
cat "$out/initrd" "$work/overlay.cpio" >"$out/stress.cpio.new"
mv "$out/stress.cpio.new" "$out/stress.cpio"
rm -rf "$work"
echo "$inputs" >"$out/.stress-inputs"
echo "guest: $out/stress.cpio $(($(stat -c %s "$out/stress.cpio") >> 20)) MiB" >&2
