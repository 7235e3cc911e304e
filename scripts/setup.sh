#!/bin/sh
# Sets up a machine for Gantry: system packages with apt, npm packages (Node itself is one of them). Idempotent.
#   sh scripts/setup.sh run     what `gantry` needs
#   sh scripts/setup.sh tests   and what the tests and benchmarks compare with
set -eu
level=${1:-run}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

say() { printf 'set-up: %s\n' "$*"; }
fail() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

# iproute2, nftables, conntrack: the network; kmod loads what the kernel lacks of it. containerd, runc: containers. haproxy: the
# router. mmdebstrap and the keyring: base images where no registry can be reached. util-linux: unshare and nsenter for local
# machines. libatomic1: Node 26. xz: archives. tini: the init of containers that want one.
packages='ca-certificates iproute2 nftables conntrack kmod containerd runc haproxy mmdebstrap debian-archive-keyring util-linux procps mount libatomic1 xz-utils tini'
# crun: the other runtime. busybox-static: images for tests. etcd: the store's second implementation. docker and
# docker-registry: the peers. python3-*: for docker-py's own tests. redis-tools, postgresql-client: speak to servers in containers. The rest
# measures and calls.
test_packages='crun busybox-static docker-registry docker.io iperf3 wrk curl unzip git make python3-docker python3-pytest python3-paramiko redis-tools postgresql-client'

. /etc/os-release 2>/dev/null || fail 'cannot read /etc/os-release: Debian 12/13 and Ubuntu 22.04/24.04 are supported'
case "${ID:-} ${VERSION_ID:-}" in
  'debian 12') test_packages="$test_packages etcd-server docker-compose" ;;
  # The docker command has left docker.io.
  'debian 13') test_packages="$test_packages etcd-server docker-cli docker-compose" ;;
  'ubuntu 22.04') test_packages="$test_packages etcd docker-compose-v2" ;;
  'ubuntu 24.04') test_packages="$test_packages etcd-server docker-compose-v2" ;;
  *) fail "this is ${PRETTY_NAME:-an unknown system}: Debian 12/13 and Ubuntu 22.04/24.04 are supported. Install these packages' like yourself and see ARCHITECTURE.md: $packages" ;;
esac

[ "$level" = tests ] && packages="$packages $test_packages"
missing=
for p in $packages; do
  [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | cut -c1-2)" = ii ] || missing="$missing $p"
done
command -v npm >/dev/null 2>&1 || missing="$missing nodejs npm"

if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || fail "missing packages:$missing. Run this as root, or: apt-get install$missing"
  say "installing Debian packages:$missing"
  # Packages must not start their own daemons: Gantry runs its own. policy-rc.d is Debian's way to say so.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  apt() { apt-get -q -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "apt-get $1 failed; the whole output is in $log"; }; }
  apt update
  # A release may lack what only tests use; what running needs must be there.
  wanted=
  for p in $missing; do
    case " $test_packages " in
      *" $p "*) apt-cache show "$p" >/dev/null 2>&1 || { say "no package $p here: tests that need it will fail"; continue; } ;;
    esac
    wanted="$wanted $p"
  done
  # shellcheck disable=SC2086  # a list of names is meant
  [ -z "$wanted" ] || apt install -y --no-install-recommends $wanted
  rm -f "$log"
fi

cd "$root"
omit=--omit=dev
[ "$level" = tests ] && omit=
# npm removes everything before it installs: not for a change of this script alone, and not under a running cluster.
installed="$level $(cksum <package-lock.json)"
if [ "$(cat node_modules/.gantry-installed 2>/dev/null)" = "$installed" ]; then
  say 'done'
  exit 0
fi
say 'installing npm packages (Node 26 is one of them)'
# shellcheck disable=SC2086  # empty means no argument
npm ci --no-audit --no-fund --loglevel=error --ignore-scripts $omit >/dev/null || fail 'npm ci failed; see the lines above'
echo "$installed" >node_modules/.gantry-installed
say 'done'
