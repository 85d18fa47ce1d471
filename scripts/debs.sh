# Shell functions that fetch and unpack Debian packages without installing them. To be sourced; needs no root.
#
# `debs_dir` must be set: downloads go to $debs_dir/archives, and so do private package lists when the host's own
# lists are missing or stale (a fresh container has none, and a normal user cannot refresh them). `debs_arch` may name
# another architecture: its packages come through lists of our own, and the host's dpkg hears nothing of it. With
# `debs_own` set the lists are our own too: what the host has installed, perhaps from elsewhere, does not count.

debs_private=

# apt with lists and caches of our own once debs_refresh ran, else with the host's lists.
debs_apt() {
    if [ -n "${debs_arch-}${debs_own-}" ] && [ -z "$debs_private" ]; then debs_refresh; fi # which calls this again
    debs_tool=$1
    shift
    if [ -n "${debs_arch-}${debs_own-}" ]; then
        set -- -o Dir::State::status=/dev/null "$@"
    fi
    if [ -n "${debs_arch-}" ]; then
        set -- -o "APT::Architecture=$debs_arch" -o "APT::Architectures=$debs_arch" "$@"
    fi
    if [ -n "$debs_private" ]; then
        set -- -o "Dir::State::Lists=$debs_dir/lists" -o "Dir::Cache=$debs_dir/cache" "$@"
    fi
    "$debs_tool" -q -o APT::Sandbox::User="$(id -un)" "$@"
}

debs_refresh() {
    [ -z "$debs_private" ] || return 1
    debs_private=yes
    mkdir -p "$debs_dir/lists/partial" "$debs_dir/cache/archives/partial"
    echo "guest: fetching package lists" >&2
    # A mirror may lack a list for a while; the others will do if they have the packages.
    debs_apt apt-get update >/dev/null || echo "guest: going on with the package lists that came" >&2
}

# debs_depend PACKAGE REGEX: the first dependency of PACKAGE that matches.
debs_depend() {
    debs_found=$(debs_apt apt-cache depends "$1" 2>/dev/null | sed -nE "s/^ *Depends: ($2)\$/\1/p" | head -n 1)
    if [ -z "$debs_found" ] && debs_refresh; then
        debs_found=$(debs_apt apt-cache depends "$1" | sed -nE "s/^ *Depends: ($2)\$/\1/p" | head -n 1)
    fi
    [ -n "$debs_found" ] && echo "$debs_found"
}

# debs_closure PACKAGE...: the packages and everything they depend on, one to a line.
debs_closure() {
    debs_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" 2>/dev/null | grep -E '^[a-z0-9][a-z0-9.+-]*$' | sort -u
}

# debs_unpack ROOT PACKAGE...: download the packages (those not there yet) and unpack them into ROOT.
debs_unpack() {
    debs_root=$1
    shift
    mkdir -p "$debs_root" "$debs_dir/archives"
    debs_missing=
    for debs_package; do
        set -- "$debs_dir/archives/${debs_package}_"*.deb
        [ -e "$1" ] || debs_missing="$debs_missing $debs_package"
        debs_all="${debs_all-} $debs_package"
    done
    if [ -n "$debs_missing" ]; then
        echo "guest: downloading$debs_missing" >&2
        # shellcheck disable=SC2086
        (cd "$debs_dir/archives" && debs_apt apt-get download $debs_missing >/dev/null 2>&1) ||
            { debs_refresh && (cd "$debs_dir/archives" && debs_apt apt-get download $debs_missing >/dev/null); } ||
            { echo "guest: cannot download$debs_missing" >&2; return 1; }
    fi
    for debs_package in $debs_all; do
        for debs_file in "$debs_dir/archives/${debs_package}_"*.deb; do
            dpkg-deb -x "$debs_file" "$debs_root"
        done
    done
    debs_all=
}
