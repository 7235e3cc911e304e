/** A container's OCI runtime configuration: complete, and no more than runc or crun need. */
import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { EngineError } from '../engine.ts'
import type { ContainerSpec, Mount, Resources } from '../engine.ts'
import { boundingSet } from './capabilities.ts'
import { cgroups } from './cgroups.ts'
import { defaultSeccomp } from './seccomp.ts'
import type { ProcessUser } from './users.ts'

export interface OciMount { destination: string; type: string; source: string; options: string[] }
export interface OciProcess {
  terminal: boolean
  user: { uid: number; gid: number; additionalGids: number[] }
  args: string[]
  env: string[]
  cwd: string
  capabilities: Record<'bounding' | 'effective' | 'permitted' | 'inheritable' | 'ambient', string[]>
  noNewPrivileges: boolean
  oomScoreAdj?: number
}
interface Device { path: string; type: string; major: number; minor: number; fileMode: number; uid: number; gid: number }
interface DeviceRule { allow: boolean; type?: string; major?: number; minor?: number; access: string }

/** What is known of the image, the user and the other containers when the container starts. */
export interface SpecFacts {
  args: string[]
  env: string[]
  cwd: string
  user: ProcessUser
  cgroupsPath: string
  /** Pids of the containers whose namespaces are shared. */
  pidOf(container: string): number
  /** True on the unified cgroup hierarchy: containers get a cgroup namespace, as in Docker. */
  cgroupV2: boolean
}

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const MASKED = [
  '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi',
  '/proc/timer_list', '/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware',
]
const READONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** mknod of anything, use of null, zero, full, tty, random, urandom, the ptys and /dev/console. */
const DEVICE_RULES: DeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[[1, 3], [1, 5], [1, 7], [1, 8], [1, 9], [5, 0], [5, 1], [5, 2]].map(
    ([major, minor]) => ({ allow: true, type: 'c', major, minor, access: 'rwm' }) as DeviceRule),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
]

export function ociSpec(spec: ContainerSpec, f: SpecFacts): object {
  const privileged = spec.privileged === true
  const hostNetwork = spec.network === 'host'
  const process = ociProcess(spec, f)
  const namespaces: { type: string; path?: string }[] = [{ type: 'mount' }, { type: 'uts' }]
  if (spec.network !== 'host') namespaces.push({ type: 'network', path: spec.network.path })
  namespaces.push(...shared('pid', spec.pid, f), ...shared('ipc', spec.ipc, f))
  if (f.cgroupV2 && !privileged) namespaces.push({ type: 'cgroup' })
  const useSeccomp = !privileged && spec.seccomp !== 'unconfined'
  return {
    ociVersion: '1.0.2',
    process,
    root: { path: 'rootfs', readonly: spec.readOnlyRootfs === true },
    ...(spec.hostname === undefined ? {} : { hostname: spec.hostname }),
    mounts: mounts(spec, f),
    linux: {
      namespaces,
      cgroupsPath: f.cgroupsPath,
      resources: { devices: privileged ? [{ allow: true, access: 'rwm' }] : DEVICE_RULES, ...ociResources(spec.resources ?? {}, f.cgroupV2) },
      sysctl: sysctls(spec, hostNetwork),
      ...(privileged ? { devices: hostDevices() } : { maskedPaths: MASKED, readonlyPaths: READONLY }),
      ...(useSeccomp ? { seccomp: defaultSeccomp(process.capabilities.bounding) } : {}),
      rootfsPropagation: rootPropagation(spec.mounts ?? []),
    },
    annotations: spec.group === undefined ? {} : { 'io.containerd.runc.v2.group': spec.group },
  }
}

function ociProcess(spec: ContainerSpec, f: SpecFacts): OciProcess {
  const env = [...f.env]
  if (spec.tty === true) addEnv(env, 'TERM=xterm')
  if (spec.hostname !== undefined) addEnv(env, `HOSTNAME=${spec.hostname}`)
  return process({
    args: f.args, env, cwd: f.cwd, user: f.user, tty: spec.tty === true,
    bounding: boundingSet({
      ...(spec.capAdd && { add: spec.capAdd }), ...(spec.capDrop && { drop: spec.capDrop }), privileged: spec.privileged === true,
    }),
    noNewPrivileges: spec.noNewPrivileges === true && spec.privileged !== true,
    ...(spec.resources?.oomScoreAdj === undefined ? {} : { oomScoreAdj: spec.resources.oomScoreAdj }),
  })
}

export interface ProcessWish {
  args: string[]
  env: string[]
  cwd: string
  user: ProcessUser
  tty: boolean
  bounding: string[]
  noNewPrivileges: boolean
  oomScoreAdj?: number
}

/** PATH and HOME are filled in; a process that is not root has its capabilities only within reach of set-uid files. */
export function process(w: ProcessWish): OciProcess {
  const env = [...w.env]
  addEnv(env, DEFAULT_PATH)
  addEnv(env, `HOME=${w.user.home}`)
  const held = w.user.uid === 0 ? w.bounding : []
  return {
    terminal: w.tty,
    user: { uid: w.user.uid, gid: w.user.gid, additionalGids: w.user.additionalGids },
    args: w.args,
    env,
    cwd: w.cwd,
    capabilities: { bounding: w.bounding, effective: held, permitted: held, inheritable: [], ambient: [] },
    noNewPrivileges: w.noNewPrivileges,
    ...(w.oomScoreAdj === undefined ? {} : { oomScoreAdj: w.oomScoreAdj }),
  }
}

