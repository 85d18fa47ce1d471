#!/bin/sh
# Fetches Debian's Xen as OUT/xen, for multiboot loaders. Its dom0 is the kernel of guest/build_generic.sh.
#
# usage: guest/build_xen.sh OUT. Nothing is installed and no root is needed. A second run does nothing; remove OUT/xen for
# a newer one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_xen.sh OUT}
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock-xen"
flock 9
[ ! -f "$out/xen" ] || exit 0

debs_dir=$out/debs-xen
. "$here/../scripts/debs.sh"
package=xen-hypervisor-4.17-amd64
debs_unpack "$debs_dir/root" "$package"
gzip -dc "$debs_dir/root/boot/xen-4.17-amd64.gz" >"$out/xen.new"
mv "$out/xen.new" "$out/xen"
rm -rf "$debs_dir/root"
echo "guest: $out/xen is $package" >&2
