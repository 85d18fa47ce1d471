#!/bin/sh
# Builds the programs guest: an initramfs with Debian's python, perl, gcc, openssl and luajit, and /usr/bin/run-programs,
# which runs them against known answers.
#
# usage: guest/build_programs.sh OUT, after guest/build_demo.sh OUT. The packages are downloaded and unpacked, not
# installed; no root is needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_programs.sh OUT}
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock"
flock 9

inputs=$(cat "$here"/programs/* "$here/build_programs.sh" "$here/../scripts/debs.sh" | sha256sum)
if [ -f "$out/programs.cpio" ] && [ "$(cat "$out/.programs-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi

debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.programs-work
rm -rf "$work"
root=$work/root
mkdir -p "$root"

# Not needed in here: the package manager, sanitizer runtimes, documentation.
skip='dpkg|tar|install-info|mailcap|media-types|mime-support|readline-common|libasan.*|libtsan.*|liblsan.*|libubsan.*'
skip="$skip|net-tools|libgprofng.*|libkrb5.*|libgssapi.*|libk5crypto.*|libkeyutils.*|libcom-err.*|binutils-common|gcc-.*-base"
python=$(debs_depend python3 'python3\.[0-9]+') || { echo "guest: apt knows no python3" >&2; exit 1; }
packages=$(debs_closure python3 "lib$python-testsuite" perl gcc libc6-dev openssl luajit | grep -vxE "$skip")
# shellcheck disable=SC2086
debs_unpack "$root" $packages
# Some packages still have files in /bin or /lib; an installed system has these in /usr.
for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    if [ -d "$root/$dir" ]; then
        cp -a "$root/$dir/." "$root/usr/$dir/"
        rm -rf "${root:?}/$dir"
    fi
    ln -s "usr/$dir" "$root/$dir"
done

# What the programs do not use is three quarters of it all, and the guest holds it in memory twice while it unpacks.
cd "$root"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/gcc usr/share/gdb \
    usr/share/bug usr/share/applications usr/share/pixmaps usr/share/python3 usr/share/perl5 var etc/perl
rm -f usr/bin/*lto-dump* usr/bin/*ld.gold usr/bin/*dwp usr/bin/*gprof* usr/bin/*gcov* usr/lib/gcc/*/*/lto1 \
    usr/lib/gcc/*/*/lib?san*.a usr/lib/gcc/*/*/libhwasan* usr/lib/gcc/*/*/lib*san_preinit.o usr/bin/*perlbug* usr/bin/perl5*
multiarch=usr/lib/x86_64-linux-gnu
rm -rf $multiarch/gconv $multiarch/perl/*/CORE $multiarch/perl/*/auto/Encode/[A-Z][A-Z] $multiarch/perl-base/unicore/lib \
    usr/share/perl/*/Unicode/Collate usr/share/perl/*/pod usr/lib/python3*/lib2to3 usr/lib/python3*/idlelib
rm -rf usr/lib/python3*/test/decimaltestdata/x usr/lib/python3*/test/test_tools usr/lib/python3*/test/test_lib2to3 \
    usr/lib/python3*/test/test_asyncio usr/lib/python3*/test/test_email usr/lib/python3*/test/cjkencodings
find . -name '*.so*' -type f -o -path './usr/bin/*' -type f -o -name cc1 -type f -o -name collect2 -type f |
    xargs strip --strip-unneeded 2>/dev/null || true
cd "$out"

for dir in dev etc proc root sys tmp run usr/share/programs; do mkdir -p "$root/$dir"; done
busybox=$(command -v busybox || echo /bin/busybox)
if ldd "$busybox" >/dev/null 2>&1; then
    debs_unpack "$work/busybox" busybox-static
    busybox=$(find "$work/busybox" -name busybox -type f | head -n 1)
fi
cp "$busybox" "$root/usr/bin/busybox"
for applet in $("$busybox" --list); do
    # busybox has small versions of programs that are here in full (ar).
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
echo "root::0:0:root:/root:/bin/sh" >"$root/etc/passwd"
echo "root:x:0:" >"$root/etc/group"
echo "127.0.0.1 localhost" >"$root/etc/hosts"
[ -e "$root/usr/bin/perl" ] || ln -s "$(cd "$root/usr/bin" && ls -d perl5.* | head -n 1)" "$root/usr/bin/perl"
[ -e "$root/usr/bin/luajit" ] || ln -s "$(cd "$root/usr/bin" && ls -d luajit-* | head -n 1)" "$root/usr/bin/luajit"
install -m 755 "$here/programs/init" "$root/init"
install -m 755 "$here/programs/run-programs" "$root/usr/bin/run-programs"
for file in "$here"/programs/*.*; do install -m 644 "$file" "$root/usr/share/programs/"; done

# One date and no inode numbers: the same inputs give the same bytes.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$out/programs.cpio.new"
mv "$out/programs.cpio.new" "$out/programs.cpio"
if [ -n "${KEEP_ROOT:-}" ]; then echo "guest: the tree is $root" >&2; else rm -rf "$work"; fi
echo "$inputs" >"$out/.programs-inputs"
echo "guest: $out/programs.cpio $(($(stat -c %s "$out/programs.cpio") >> 20)) MiB" >&2
