#!/bin/sh
# Builds the disk fuzzer with clang's libFuzzer and runs it. usage: fuzz.sh BUILD SECONDS
#
# Needs the packages clang and libclang-rt-14-dev, which nothing else of Veneer needs. The corpus stays in BUILD/fuzz-disk;
# an image that breaks something is left beside it as crash-*.
set -eu
source=$(cd "$(dirname "$0")/../../.." && pwd)
mkdir -p "$1/fuzz-disk/corpus" "$1/fuzz-disk/objects"
work=$(cd "$1/fuzz-disk" && pwd)
command -v clang++ >/dev/null || { echo "fuzz-disk: needs clang++: apt-get install clang libclang-rt-14-dev" >&2; exit 1; }

cd "$source"
flags="-std=gnu++20 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DVENEER_SANITIZED=1 -Isrc"
for file in src/base/assert.cc src/base/log.cc src/base/result.cc src/disk/*.cc src/disk/qcow2/*.cc \
            tests/disk/fuzz/one_image.cc tests/disk/fuzz/libfuzzer_main.cc; do
    case $file in *_test.cc) continue ;; esac
    object=$work/objects/$(echo "$file" | tr / _).o
    [ "$object" -nt "$file" ] && [ -z "$(find src/disk src/base tests/disk -name '*.h' -newer "$object")" ] ||
        # shellcheck disable=SC2086
        clang++ $flags -fsanitize=fuzzer-no-link -c "$file" -o "$object"
done
# shellcheck disable=SC2086
clang++ $flags -fsanitize=fuzzer "$work"/objects/*.o -lfmt -lz -lzstd -lnbd -lpthread -o "$work/fuzz_qcow2"
[ -n "$(ls "$work/corpus")" ] || "$work/fuzz_qcow2" --write-seeds "$work/corpus"
cd "$work"
exec ./fuzz_qcow2 -max_total_time="$2" -max_len=1048576 -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=60 \
    -print_final_stats=1 corpus
