#!/bin/sh
# Builds OUT/vmlinuz-generic, Debian's kernel for ordinary computers, and OUT/generic.initrd: the demo guest with that kernel's
# drivers for its own virtio and NVMe, and for what the cloud kernel does not know (e1000, PS/2 mouse, floppy, AHCI).
#
# usage: guest/build_generic.sh OUT, after guest/build_demo.sh OUT. Nothing is installed and no root is needed. A second run with unchanged
# inputs does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_generic.sh OUT}
out=$(cd "$out" && pwd)
exec 9>"$out/.generic-lock"
flock 9

inputs=$(cat "$here/build_generic.sh" "$here/../scripts/debs.sh" "$out/.demo-inputs" | sha256sum)
if [ -f "$out/generic.initrd" ] && [ "$(cat "$out/.generic-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi
debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.generic-work
rm -rf "$work"
mkdir -p "$work/root/lib/modules"
package=$(debs_depend linux-image-amd64 'linux-image-[0-9][^ ]*-amd64') ||
    { echo "guest: apt knows no linux-image-amd64 (are Debian's sources configured?)" >&2; exit 1; }
debs_unpack "$work/kernel" "$package"
for module in e1000 psmouse floppy scsi_common scsi_mod libata libahci ahci crc64 crc64-rocksoft crct10dif_common crc-t10dif t10-pi sd_mod cdrom sr_mod virtio virtio_ring virtio_pci_legacy_dev \
    virtio_pci_modern_dev virtio_pci virtio_blk failover net_failover virtio_net virtio_balloon nvme-core nvme; do
    file=$(find "$work/kernel" -name "$module.ko*" | head -n 1)
    case $file in
    *.ko) cp "$file" "$work/root/lib/modules/" ;;
    *.ko.xz) xz -dc "$file" >"$work/root/lib/modules/$module.ko" ;;
    *.ko.zst) zstd -qdc "$file" >"$work/root/lib/modules/$module.ko" ;;
    *) echo "guest: $package has no module $module" >&2 && exit 1 ;;
    esac
done
find "$work/root" -exec touch -h -d @0 {} +
(cd "$work/root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$work/drivers.cpio"
# The kernel unpacks one archive behind the other (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
cat "$out/initrd" "$work/drivers.cpio" >"$out/generic.initrd.new"
install -m 644 "$work/kernel/boot/vmlinuz-${package#linux-image-}" "$out/vmlinuz-generic"
mv "$out/generic.initrd.new" "$out/generic.initrd"
rm -rf "$work"
echo "$inputs" >"$out/.generic-inputs"
echo "guest: $out/vmlinuz-generic is Linux ${package#linux-image-}" >&2
