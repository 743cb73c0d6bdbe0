#!/bin/sh
# Installs the Debian packages whose programs the bench runs, if any is missing. Needs root or sudo; starts no
# service. Safe to run again, and quick when there is nothing to do.
set -eu

# program:package
programs="ab:apache2-utils cc:gcc gnuplot:gnuplot-nox ip:iproute2 iperf3:iperf3 nft:nftables nginx:nginx-light
openssl:openssl python3:python3 redis-benchmark:redis-tools redis-server:redis-server stunnel4:stunnel4 true:coreutils
wrk:wrk"
headers=/usr/include/stdio.h:libc6-dev

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=""
for pair in $programs; do
    command -v "${pair%%:*}" > /dev/null || missing="$missing ${pair#*:}"
done
[ -e "${headers%%:*}" ] || missing="$missing ${headers#*:}"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo > /dev/null; then
    as_root="sudo"
else
    echo "benches/install-packages.sh: the bench needs$missing; install them as root, or install sudo" >&2
    exit 1
fi
if ! command -v apt-get > /dev/null; then
    echo "benches/install-packages.sh: the bench needs$missing; there is no apt-get here to install them with" >&2
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
