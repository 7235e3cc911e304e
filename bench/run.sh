#!/bin/sh
# All benchmarks and their table. `npm run bench` calls this; the first time it sets up what they compare with.
set -eu
cd "$(dirname -- "$0")/.."
[ "$(id -u)" = 0 ] || { echo 'the benchmarks make namespaces and start containerd and dockerd: run them as root' >&2; exit 1; }
sh ./gantry --setup-tests
case $(uname -m) in aarch64 | arm64) arch=arm64 ;; *) arch=x64 ;; esac
PATH=$PWD/node_modules/node-linux-$arch/bin:$PATH
export PATH
exec node --disable-warning=ExperimentalWarning bench/all.ts
