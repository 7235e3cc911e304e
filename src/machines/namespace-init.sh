#!/bin/sh
# Process 1 of a namespace host: private mounts, its own /proc and /run, then the supervisor.
#   namespace-init.sh HOSTNAME RUN_DIR SERVICES_DIR SUPERVISE
set -e
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mkdir -p -m 711 "$2"
hostname "$1"
exec /bin/sh "$4" "$3"
