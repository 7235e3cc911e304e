/** A container's OCI runtime configuration: complete, and no more than runc or crun need. */
import { existsSync, readdirSync } from 'node:fs'
import { EngineError } from '../engine.ts'
import type { ContainerSpec } from '../engine.ts'
import { boundingSet } from './capabilities.ts'
import { allDevices, DEFAULT_RULES, parseRule, wantedDevices } from './devices.ts'
import { INIT_PATH, ociMounts, rootPropagation } from './oci-mounts.ts'
import { ociResources } from './oci-resources.ts'
import { customSeccomp, defaultSeccomp } from './seccomp.ts'
import type { Seccomp } from './seccomp.ts'
import type { ProcessUser } from './users.ts'

export interface OciProcess {
  terminal: boolean
  consoleSize?: { height: number; width: number }
  user: { uid: number; gid: number; additionalGids: number[] }
  args: string[]
  env: string[]
  cwd: string
  capabilities: Record<'bounding' | 'effective' | 'permitted' | 'inheritable' | 'ambient', string[]>
  rlimits?: { type: string; soft: unknown; hard: unknown }[]
  noNewPrivileges: boolean
  oomScoreAdj?: number
}

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
  /** The machine's init for containers. */
  initPath?: string
  /** Directory of the machine that is the container's /dev/shm. */
  shmPath?: string
}

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const MASKED = [
  '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi',
  '/proc/timer_list', '/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware',
]
const READONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

export function ociSpec(spec: ContainerSpec, f: SpecFacts): object {
  const privileged = spec.privileged === true
  const process = containerProcess(spec, f)
  const wanted = wantedDevices(spec.devices ?? [])
  const ownUts = spec.uts !== 'host'
  const seccomp = seccompOf(spec, process.capabilities.bounding)
  return {
    ociVersion: '1.0.2',
    process,
    root: { path: 'rootfs', readonly: spec.readOnlyRootfs === true },
    ...(spec.hostname === undefined || !ownUts ? {} : { hostname: spec.hostname }),
    mounts: ociMounts(spec, f),
    linux: {
      namespaces: namespaces(spec, f),
      cgroupsPath: f.cgroupsPath,
      resources: {
        devices: privileged
          ? [{ allow: true, access: 'rwm' }]
          : [...DEFAULT_RULES, ...wanted.rules, ...(spec.resources?.deviceRules ?? []).map(parseRule)],
        ...ociResources(spec.resources ?? {}),
      },
      sysctl: sysctls(spec, ownUts),
      ...deviceNodes(privileged ? [...allDevices(), ...wanted.devices] : wanted.devices),
      maskedPaths: spec.maskedPaths ?? (privileged ? [] : masked()),
      readonlyPaths: spec.readonlyPaths ?? (privileged ? [] : READONLY),
      ...(seccomp === undefined ? {} : { seccomp }),
      rootfsPropagation: rootPropagation(spec.mounts ?? []),
    },
    annotations: { ...spec.annotations, ...(spec.group === undefined ? {} : { 'io.containerd.runc.v2.group': spec.group }) },
  }
}

/** One node a path: the last wish wins. */
function deviceNodes(list: { path: string }[]): { devices?: object[] } {
  return list.length === 0 ? {} : { devices: [...new Map(list.map((d) => [d.path, d])).values()] }
}

function seccompOf(spec: ContainerSpec, capabilities: string[]): Seccomp | undefined {
  if (typeof spec.seccomp === 'object') return customSeccomp(spec.seccomp.profile, capabilities)
  return spec.privileged === true || spec.seccomp === 'unconfined' ? undefined : defaultSeccomp(capabilities)
}

function containerProcess(spec: ContainerSpec, f: SpecFacts): OciProcess {
  const env = [...f.env]
  if (spec.tty === true) addEnv(env, 'TERM=xterm')
  if (spec.hostname !== undefined) addEnv(env, `HOSTNAME=${spec.hostname}`)
  return ociProcess({
    args: spec.init === true ? [INIT_PATH, '--', ...f.args] : f.args, env, cwd: f.cwd, user: f.user, tty: spec.tty === true,
    ...(spec.consoleSize === undefined ? {} : { consoleSize: spec.consoleSize }),
    ...processLimits(spec, false),
    ...(spec.resources?.oomScoreAdj === undefined ? {} : { oomScoreAdj: spec.resources.oomScoreAdj }),
  })
}

