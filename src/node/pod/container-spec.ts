/** From a Pod's container to what the engine makes. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Container, Pod } from '../../core/types/index.ts'
import type { ContainerSpec, ImageConfig, Mount } from '../../engine/engine.ts'
import { ConfigError, expand } from './env.ts'
import { containerResources } from './qos.ts'

/** Labels by which an agent finds its containers again. */
export const LABEL = {
  uid: 'io.gantry.pod.uid', namespace: 'io.gantry.pod.namespace', pod: 'io.gantry.pod.name', container: 'io.gantry.container',
  attempt: 'io.gantry.restart', backoff: 'io.gantry.backoff',
} as const

/** The same attempt always has the same id, so an agent that died while creating it finds its own work. */
export function containerId(uid: string, name: string, attempt: number): string {
  return createHash('sha256').update(`${uid}/${name}/${attempt}`).digest('hex')
}

/** Parent of the control groups of a Pod's containers; `node` is the node's own. */
export function podCgroup(node: string, uid: string): string { return `${node}/${uid}` }

export interface SpecInput {
  pod: Pod
  container: Container
  attempt: number
  backoffLevel: number
  env: ReadonlyMap<string, string>
  image: ImageConfig
  /** Volume mounts with host paths, made already. */
  mounts: Mount[]
  hostname: string
  network: ContainerSpec['network']
  /** Directory with the Pod's `hosts`, `hostname` and `resolv.conf`. */
  etcDir: string
  /** The node's control group. */
  cgroup: string
  terminationLog: string
  nodeMemoryBytes: number
  oomFloor: number
  /** Container whose processes this one shares, if any. */
  pidOf?: string | undefined
}

/** Throws ConfigError for what the Pod asks and its image denies. */
export function containerSpec(i: SpecInput): ContainerSpec {
  const { pod, container: c } = i
  const sc = c.securityContext ?? {}
  const psc = pod.spec.securityContext ?? {}
  const uid = pod.metadata.uid ?? ''
  const text = (t: string): string => expand(t, i.env)
  const spec: ContainerSpec = {
    id: containerId(uid, c.name, i.attempt),
    image: c.image ?? '',
    labels: {
      [LABEL.uid]: uid, [LABEL.namespace]: pod.metadata.namespace ?? '', [LABEL.pod]: pod.metadata.name, [LABEL.container]: c.name,
      [LABEL.attempt]: String(i.attempt), [LABEL.backoff]: String(i.backoffLevel),
    },
    env: [`HOSTNAME=${i.hostname}`, ...[...i.env].map(([k, v]) => `${k}=${v}`)],
    hostname: i.hostname,
    mounts: mounts(i),
    network: i.network,
    group: uid,
    cgroupParent: podCgroup(i.cgroup, uid),
    resources: containerResources(pod, c, i.nodeMemoryBytes, i.oomFloor),
  }
  if (c.command !== undefined && c.command.length > 0) spec.entrypoint = c.command.map(text)
  if (c.args !== undefined && c.args.length > 0) spec.args = c.args.map(text)
  if (c.workingDir !== undefined && c.workingDir !== '') spec.workingDir = c.workingDir
  const user = userOf(i)
  if (user !== undefined) spec.user = user
  const groups = [...(psc.supplementalGroups ?? []), ...(psc.fsGroup === undefined ? [] : [psc.fsGroup])]
  if (groups.length > 0) spec.supplementalGroups = groups
  if (c.tty === true) spec.tty = true
  if (c.stdin === true) spec.stdin = true
  if (pod.spec.hostPID === true) spec.pid = 'host'
  else if (i.pidOf !== undefined) spec.pid = { container: i.pidOf }
  if (pod.spec.hostIPC === true) spec.ipc = 'host'
  if (sc.privileged === true) spec.privileged = true
  if (sc.capabilities?.add !== undefined) spec.capAdd = sc.capabilities.add
  if (sc.capabilities?.drop !== undefined) spec.capDrop = sc.capabilities.drop
  if (sc.allowPrivilegeEscalation === false) spec.noNewPrivileges = true
  if ((sc.seccompProfile ?? psc.seccompProfile)?.type === 'Unconfined') spec.seccomp = 'unconfined'
  if (sc.readOnlyRootFilesystem === true) spec.readOnlyRootfs = true
  if (psc.sysctls !== undefined && psc.sysctls.length > 0) spec.sysctls = Object.fromEntries(psc.sysctls.map(s => [s.name, s.value]))
  return spec
}

function userOf({ pod, container, image }: SpecInput): string | undefined {
  const psc = pod.spec.securityContext
  const user = container.securityContext?.runAsUser ?? psc?.runAsUser
  const group = container.securityContext?.runAsGroup ?? psc?.runAsGroup
  if ((container.securityContext?.runAsNonRoot ?? psc?.runAsNonRoot) === true) {
    const imageUser = image.user.split(':')[0] ?? ''
    if (user === 0) throw new ConfigError(`container's runAsUser breaks non-root policy (container: ${container.name})`)
    if (user === undefined && (imageUser === '' || imageUser === '0' || imageUser === 'root')) {
      throw new ConfigError(`container has runAsNonRoot and image will run as root (container: ${container.name})`)
    }
    if (user === undefined && !/^\d+$/.test(imageUser)) {
      throw new ConfigError(`container has runAsNonRoot and image has non-numeric user (${imageUser}), cannot verify user is non-root`)
    }
  }
  if (user === undefined && group === undefined) return undefined
  const name = user === undefined ? (image.user.split(':')[0] || '0') : String(user)
  return group === undefined ? name : `${name}:${group}`
}

function mounts(i: SpecInput): Mount[] {
  const own = new Set(i.mounts.map(m => m.target))
  const files: Mount[] = [
    { type: 'bind', source: join(i.etcDir, 'hosts'), target: '/etc/hosts' },
    { type: 'bind', source: join(i.etcDir, 'hostname'), target: '/etc/hostname' },
    { type: 'bind', source: join(i.etcDir, 'resolv.conf'), target: '/etc/resolv.conf' },
    { type: 'bind', source: i.terminationLog, target: i.container.terminationMessagePath ?? '/dev/termination-log' },
  ]
  const depth = (m: Mount): number => m.target.split('/').filter(p => p !== '').length
  // A mount below another must come after it.
  return [...files.filter(m => !own.has(m.target)), ...i.mounts].sort((a, b) => depth(a) - depth(b))
}
