#!/bin/sh
# Builds OUT/disk.raw: an ext4 file system with the demo guest's programs, to be booted with root=/dev/vda rw.
#
# usage: guest/build_disk.sh OUT, after guest/build_demo.sh OUT. No root and no loop devices: mke2fs fills the file
# system from a folder. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_disk.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.disk-lock"
flock 9

inputs=$(cat "$here"/disk/* "$here/build_disk.sh" "$out/.demo-inputs" | sha256sum)
if [ -f "$out/disk.raw" ] && [ "$(cat "$out/.disk-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
PATH=$PATH:/usr/sbin:/sbin
for tool in mke2fs debugfs; do
    command -v $tool >/dev/null || { echo "guest: there is no $tool (Debian package e2fsprogs)" >&2; exit 1; }
done

work=$out/.disk-work
rm -rf "$work"
mkdir -p "$work/root"
(cd "$work/root" && cpio -i -d --quiet --no-preserve-owner) <"$out/initrd"
rm "$work/root/init"
install -m 644 "$here/disk/inittab" "$here/disk/profile" "$work/root/etc/"

truncate -s 256M "$work/disk.raw"
mke2fs -q -t ext4 -L veneer -d "$work/root" "$work/disk.raw"
# mke2fs keeps the owners of the files it reads; in the guest all of them are root's.
(cd "$work/root" && find . -mindepth 1 | sed 's|^\.\(.*\)|sif "\1" uid 0\nsif "\1" gid 0|') >"$work/owners"
debugfs -w -f "$work/owners" "$work/disk.raw" >/dev/null 2>"$work/owners.log" || { cat "$work/owners.log" >&2; exit 1; }
mv "$work/disk.raw" "$out/disk.raw"
rm -rf "$work"
echo "$inputs" >"$out/.disk-inputs"
echo "guest: $out/disk.raw is an ext4 file system of 256 MiB ($(du -k "$out/disk.raw" | cut -f1) KiB used)" >&2
