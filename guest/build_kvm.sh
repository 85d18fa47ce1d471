#!/bin/sh
# Builds OUT/kvm.cpio: the demo guest with its kernel's KVM for AMD's processors, and a program that runs a guest by it.
#
# usage: guest/build_kvm.sh OUT, after guest/build_demo.sh OUT. Nothing is installed and no root is needed. A second run
# with unchanged inputs does nothing. With VENEER_QEMU=/usr/bin/qemu-system-x86_64 it builds OUT/kvm-qemu.cpio instead, which
# has that program, too, with the demo guest for it (tools/nested.py).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_kvm.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.kvm-lock"
flock 9

qemu=${VENEER_QEMU:-}
name=kvm${qemu:+-qemu}
inputs=$(cat "$here/build_kvm.sh" "$here/kvm/kvm_guest.c" "$here/../scripts/debs.sh" "$out/.demo-inputs" | sha256sum)
if [ -f "$out/$name.cpio" ] && [ "$(cat "$out/.$name-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.$name-work
rm -rf "$work"
root=$work/root
mkdir -p "$root/bin" "$root/lib/kvm"
debs_unpack "$work/kernel" "$(cat "$out/debs/kernel-package")"
for module in irqbypass kvm kvm-amd; do
    file=$(find "$work/kernel" -name "$module.ko*" | head -n 1)
    case $file in
    *.ko) cp "$file" "$root/lib/kvm/" ;;
    *.ko.xz) xz -dc "$file" >"$root/lib/kvm/$module.ko" ;;
    *) echo "guest: the kernel has no module $module" >&2 && exit 1 ;;
    esac
done
cc -std=gnu11 -Wall -Wextra -Werror -O2 -static "$here/kvm/kvm_guest.c" -o "$root/bin/kvm-guest"
if [ -n "$qemu" ]; then
    mkdir -p "$root/nested" "$root/lib64" "$root/lib/x86_64-linux-gnu"
    cp "$qemu" "$root/nested/qemu"
    ldd "$qemu" | awk '/=>/ { print $3 }' | while read -r library; do cp -L "$library" "$root/lib/x86_64-linux-gnu/"; done
    cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
    for image in bios-microvm.bin linuxboot_dma.bin; do cp -L "/usr/share/qemu/$image" "$root/nested/"; done
    cp "$out/vmlinuz" "$out/initrd" "$root/nested/"
fi
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$work/overlay.cpio"
cat "$out/initrd" "$work/overlay.cpio" >"$out/$name.cpio.new"
mv "$out/$name.cpio.new" "$out/$name.cpio"
rm -rf "$work"
echo "$inputs" >"$out/.$name-inputs"
