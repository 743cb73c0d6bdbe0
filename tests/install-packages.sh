#!/bin/sh
# Installs the Debian packages whose programs the tests run, if any is missing. Needs root or sudo; starts no
# service. Safe to run again, and quick when there is nothing to do.
set -eu

# program:package, as in tests/common/tools.rs
programs="ab:apache2-utils apache2:apache2-bin bash:bash c++:g++ cc:gcc curl:curl diff:diffutils expect:expect gdb:gdb
git:git go:golang-go gunicorn:gunicorn haproxy:haproxy ip:iproute2 iperf3:iperf3 javac:default-jdk-headless lftp:lftp
mariadb:mariadb-client-core mariadbd:mariadb-server-core memcached:memcached musl-gcc:musl-tools
nc.openbsd:netcat-openbsd nginx:nginx-light node:nodejs openssl:openssl psql:postgresql-client python3:python3
redis-benchmark:redis-tools redis-cli:redis-tools redis-server:redis-server rsync:rsync scp:openssh-client
script:bsdutils setpriv:util-linux sha256sum:coreutils socat:socat ssh:openssh-client ssh-keygen:openssh-client
sshd:openssh-server strace:strace stunnel4:stunnel4 telnet:inetutils-telnet tshark:tshark unshare:util-linux
uvicorn:uvicorn valgrind:valgrind vsftpd:vsftpd"

# Headers and static libraries for the probes, and the servers that Debian keeps out of PATH.
files="/usr/include/stdio.h:libc6-dev /usr/include/linux/io_uring.h:linux-libc-dev
/usr/lib/postgresql/*/bin/postgres:postgresql /usr/lib/python3*/ensurepip/__init__.py:python3-venv"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
missing=""
for pair in $programs; do
    command -v "${pair%%:*}" > /dev/null || missing="$missing ${pair#*:}"
done
for pair in $files; do
    # shellcheck disable=SC2086 # may be a pattern
    ls ${pair%%:*} > /dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo > /dev/null; then
    as_root="sudo"
else
    echo "tests/install-packages.sh: the tests need$missing; install them as root, or install sudo" >&2
    exit 1
fi
if ! command -v apt-get > /dev/null; then
    echo "tests/install-packages.sh: the tests need$missing; there is no apt-get here to install them with" >&2
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
