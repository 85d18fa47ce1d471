#!/bin/sh
# Builds what UEFI firmware boots: OUT/uefi.img, a GPT disk whose EFI system partition has GRUB and the demo guest, and
# OUT/uefi.iso, a CD-ROM (El Torito) with the same.
#
# usage: guest/build_uefi.sh OUT, after guest/build_demo.sh OUT. No root and no loop devices are needed: sfdisk and mtools
# work on plain files. A second run with unchanged inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_uefi.sh OUT}
out=$(cd "$out" && pwd)
grub=${GRUB_DIR:-/usr/lib/grub/x86_64-efi}

exec 9>"$out/.uefi-lock"
flock 9

inputs=$(cat "$here/build_uefi.sh" "$out/vmlinuz" "$out/initrd" | sha256sum)
if [ -f "$out/uefi.img" ] && [ -f "$out/uefi.iso" ] && [ "$(cat "$out/.uefi-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
for tool in grub-mkimage xorriso sfdisk mformat mcopy mmd; do
    command -v "$tool" >/dev/null || { echo "guest: $tool is missing (make setup installs it)" >&2; exit 1; }
done

work=$out/.uefi-work
rm -rf "$work"
mkdir -p "$work/root/boot" "$work/root/EFI/BOOT"
cp "$out/vmlinuz" "$out/initrd" "$work/root/boot/"
cat >"$work/root/EFI/BOOT/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial
set timeout=1
menuentry "Veneer demo guest" {
    linux /boot/vmlinuz console=ttyS0 quiet
    initrd /boot/initrd
}
END
grub-mkimage -d "$grub" -O x86_64-efi -p /EFI/BOOT -o "$work/root/EFI/BOOT/BOOTX64.EFI" \
    part_gpt fat iso9660 normal linux serial terminal configfile echo test reboot halt minicmd ls cat

# The disk: one partition at 1 MiB, up to the place of the second partition table.
partition_mib=48
truncate -s $((partition_mib + 2))M "$work/uefi.img"
printf 'label: gpt\nstart=2048, size=%d, type=uefi\n' $((partition_mib * 2048)) |
    sfdisk -q "$work/uefi.img"
esp="$work/uefi.img@@1048576"
mformat -i "$esp" -T $((partition_mib * 2048)) -h 16 -s 63 -F ::
mcopy -s -i "$esp" "$work/root/boot" "$work/root/EFI" ::

# The CD-ROM: the boot image is a file system of its own, from which GRUB goes on to that of the disc.
truncate -s 4M "$work/esp.img"
mformat -i "$work/esp.img" -T 8192 -h 16 -s 63 ::
mmd -i "$work/esp.img" ::/EFI ::/EFI/BOOT
mcopy -i "$work/esp.img" "$work/root/EFI/BOOT/BOOTX64.EFI" ::/EFI/BOOT/
mkdir "$work/root/boot/efi"
mv "$work/esp.img" "$work/root/boot/efi/"
xorriso -as mkisofs -quiet -R -J -V UEFI -e boot/efi/esp.img -no-emul-boot -o "$work/uefi.iso" "$work/root"

mv "$work/uefi.img" "$work/uefi.iso" "$out/"
rm -rf "$work"
echo "$inputs" >"$out/.uefi-inputs"
