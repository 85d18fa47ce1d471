#!/bin/sh
# Builds the demo guest: Debian's current cloud kernel as OUT/vmlinuz, and a small busybox system as OUT/initrd.
#
# usage: guest/build_demo.sh OUT. Nothing is installed and no root is needed. A second run with unchanged inputs does
# nothing; remove OUT to get a newer kernel.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build_demo.sh OUT}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# One build at a time: make and ctest may both ask for it.
exec 9>"$out/.lock"
flock 9

inputs=$(cat "$here"/demo/* "$here/build_demo.sh" "$here/../scripts/debs.sh" | sha256sum)
if [ -f "$out/vmlinuz" ] && [ -f "$out/initrd" ] && [ "$(cat "$out/.demo-inputs" 2>/dev/null)" = "$inputs" ]; then
    exit 0
fi

debs_dir=$out/debs
. "$here/../scripts/debs.sh"

work=$out/.demo-work
rm -rf "$work"
mkdir -p "$work/kernel" "$work/root"

if [ -f "$out/debs/kernel-package" ]; then
    package=$(cat "$out/debs/kernel-package")
else
    package=$(debs_depend linux-image-cloud-amd64 'linux-image-[0-9][^ ]*-cloud-amd64') ||
        { echo "guest: apt knows no linux-image-cloud-amd64 (are Debian's sources configured?)" >&2; exit 1; }
fi
debs_unpack "$work/kernel" "$package"
echo "$package" >"$out/debs/kernel-package"
version=${package#linux-image-}

root=$work/root
for dir in bin dev etc/acpi/PWRF lib/modules proc root run sys tmp usr; do
    mkdir -p "$root/$dir"
done
ln -s bin "$root/sbin"
ln -s ../bin "$root/usr/bin"
ln -s ../bin "$root/usr/sbin"

busybox=$(command -v busybox || echo /bin/busybox)
if ldd "$busybox" >/dev/null 2>&1; then
    debs_unpack "$work/busybox" busybox-static # the host's busybox is linked dynamically
    busybox=$work/busybox/bin/busybox
    [ -x "$busybox" ] || busybox=$work/busybox/usr/bin/busybox
fi
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done

# virtio first, then what a guest may meet: disks, networks, consoles; the power button.
modules="virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio-rng virtio_blk failover
net_failover virtio_net virtio_console virtio_balloon button evdev"
for module in $modules; do
    file=$(find "$work/kernel" -name "$module.ko*" | head -n 1)
    case $file in
    *.ko) cp "$file" "$root/lib/modules/" ;;
    *.ko.xz) xz -dc "$file" >"$root/lib/modules/$module.ko" ;;
    *.ko.zst) zstd -qdc "$file" >"$root/lib/modules/$module.ko" ;;
    *) echo "guest: $package has no module $module (perhaps built in)" >&2 ;;
    esac
done

install -m 755 "$here/demo/init" "$root/init"
install -m 755 "$here/demo/load_drivers" "$here/demo/greeting" "$here/demo/power_button" "$here/demo/network" \
    "$here/demo/udhcpc" "$root/etc/"
install -m 755 "$here/demo/acpi_power" "$root/etc/acpi/PWRF/00000080"
install -m 644 "$here/demo/inittab" "$here/demo/profile" "$root/etc/"
echo "root::0:0:root:/root:/bin/sh" >"$root/etc/passwd"
echo "root:x:0:" >"$root/etc/group"

# Not compressed: unpacking costs a guest more time than reading four megabytes costs the host.
# One date and no inode numbers: the same inputs give the same bytes.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$out/initrd.new"
# Debian ships the kernel readable to all, some distributions do not: a test runs as another user.
install -m 644 "$work/kernel/boot/vmlinuz-$version" "$out/vmlinuz"
mv "$out/initrd.new" "$out/initrd"
echo "$version" >"$out/kernel-version"
rm -rf "$work"
echo "$inputs" >"$out/.demo-inputs"
echo "guest: $out/vmlinuz is Linux $version, $out/initrd $(($(stat -c %s "$out/initrd") / 1024)) KiB" >&2
