#!/bin/sh
# Builds the Linux kernel's x86 selftests, 64 and 32 bits, and initial RAM disks that run them one after the other.
#
# usage: tests/selftests/build.sh OUT GUEST. Source: Debian's linux-source-6.1, fetched into OUT without installing it.
# Needs gcc that builds 32-bit programs (package gcc-multilib). GUEST holds the demo guest (make guest), whose busybox
# is used; with guest/build_i386.sh's files there, OUT/initrd-32 is for the i386 kernels.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUT GUEST}
guest=$(cd "${2:?usage: build.sh OUT GUEST}" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

echo 'int main(void) { return 0; }' >"$out/probe.c"
gcc -m32 -o "$out/probe" "$out/probe.c" 2>/dev/null || {
    echo "selftests: gcc cannot build 32-bit programs here: install the package gcc-multilib" >&2
    exit 1
}

if [ ! -d "$out/bin" ]; then
    debs_dir=$out/debs
    . "$here/../../scripts/debs.sh"
    debs_unpack "$out/source" linux-source-6.1
    # sigreturn.c includes a header of the kernel's own.
    (cd "$out/source" && tar xJf usr/src/linux-source-6.1.tar.xz linux-source-6.1/tools/testing/selftests \
        linux-source-6.1/arch/x86/include/asm)
    mkdir -p "$out/bin.new"
    # Some programs do not build with every compiler; expected.txt says which have to be there.
    make -k -C "$out/source/linux-source-6.1/tools/testing/selftests/x86" OUTPUT="$out/bin.new" KHDR_INCLUDES= \
        >"$out/build.log" 2>&1 || true
    mv "$out/bin.new" "$out/bin"
fi

# copy_libraries ROOT 64|32: the loader and the libraries of one width, where a loader of Debian looks for them: that of
# gcc-multilib's library in /lib32, that of the i386 architecture in /lib/i386-linux-gnu.
copy_libraries() {
    if [ "$2" = 64 ]; then
        mkdir -p "$1/lib64"
        cp -L /lib64/ld-linux-x86-64.so.2 "$1/lib64"
        folder=lib/x86_64-linux-gnu
    else
        mkdir -p "$1/lib"
        cp -L "$(gcc -m32 -print-file-name=ld-linux.so.2)" "$1/lib" 2>/dev/null || cp -L /lib/ld-linux.so.2 "$1/lib"
        folder=lib/i386-linux-gnu
        ln -s "$folder" "$1/lib32"
    fi
    mkdir -p "$1/$folder"
    for library in libc.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libgcc_s.so.1; do
        cp -L "$(gcc "-m$2" -print-file-name=$library)" "$1/$folder"
    done
}

# make_initrd FROM TO WIDTH...: the initrd FROM with our init, and the programs of these widths.
make_initrd() {
    from=$1 to=$2
    shift 2
    root=$out/root
    rm -rf "$root"
    mkdir -p "$root"
    (cd "$root" && cpio -idm --quiet <"$from")
    mkdir -p "$root/selftests"
    for width; do
        cp "$out"/bin/*_"$width" "$root/selftests"
        copy_libraries "$root" "$width"
    done
    cp "$here/init" "$root/init"
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet) >"$to"
    rm -rf "$root"
}

make_initrd "$guest/initrd" "$out/initrd-64" 64 32
[ ! -f "$guest/initrd-i386" ] || make_initrd "$guest/initrd-i386" "$out/initrd-32" 32