/** What a container's first process and those run in it later have in common. */
export function processLimits(spec: ContainerSpec, privileged: boolean): Pick<ProcessWish, 'bounding' | 'noNewPrivileges' | 'rlimits'> {
  return {
    bounding: boundingSet({
      ...(spec.capAdd && { add: spec.capAdd }), ...(spec.capDrop && { drop: spec.capDrop }), privileged: privileged || spec.privileged === true,
    }),
    noNewPrivileges: spec.noNewPrivileges === true,
    rlimits: (spec.ulimits ?? []).map((u) => ({ type: `RLIMIT_${u.name.toUpperCase()}`, soft: limit(u.soft), hard: limit(u.hard) })),
  }
}

/** No limit is the largest number of 64 bits, which JSON made of a JavaScript number cannot hold. */
function limit(value: number): unknown {
  return value < 0 ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON('18446744073709551615') : value
}

export interface ProcessWish {
  args: string[]
  env: string[]
  cwd: string
  user: ProcessUser
  tty: boolean
  consoleSize?: { rows: number; columns: number }
  bounding: string[]
  noNewPrivileges: boolean
  rlimits: NonNullable<OciProcess['rlimits']>
  oomScoreAdj?: number
}

/** PATH and HOME are filled in; a process that is not root has its capabilities only within reach of set-uid files. */
export function ociProcess(w: ProcessWish): OciProcess {
  const env = [...w.env]
  addEnv(env, DEFAULT_PATH)
  addEnv(env, `HOME=${w.user.home}`)
  const held = w.user.uid === 0 ? w.bounding : []
  return {
    terminal: w.tty,
    ...(w.consoleSize === undefined || !w.tty ? {} : { consoleSize: { height: w.consoleSize.rows, width: w.consoleSize.columns } }),
    user: { uid: w.user.uid, gid: w.user.gid, additionalGids: w.user.additionalGids },
    args: w.args,
    env,
    cwd: w.cwd,
    capabilities: { bounding: w.bounding, effective: held, permitted: held, inheritable: [], ambient: [] },
    ...(w.rlimits.length === 0 ? {} : { rlimits: w.rlimits }),
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

function namespaces(spec: ContainerSpec, f: SpecFacts): { type: string; path?: string }[] {
  const shared = (type: 'pid' | 'ipc', wish: ContainerSpec['ipc']): { type: string; path?: string }[] => {
    if (wish === 'host') return []
    return typeof wish === 'object' ? [{ type, path: `/proc/${f.pidOf(wish.container)}/ns/${type}` }] : [{ type }]
  }
  const cgroup = spec.cgroupNamespace ?? (f.cgroupV2 && spec.privileged !== true ? 'private' : 'host')
  return [
    { type: 'mount' },
    ...(spec.uts === 'host' ? [] : [{ type: 'uts' }]),
    ...(spec.network === 'host' ? [] : [{ type: 'network', path: spec.network.path }]),
    ...shared('pid', spec.pid),
    ...shared('ipc', spec.ipc),
    ...(cgroup === 'private' ? [{ type: 'cgroup' }] : []),
  ]
}

let thermal: string[] | undefined

/** With the files of this machine's processors that tell of the neighbours' load. */
function masked(): string[] {
  if (thermal === undefined) {
    const dir = '/sys/devices/system/cpu'
    thermal = (existsSync(dir) ? readdirSync(dir) : []).filter((n) => /^cpu\d+$/.test(n)).map((n) => `${dir}/${n}/thermal_throttle`).filter(existsSync)
  }
  return [...MASKED, ...thermal]
}

let networkDefaults: Record<string, string> | undefined

/** In a network of its own a container may listen on every port and ping without further rights. */
function sysctls(spec: ContainerSpec, ownUts: boolean): Record<string, string> {
  networkDefaults ??= Object.fromEntries(Object.entries({ 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' })
    .filter(([name]) => existsSync(`/proc/sys/${name.replaceAll('.', '/')}`)))
  for (const name of Object.keys(spec.sysctls ?? {})) {
    if (spec.network === 'host' && name.startsWith('net.')) throw new EngineError('invalid', `sysctl '${name}' not allowed in host network namespace`)
  }
  return {
    ...(spec.network === 'host' ? {} : networkDefaults),
    // runc before 1.2 has no field for it.
    ...(spec.domainname !== undefined && spec.domainname !== '' && ownUts ? { 'kernel.domainname': spec.domainname } : {}),
    ...spec.sysctls,
  }
}
