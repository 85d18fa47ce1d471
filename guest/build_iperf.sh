#!/bin/sh
# Builds OUT/iperf.initrd: the demo guest's initial RAM disk with Debian's iperf3 and what it needs.
#
# usage: guest/build_iperf.sh OUT, after guest/build_demo.sh OUT. The packages are downloaded and unpacked, not installed; no root is
# needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_iperf.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.iperf-lock"
flock 9

inputs=$(cat "$here/build_iperf.sh" "$here/../scripts/debs.sh" "$out/.demo-inputs" | sha256sum)
if [ -f "$out/iperf.initrd" ] && [ "$(cat "$out/.iperf-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.iperf-work
rm -rf "$work"
mkdir -p "$work/root/bin" "$work/root/lib64"
debs_unpack "$work/all" iperf3 libiperf0 libsctp1 libssl3 libc6
cp "$work/all/usr/bin/iperf3" "$work/root/bin/"
mkdir -p "$work/root/lib/x86_64-linux-gnu"
for library in ld-linux-x86-64.so.2 libiperf.so.0 libsctp.so.1 libcrypto.so.3 libssl.so.3 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0; do
    found=$(find "$work/all" -name "$library" | head -n 1)
    [ -n "$found" ] && cp -L "$found" "$work/root/lib/x86_64-linux-gnu/"
done
ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$work/root/lib64/ld-linux-x86-64.so.2"
find "$work/root" -exec touch -h -d @0 {} +
(cd "$work/root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$work/iperf.cpio"
# The kernel unpacks one archive behind the other (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
cat "$out/initrd" "$work/iperf.cpio" >"$out/iperf.initrd.new"
mv "$out/iperf.initrd.new" "$out/iperf.initrd"
rm -rf "$work"
echo "$inputs" >"$out/.iperf-inputs"
echo "guest: $out/iperf.initrd has iperf3 ($(du -k "$out/iperf.initrd" | cut -f1) KiB)" >&2
