#!/bin/sh
# Fetches boot discs of other makers from Debian's packages: OUT/ipxe.iso, OUT/grub-rescue.iso, and OUT/isolinux.iso, made here
# of ISOLINUX with memtest86+ and Xen (guest/build_xen.sh).
#
# usage: guest/build_loaders.sh OUT. Nothing is installed and no root is needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_loaders.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.lock-loaders"
flock 9

inputs=$(cat "$here/build_loaders.sh" "$here/../scripts/debs.sh" "$out/xen" | sha256sum)
[ "$(cat "$out/.loaders-inputs" 2>/dev/null)" = "$inputs" ] && exit 0
command -v xorriso >/dev/null || { echo "guest: xorriso is missing (make setup installs it)" >&2; exit 1; }

debs_dir=$out/debs-loaders
. "$here/../scripts/debs.sh"
work=$out/.loaders-work
rm -rf "$work"
debs_unpack "$work/packages" ipxe grub-rescue-pc isolinux syslinux-common memtest86+ u-boot-qemu

disc=$work/disc
mkdir -p "$disc/isolinux"
cp "$work/packages/usr/lib/ISOLINUX/isolinux.bin" "$disc/isolinux/"
for module in ldlinux libcom32 mboot meminfo; do
    cp "$work/packages/usr/lib/syslinux/modules/bios/$module.c32" "$disc/isolinux/"
done
cp "$work/packages/boot/memtest86+x64.bin" "$disc/memtest"
cp "$out/xen" "$disc/xen"
cat >"$disc/isolinux/isolinux.cfg" <<'END'
PROMPT 1
LABEL memtest
  LINUX /memtest
  APPEND console=ttyS0,115200
LABEL xen
  COM32 mboot.c32
  APPEND /xen com1=115200,8n1 console=com1
LABEL meminfo
  COM32 meminfo.c32
END
xorriso -as mkisofs -quiet -o "$out/isolinux.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
    -boot-load-size 4 -boot-info-table "$disc" >"$work/xorriso.log" 2>&1 || { cat "$work/xorriso.log" >&2; exit 1; }
install -m 644 "$work/packages/usr/lib/ipxe/ipxe.iso" "$out/ipxe.iso"
install -m 644 "$work/packages/usr/lib/grub-rescue/grub-rescue-cdrom.iso" "$out/grub-rescue.iso"
install -m 644 "$work/packages/usr/lib/u-boot/qemu-x86_64/u-boot.rom" "$out/u-boot.rom"
rm -rf "$work"
echo "$inputs" >"$out/.loaders-inputs"
echo "guest: $out has ipxe.iso, grub-rescue.iso, isolinux.iso and u-boot.rom" >&2
