#!/bin/sh
# Builds the 32-bit guests: Debian's i386 kernels without and with PAE as OUT/vmlinuz-686 and OUT/vmlinuz-686-pae, a
# small busybox system for both as OUT/initrd-i386, and memtest86+ as OUT/memtest86+ia32.bin and OUT/memtest86+x64.bin.
#
# usage: guest/build_i386.sh OUT. Nothing is installed, the host's package architectures stay as they are, and no root is
# needed. A second run with unchanged inputs does nothing; remove OUT/debs-i386 to get newer kernels.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_i386.sh OUT}
mkdir -p "$out"
out=$(cd "$out" && pwd)

exec 9>"$out/.lock-i386"
flock 9

inputs=$(cat "$here"/demo/* "$here/build_i386.sh" "$here/../scripts/debs.sh" | sha256sum)
[ "$(cat "$out/.i386-inputs" 2>/dev/null)" = "$inputs" ] && exit 0

debs_dir=$out/debs-i386
debs_arch=i386
. "$here/../scripts/debs.sh"

work=$out/.i386-work
rm -rf "$work"
mkdir -p "$work/packages"

packages="busybox-static memtest86+"
for flavour in 686 686-pae; do
    name=$debs_dir/kernel-$flavour
    if [ ! -f "$name" ]; then
        package=$(debs_depend "linux-image-$flavour" "linux-image-[0-9][^ ]*-$flavour") ||
            { echo "guest: apt knows no linux-image-$flavour for i386" >&2; exit 1; }
        echo "$package" >"$name"
    fi
    packages="$packages $(cat "$name")"
done
# shellcheck disable=SC2086
debs_unpack "$work/packages" $packages

root=$work/root
for dir in bin dev etc proc root run sys tmp usr; do
    mkdir -p "$root/$dir"
done
ln -s bin "$root/sbin"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"
busybox=$work/packages/bin/busybox
[ -x "$busybox" ] || busybox=$work/packages/usr/bin/busybox
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
# No modules: the console and what the kernels have built in will do.
sed '/load_drivers/d' "$here/demo/init" >"$root/init"
sed '/power_button/d;/network/d' "$here/demo/inittab" >"$root/etc/inittab"
chmod 755 "$root/init"
install -m 755 "$here/demo/greeting" "$root/etc/"
install -m 644 "$here/demo/profile" "$root/etc/"
echo "root::0:0:root:/root:/bin/sh" >"$root/etc/passwd"
echo "root:x:0:" >"$root/etc/group"

find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$out/initrd-i386"
for flavour in 686 686-pae; do
    package=$(cat "$debs_dir/kernel-$flavour")
    install -m 644 "$work/packages/boot/vmlinuz-${package#linux-image-}" "$out/vmlinuz-$flavour"
done
install -m 644 "$work/packages/boot/memtest86+ia32.bin" "$work/packages/boot/memtest86+x64.bin" "$out/"
rm -rf "$work"
echo "$inputs" >"$out/.i386-inputs"
echo "guest: $out has vmlinuz-686, vmlinuz-686-pae, initrd-i386 and memtest86+ for both widths" >&2
