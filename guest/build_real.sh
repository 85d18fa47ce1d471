#!/bin/sh
# Builds OUT/real.qcow2: a disk with Debian's node, Java, Go, LuaJIT, Python, SQLite and PostgreSQL, and run-real, which runs
# them against known answers; to be booted with root=/dev/vda rw and real=GROUP (tools/real_programs.py does it).
#
# usage: guest/build_real.sh OUT VENEER, after guest/build_demo.sh OUT. The packages are downloaded and unpacked, not installed;
# no root and no loop devices: mke2fs fills the file system. A second run with unchanged inputs does nothing.
# Remove OUT/debs-real to get newer packages.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_real.sh OUT VENEER}
veneer=${2:?usage: build_real.sh OUT VENEER}
out=$(cd "$out" && pwd)
exec 9>"$out/.real-lock"
flock 9

inputs=$(cat "$here"/real/*.* "$here"/real/init "$here"/real/run-real "$here"/real/go/* "$here"/programs/cases.sh \
    "$here"/programs/jit.* "$here/build_real.sh" "$here/../scripts/debs.sh" | sha256sum)
if [ -f "$out/real.qcow2" ] && [ "$(cat "$out/.real-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
PATH=$PATH:/usr/sbin:/sbin
for tool in mke2fs debugfs; do
    command -v $tool >/dev/null || { echo "guest: there is no $tool (Debian package e2fsprogs)" >&2; exit 1; }
done

debs_dir=$out/debs-real
debs_own=yes
. "$here/../scripts/debs.sh"

work=$out/.real-work
rm -rf "$work"
root=$work/root
mkdir -p "$root"

# Not needed in here: what configures packages, what draws or prints, what logs people in.
skip='adduser|ca-certificates.*|cdebconf|debconf.*|dpkg|font.*|gcc-12-base|golang-go|golang-src|init-system-helpers|install-info'
skip="$skip|java-common|libasound2.*|libavahi.*|libcups2|libdb5.3|libdebian-installer4|libelogind0|libfont.*|libfreetype6|libglib2.*"
skip="$skip|libgraphite2.*|libharfbuzz.*|libjpeg.*|liblcms2.*|libnewt0.52|libnss3|libnspr4|libpcsclite1|libperl.*|libpng.*|libc-l10n"
skip="$skip|libsemanage.*|libsepol2|libslang2|libtextwrap1|lib.*-perl|locales.*|lsb-base|mailcap|media-types|mime-support|passwd|perl.*"
skip="$skip|postgresql-.*common|readline-common|sensible-utils|ssl-cert|sysvinit-utils|tar|ttf.*|ucf|usr-is-merged|usrmerge"
skip="$skip|util-linux.*|x11.*|xfonts.*"
packages=$(debs_closure nodejs openjdk-17-jre-headless golang-go luajit python3 sqlite3 postgresql-15 tzdata busybox-static | grep -vxE "$skip")
[ -n "$packages" ] || { echo "guest: apt knows none of the packages" >&2; exit 1; }
# shellcheck disable=SC2086
debs_unpack "$root" $packages
for dir in bin sbin lib lib64; do # some packages still have files in /bin or /lib
    mkdir -p "$root/usr/$dir"
    if [ -d "$root/$dir" ]; then
        cp -a "$root/$dir/." "$root/usr/$dir/"
        rm -rf "${root:?}/$dir"
    fi
    ln -s "usr/$dir" "$root/$dir"
done
(cd "$root" && rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian var/cache/*)
for dir in dev etc proc root sys tmp run work usr/share/real; do mkdir -p "$root/$dir"; done

# Go's compiler and library in one folder, as it likes them; not what it was built with, nor its tests.
go=$root/usr/lib/go
from=$(echo "$root"/usr/lib/go-*) share=$(echo "$root"/usr/share/go-*)
mkdir -p "$go/pkg/tool/linux_amd64" "$go/bin"
cp "$from/bin/go" "$go/bin/"
for tool in asm buildid compile link pack; do cp "$from/pkg/tool/linux_amd64/$tool" "$go/pkg/tool/linux_amd64/"; done
cp -rL "$share/pkg/include" "$go/pkg/"
cp -r "$share/src" "$go/src"
cp "$from/VERSION" "$go/"
rm -rf "$from" "$share" "$go/src/cmd"
find "$go/src" \( -name testdata -o -name '*_test.go' \) -prune -exec rm -rf {} +

install -m 755 "$here/real/init" "$root/usr/bin/init"
install -m 755 "$here/real/run-real" "$here/real/go/build-program" "$root/usr/bin/"
install -m 644 "$here"/real/*.* "$here/programs/cases.sh" "$here"/programs/jit.* "$root/usr/share/real/"
mkdir "$root/usr/share/real/go"
install -m 644 "$here"/real/go/*.* "$root/usr/share/real/go/"
for applet in $("$root/bin/busybox" --list); do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
[ -e "$root/usr/bin/luajit" ] || ln -s "$(cd "$root/usr/bin" && ls -d luajit-* | head -n 1)" "$root/usr/bin/luajit"
printf 'root::0:0:root:/root:/bin/sh\npostgres:x:70:70:postgres:/work:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:70:\n' >"$root/etc/group"
echo "127.0.0.1 localhost" >"$root/etc/hosts"

# What this host builds is what the guest has to build.
GOROOT=$go GOCACHE=$work/go-cache sh "$here/real/go/build-program" "$here/real/go" "$work/go-program" >"$work/go.expected" ||
    { echo "guest: Debian's Go does not run here" >&2; exit 1; }
install -m 644 "$work/go.expected" "$root/usr/share/real/"

truncate -s 6G "$work/disk.raw"
mke2fs -q -t ext4 -L real -d "$root" "$work/disk.raw"
# mke2fs keeps the owners of the files it reads; in the guest all of them are root's.
(cd "$root" && find . -mindepth 1 | sed 's|^\.\(.*\)|sif "\1" uid 0\nsif "\1" gid 0|') >"$work/owners"
debugfs -w -f "$work/owners" "$work/disk.raw" >/dev/null 2>"$work/owners.log" || { cat "$work/owners.log" >&2; exit 1; }
rm -f "$out/real.qcow2" "$work/disk.qcow2"
"$veneer" disk convert -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
mv "$work/disk.qcow2" "$out/real.qcow2"
rm -rf "$work"
echo "$inputs" >"$out/.real-inputs"
echo "guest: $out/real.qcow2 $(($(stat -c %s "$out/real.qcow2") >> 20)) MiB" >&2
