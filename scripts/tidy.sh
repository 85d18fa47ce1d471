#!/bin/sh
# Runs clang-tidy over the sources in the compilation database of BUILD: scripts/tidy.sh BUILD [FILE...]
set -eu
build=${1:?usage: tidy.sh BUILD [FILE...]}
shift
[ $# -gt 0 ] || set -- $(git ls-files 'src/*.cc' 'tests/*.cc')
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$build"
