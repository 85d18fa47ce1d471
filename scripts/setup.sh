#!/bin/sh
# Installs the packages of scripts/packages.txt that this host lacks; when nothing is missing it only asks dpkg.
#
# As root, or with sudo where something is missing. VENEER_SETUP=skip leaves the host alone (other distributions, or
# a host whose tools are not Debian packages).
set -eu

[ "${VENEER_SETUP:-}" = skip ] && exit 0
list=$(dirname "$0")/packages.txt
wanted=$(sed 's/#.*//' "$list")

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: this host has no apt. Install the equivalents of $list, then run make with VENEER_SETUP=skip." >&2
    exit 1
fi

# dpkg-query fails when it does not know a package at all, which is an answer too.
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' $wanted 2>/dev/null | sed -n 's/^.i //p') || :
missing=
for package in $wanted; do
    case "
$installed
" in
    *"
$package
"*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

echo "setup: installing$missing" >&2
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: missing packages, and no sudo here. As root: apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi
$as_root apt-get update -q
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
