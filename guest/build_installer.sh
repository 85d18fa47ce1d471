#!/bin/sh
# Builds OUT/installer.iso, a CD-ROM (El Torito) with Debian's network installer that installs by itself, with the answers
# in guest/installer/preseed.cfg, onto the first virtio disk, over the network, and powers off.
#
# usage: guest/build_installer.sh OUT. No root is needed. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_installer.sh OUT}
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.installer-lock"
flock 9

inputs=$(cat "$here/build_installer.sh" "$here/installer/preseed.cfg" | sha256sum)
if [ -f "$out/installer.iso" ] && [ "$(cat "$out/.installer-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
for tool in grub-mkrescue xorriso cpio; do
    command -v "$tool" >/dev/null || { echo "guest: $tool is missing (make setup installs it)" >&2; exit 1; }
done
debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.installer-work
rm -rf "$work"
mkdir -p "$work/root/boot/grub"
debs_unpack "$work/package" debian-installer-12-netboot-amd64
images=$work/package/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64
cp "$images/linux" "$work/root/boot/"
# The kernel unpacks one archive behind the other; the installer looks for /preseed.cfg by itself.
cp "$here/installer/preseed.cfg" "$work/"
{
    cat "$images/initrd.gz"
    cd "$work" && echo preseed.cfg | cpio -o -H newc --quiet -R 0:0 | gzip -9n
} >"$work/root/boot/initrd.gz"
cat >"$work/root/boot/grub/grub.cfg" <<'END'
insmod serial
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial
set timeout=1
menuentry "Install Debian" {
    linux /boot/linux auto=true priority=critical console=ttyS0,115200 TERM=dumb DEBIAN_FRONTEND=text ---
    initrd /boot/initrd.gz
}
END
grub-mkrescue -d "${GRUB_DIR:-/usr/lib/grub/i386-pc}" -o "$work/installer.iso" --locales= --fonts= --themes= "$work/root" \
    >"$work/mkrescue.log" 2>&1 || { cat "$work/mkrescue.log" >&2; exit 1; }
mv "$work/installer.iso" "$out/"
rm -rf "$work"
echo "$inputs" >"$out/.installer-inputs"
echo "guest: $out/installer.iso installs Debian by itself" >&2
