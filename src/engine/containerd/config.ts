/** containerd's config.toml for a containerd of our own: images, snapshots, tasks and events; no CRI. */

export interface ContainerdConfig {
  /** Persistent data. */
  root: string
  /** Run-time state. */
  state: string
  /** gRPC socket. */
  socket: string
}

/**
 * What containerd would start and Gantry never asks: names of all versions from 1.6 to 2.x; unknown ones are ignored.
 * The old io.containerd.runtime.v1.linux stays: 1.6 refuses its task service without it.
 */
const DISABLED = [
  'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',
  'io.containerd.podsandbox.controller.v1.podsandbox', 'io.containerd.nri.v1.nri',
  'io.containerd.internal.v1.opt', 'io.containerd.internal.v1.restart', 'io.containerd.internal.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp', 'io.containerd.monitor.v1.cgroups', 'io.containerd.monitor.task.v1.cgroups',
  'io.containerd.image-verifier.v1.bindir', 'io.containerd.transfer.v1.local', 'io.containerd.grpc.v1.transfer',
  'io.containerd.snapshotter.v1.aufs', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.erofs', 'io.containerd.snapshotter.v1.zfs',
  'io.containerd.differ.v1.erofs',
]

/** The text of config.toml (version 2: read by 1.6, converted by 2.x). Paths must be absolute. */
export function renderContainerdConfig(c: ContainerdConfig): string {
  // JSON strings are TOML basic strings.
  const q = (s: string): string => JSON.stringify(s)
  return [
    'version = 2',
    `root = ${q(c.root)}`,
    `state = ${q(c.state)}`,
    'disabled_plugins = [',
    ...DISABLED.map((p) => `  ${q(p)},`),
    ']',
    '',
    '[grpc]',
    `  address = ${q(c.socket)}`,
    '  max_recv_message_size = 67108864',
    '  max_send_message_size = 67108864',
    '',
    '[ttrpc]',
    `  address = ${q(`${c.socket}.ttrpc`)}`,
    '',
    '[debug]',
    '  level = "warn"',
    '',
  ].join('\n')
}
