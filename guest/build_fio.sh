#!/bin/sh
# Builds OUT/fio.raw: an ext4 file system with Debian's fio, util-linux (blkdiscard) and what they need, to be mounted in the demo guest.
#
# usage: guest/build_fio.sh OUT, after guest/build_demo.sh OUT. The packages are downloaded and unpacked, not installed; no root is
# needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_fio.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.fio-lock"
flock 9

inputs=$(cat "$here/build_fio.sh" "$here/../scripts/debs.sh" | sha256sum)
if [ -f "$out/fio.raw" ] && [ "$(cat "$out/.fio-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
debs_dir=$out/debs
. "$here/../scripts/debs.sh"
PATH=$PATH:/usr/sbin:/sbin
command -v mke2fs >/dev/null || { echo "guest: there is no mke2fs (Debian package e2fsprogs)" >&2; exit 1; }

work=$out/.fio-work
rm -rf "$work"
# What the libraries ask for and the programs do not need to run: the package manager and its neighbours.
packages=$(debs_closure fio util-linux | grep -vE '^(dpkg|tar|perl.*|libperl.*|.*-perl|adduser|passwd|usrmerge|usr-is-merged|cdebconf|debconf|install-info|mime-support|media-types|python3.*|libpython.*|.*-common)$')
# shellcheck disable=SC2086
debs_unpack "$work/root" $packages
for dir in bin sbin lib lib64; do
    mkdir -p "$work/root/usr/$dir"
    if [ -d "$work/root/$dir" ] && [ ! -L "$work/root/$dir" ]; then
        cp -a "$work/root/$dir/." "$work/root/usr/$dir/"
        rm -rf "${work:?}/root/$dir"
        ln -s "usr/$dir" "$work/root/$dir"
    fi
done
rm -rf "$work/root/usr/share" "$work/root/var" "$work/root/etc"
for dir in dev proc sys tmp; do mkdir -p "$work/root/$dir"; done
truncate -s 512M "$work/fio.raw"
mke2fs -q -t ext4 -L fio -d "$work/root" "$work/fio.raw"
mv "$work/fio.raw" "$out/fio.raw"
rm -rf "$work"
echo "$inputs" >"$out/.fio-inputs"
echo "guest: $out/fio.raw has fio ($(du -k "$out/fio.raw" | cut -f1) KiB used)" >&2
