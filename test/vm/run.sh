#!/bin/sh
# Runs tests in a virtual machine of cgroup v2 and systemd: a fresh Debian, set up by this checkout's own set-up.
#   sh test/vm/run.sh [-s SUITE] [-k DIR] [TEST-FILE...]
#     -s  Debian release: trixie (default) or bookworm
#     -k  keeps the root file system in DIR, and uses the one that is there: only this checkout's last commit is put in anew
# Default test: test/e2e/cgroups.test.ts. Needs root, qemu-system-x86, mmdebstrap, e2fsprogs, 6 GB in /tmp and the package mirrors.
# The machine is emulated instruction by instruction, so that it runs anywhere: 10 to 20 minutes. Not part of `npm test`.
# Ends with the tests' exit code.
set -eu
suite=trixie
keep=
while getopts s:k: o; do
  case $o in
    s) suite=$OPTARG ;;
    k) keep=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- test/e2e/cgroups.test.ts
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
checkout=$(CDPATH='' cd -- "$here/../.." && pwd -P)
[ "$(id -u)" = 0 ] || { echo 'run.sh: making a root file system needs root' >&2; exit 1; }

work=$(mktemp -d /tmp/gantry-vm-XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
root=${keep:-$work/root}

# How far sources are trusted and reached is this machine's matter: its certificates hold for the new one as well.
certificates=/etc/ssl/certs/ca-certificates.crt
if [ ! -e "$root/etc/os-release" ]; then
  echo "run.sh: making Debian $suite"
  mmdebstrap --quiet --variant=minbase --mode=root --aptopt='Acquire::Languages "none"' \
    --include=ca-certificates,git,nodejs,npm,linux-image-amd64,systemd-sysv,udev,busybox-static "$suite" "$root"
fi

echo 'run.sh: setting it up'
rm -rf "$root/root/gantry.new"
git clone -q "$checkout" "$root/root/gantry.new"
for d in node_modules .gantry; do [ ! -d "$root/root/gantry/$d" ] || mv "$root/root/gantry/$d" "$root/root/gantry.new/"; done
rm -rf "$root/root/gantry"
mv "$root/root/gantry.new" "$root/root/gantry"
cp "$certificates" "$root$certificates"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# Its own mounts, gone with the command; / must be a mount for programs that make mount namespaces.
# shellcheck disable=SC2016  # expanded by the inner shell
unshare --mount --pid --fork --kill-child sh -euc '
  mount --bind "$0" "$0"
  mount -t proc proc "$0/proc"
  mount -t sysfs sysfs "$0/sys"
  mount --rbind /dev "$0/dev"
  exec chroot "$0" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin NPM_CONFIG_CAFILE="$1" /root/gantry/gantry --setup' \
  "$root" "$certificates"

cat >"$root/etc/systemd/system/gantry-test.service" <<UNIT
[Unit]
Description=Gantry's tests
After=multi-user.target

[Service]
Type=oneshot
Environment=HOME=/root GANTRY_TEST_PATIENCE=15
WorkingDirectory=/root/gantry
ExecStart=/bin/sh /root/gantry/test/vm/inside.sh $*
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
FailureAction=poweroff-force

[Install]
WantedBy=graphical.target
UNIT
ln -sf /lib/systemd/system/graphical.target "$root/etc/systemd/system/default.target"
mkdir -p "$root/etc/systemd/system/graphical.target.wants"
ln -sf ../gantry-test.service "$root/etc/systemd/system/graphical.target.wants/"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"

echo 'run.sh: writing the disk'
truncate -s 6G "$work/disk"
mke2fs -q -t ext4 -O ^has_journal -d "$root" "$work/disk"
kernel=$(ls -v "$root"/boot/vmlinuz-* | tail -n 1)
initrd=$(ls -v "$root"/boot/initrd.img-* | tail -n 1)
cp "$kernel" "$work/kernel"
cp "$initrd" "$work/initrd"
[ -n "$keep" ] || rm -rf "$root"

echo 'run.sh: starting the machine'
timeout "${GANTRY_VM_SECONDS:-3600}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 4096 -nodefaults -no-reboot \
  -display none -serial stdio -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" -kernel "$work/kernel" -initrd "$work/initrd" \
  -append 'root=/dev/vda rw console=ttyS0 quiet systemd.unified_cgroup_hierarchy=1 net.ifnames=0 mitigations=off' </dev/null | tee "$work/console"
status=$(sed -n 's/^gantry-test: status \([0-9]*\).*/\1/p' "$work/console" | tail -n 1)
exit "${status:-1}"
