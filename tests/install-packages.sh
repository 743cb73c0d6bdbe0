#!/bin/sh
# install-packages.sh LIST: installs the Debian packages of a list, if anything that the list names is missing. Needs
# root or sudo; starts no service. Safe to run again, and quick when there is nothing to do. Lines of the list are
# WHAT:PACKAGE, where WHAT is a program in PATH, or a file, which may be a pattern; # begins a comment.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 LIST, such as tests/packages.txt" >&2; exit 2; }
list=$1
# A list that cannot be read must not pass for an empty one.
[ -r "$list" ] || { echo "$0: cannot read $list" >&2; exit 1; }

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=""
while IFS=: read -r what package; do
    case $what in
    '' | '#'*) continue ;;
    # shellcheck disable=SC2086 # may be a pattern
    /*) ls $what > /dev/null 2>&1 || missing="$missing $package" ;;
    *) command -v "$what" > /dev/null || missing="$missing $package" ;;
    esac
done < "$list"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo > /dev/null; then
    as_root="sudo"
else
    echo "$0: $list needs$missing; install them as root, or install sudo" >&2
    exit 1
fi
if ! command -v apt-get > /dev/null; then
    echo "$0: $list needs$missing; there is no apt-get here to install them with" >&2
    exit 1
fi

# Debian starts services when it installs them, unless this program says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" > /dev/null
    $as_root chmod 755 "$policy"
fi

install() {
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
# The package lists may be there and recent; refresh them only if not.
install || { $as_root apt-get update && install; }