/** Later entries win; a name without `=` is removed. */
export function mergeEnv(...lists: (string[] | undefined)[]): string[] {
  const merged = new Map<string, string>()
  for (const entry of lists.flatMap((l) => l ?? [])) {
    const eq = entry.indexOf('=')
    if (eq < 0) merged.delete(entry)
    else merged.set(entry.slice(0, eq), entry)
  }
  return [...merged.values()]
}

function addEnv(env: string[], entry: string): void {
  const name = entry.slice(0, entry.indexOf('=') + 1)
  if (!env.some((e) => e.startsWith(name))) env.push(entry)
}

function shared(type: 'pid' | 'ipc', wish: ContainerSpec['ipc'], f: SpecFacts): { type: string; path?: string }[] {
  if (wish === 'host') return []
  if (wish === undefined || wish === 'private' || wish === 'none') return [{ type }]
  return [{ type, path: `/proc/${f.pidOf(wish.container)}/ns/${type}` }]
}

function mounts(spec: ContainerSpec, f: SpecFacts): OciMount[] {
  const privileged = spec.privileged === true
  const ro = privileged ? 'rw' : 'ro'
  const defaults: OciMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    spec.network === 'host' && !privileged
      // A sysfs of a foreign network namespace cannot be mounted without owning it: show the machine's.
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', ro] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', ro] },
    ...(f.cgroupV2
      ? [{ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', ro] }]
      : []),
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    spec.ipc === 'host'
      ? { destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['rbind', 'nosuid', 'noexec', 'nodev', 'rw'] }
      : { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] },
  ]
  const own = (spec.mounts ?? []).map(ociMount)
  const taken = new Set(own.map((m) => m.destination))
  // Parents before children, so that none hides another.
  own.sort((a, b) => a.destination.split('/').length - b.destination.split('/').length)
  return [...defaults.filter((m) => !taken.has(m.destination)), ...own]
}

function ociMount(m: Mount): OciMount {
  if (!m.target.startsWith('/')) throw new EngineError('invalid', `invalid mount path: '${m.target}' mount path must be absolute`)
  const destination = m.target.length > 1 ? m.target.replace(/\/+$/, '') : m.target
  const access = m.readOnly === true ? 'ro' : 'rw'
  if (m.type === 'tmpfs') {
    const options = ['nosuid', 'nodev', access, `mode=${(m.mode ?? 0o1777).toString(8)}`]
    if (m.sizeBytes !== undefined) options.push(`size=${m.sizeBytes}`)
    return { destination, type: 'tmpfs', source: 'tmpfs', options }
  }
  if (m.source === undefined || !m.source.startsWith('/')) throw new EngineError('invalid', `the bind mount for ${m.target} lacks an absolute source`)
  return { destination, type: 'bind', source: m.source, options: ['rbind', m.propagation === undefined || m.propagation === 'private' ? 'rprivate' : m.propagation, access] }
}

/** A mount that shall receive or send events needs a root that lets them through. */
function rootPropagation(all: Mount[]): string {
  return all.some((m) => m.propagation === 'rshared') ? 'shared' : all.some((m) => m.propagation === 'rslave') ? 'rslave' : 'private'
}

let lowPorts: boolean | undefined

function sysctls(spec: ContainerSpec, hostNetwork: boolean): Record<string, string> {
  if (hostNetwork) return spec.sysctls ?? {}
  lowPorts ??= existsSync('/proc/sys/net/ipv4/ip_unprivileged_port_start')
  return { ...(lowPorts ? { 'net.ipv4.ip_unprivileged_port_start': '0' } : {}), ...spec.sysctls }
}

/**
 * `linux.resources` of what is set. Weights of cgroup v2 are made from shares by the runtime. There a memory limit is one of
 * memory alone, so that a container would swap instead of ending: with nothing said of swap it gets none. (Version 1 may be
 * built without accounts of swap, and fails if it is told of them.)
 */
export function ociResources(r: Resources, cgroupV2 = cgroups().v2): object {
  const swap = r.memorySwapBytes ?? (cgroupV2 ? r.memoryBytes : undefined)
  const cpu = {
    ...(r.cpuShares === undefined ? {} : { shares: r.cpuShares }),
    ...(r.cpuQuotaUs === undefined ? {} : { quota: r.cpuQuotaUs }),
    ...(r.cpuPeriodUs === undefined ? {} : { period: r.cpuPeriodUs }),
  }
  const memory = {
    ...(r.memoryBytes === undefined ? {} : { limit: r.memoryBytes }),
    ...(swap === undefined ? {} : { swap }),
  }
  return {
    ...(Object.keys(cpu).length === 0 ? {} : { cpu }),
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(r.pidsMax === undefined ? {} : { pids: { limit: r.pidsMax } }),
  }
}

/** All devices of the machine, for privileged containers; those that a container's /dev makes for itself excepted. */
function hostDevices(): Device[] {
  const out: Device[] = []
  const visit = (dir: string): void => {
    for (const name of readdirSync(dir)) {
      const path = `${dir}/${name}`
      if (['/dev/pts', '/dev/shm', '/dev/mqueue', '/dev/fd', '/dev/console'].includes(path)) continue
      const stat = lstatSync(path, { throwIfNoEntry: false })
      if (stat === undefined) continue
      if (stat.isDirectory()) visit(path)
      else if (stat.isCharacterDevice() || stat.isBlockDevice()) {
        // The kernel's split of a device number.
        const major = (stat.rdev >> 8) & 0xfff
        const minor = (stat.rdev & 0xff) | ((stat.rdev >> 12) & 0xfff00)
        out.push({ path, type: stat.isBlockDevice() ? 'b' : 'c', major, minor, fileMode: stat.mode & 0o777, uid: stat.uid, gid: stat.gid })
      }
    }
  }
  visit('/dev')
  return out
}
