#!/bin/sh
# Builds what firmware boots: OUT/boot.img, a disk with GRUB in its MBR gap and the demo guest on an ext4 partition, and
# OUT/boot.iso, a CD-ROM (El Torito) with the same.
#
# usage: guest/build_disks.sh OUT, after guest/build_demo.sh OUT. No root and no loop devices are needed: GRUB's boot
# sector and core image go to their places as bytes, mke2fs fills the file system itself. A second run with unchanged
# inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_disks.sh OUT}
out=$(cd "$out" && pwd)
grub=${GRUB_DIR:-/usr/lib/grub/i386-pc}

exec 9>"$out/.disks-lock"
flock 9

inputs=$(cat "$here/build_disks.sh" "$out/vmlinuz" "$out/initrd" | sha256sum)
if [ -f "$out/boot.img" ] && [ -f "$out/boot.iso" ] && [ "$(cat "$out/.disks-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
for tool in grub-mkimage grub-mkrescue xorriso mke2fs; do
    command -v "$tool" >/dev/null || { echo "guest: $tool is missing (make setup installs it)" >&2; exit 1; }
done

work=$out/.disks-work
rm -rf "$work"
mkdir -p "$work/root/boot/grub"
cp "$out/vmlinuz" "$out/initrd" "$work/root/boot/"
cat >"$work/root/boot/grub/grub.cfg" <<'END'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial
set timeout=1
menuentry "Veneer demo guest" {
    linux /boot/vmlinuz console=ttyS0 quiet
    initrd /boot/initrd
}
END

# The disk: boot sector, core image from sector 1 on (where boot.img and the core image look for it anyway), one
# partition at 1 MiB.
grub-mkimage -d "$grub" -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core.img" \
    biosdisk part_msdos ext2 normal linux serial terminal configfile echo test reboot halt minicmd ls cat
[ "$(stat -c %s "$work/core.img")" -lt 1047040 ] || { echo "guest: GRUB's core image does not fit into the gap" >&2; exit 1; }
partition_kib=65536
truncate -s $((1024 + partition_kib))K "$work/boot.img"
mke2fs -q -F -t ext4 -E offset=1048576,root_owner=0:0 -d "$work/root" "$work/boot.img" ${partition_kib}k
dd if="$grub/boot.img" of="$work/boot.img" bs=440 count=1 conv=notrunc status=none
# The partition table's first entry (active, Linux, sectors 2048 to 133119) and the signature.
printf '\200\376\377\377\203\376\377\377\000\010\000\000\000\000\002\000' |
    dd of="$work/boot.img" bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of="$work/boot.img" bs=1 seek=510 conv=notrunc status=none
dd if="$work/core.img" of="$work/boot.img" bs=512 seek=1 conv=notrunc status=none

# The CD-ROM
sed -i 's/^serial /insmod serial\nserial /' "$work/root/boot/grub/grub.cfg"
grub-mkrescue -d "$grub" -o "$work/boot.iso" --locales= --fonts= --themes= "$work/root" >"$work/mkrescue.log" 2>&1 ||
    { cat "$work/mkrescue.log" >&2; exit 1; }

mv "$work/boot.img" "$work/boot.iso" "$out/"
rm -rf "$work"
echo "$inputs" >"$out/.disks-inputs"
