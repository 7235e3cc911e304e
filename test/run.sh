#!/bin/sh
# All tests, the quickest first. `npm test` calls this after the set-up; with arguments it runs only these stages.
#   sh test/run.sh [check] [unit] [integration] [e2e]
set -eu
cd "$(dirname -- "$0")/.."
case $(uname -m) in aarch64 | arm64) arch=arm64 ;; *) arch=x64 ;; esac
PATH=$PWD/node_modules/node-linux-$arch/bin:$PWD/node_modules/.bin:$PATH
export PATH
[ $# -gt 0 ] || set -- check unit integration e2e

for stage; do
  echo "== $stage"
  case $stage in
    check)
      tsc --noEmit
      eslint .
      ;;
    unit) node --test 'src/**/*.test.ts' ;;
    # One file after the other: they start daemons and measure time, and the machine has two cores.
    integration | e2e)
      if [ "$(id -u)" != 0 ]; then
        echo "skipped: $stage tests make namespaces and start containerd: run them as root"
        continue
      fi
      node --test --test-concurrency=1 "test/$stage/*.test.ts"
      ;;
    *) echo "there is no stage $stage" >&2; exit 2 ;;
  esac
done
