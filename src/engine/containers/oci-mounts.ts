/** A container's mounts: those every container has, as dockerd makes them, and its own. */
import { release } from 'node:os'
import { EngineError } from '../engine.ts'
import type { ContainerSpec, Mount } from '../engine.ts'

export interface OciMount { destination: string; type: string; source: string; options: string[] }

/** Where a container with an init of ours finds it. */
export const INIT_PATH = '/sbin/docker-init'
const DEFAULT_SHM_BYTES = 64 << 20

export interface MountFacts {
  cgroupV2: boolean
  /** The machine's init for containers; undefined if it has none. */
  initPath?: string
  /** Directory of the machine that is this container's /dev/shm; a tmpfs of its own when left out. */
  shmPath?: string
}

export function ociMounts(spec: ContainerSpec, f: MountFacts): OciMount[] {
  const privileged = spec.privileged === true
  const access = privileged ? 'rw' : 'ro'
  const own = (spec.mounts ?? []).map(ociMount)
  if (spec.init === true) {
    if (f.initPath === undefined) throw new EngineError('failed', 'no init for containers on this machine: install the Debian package tini')
    own.push({ destination: INIT_PATH, type: 'bind', source: f.initPath, options: ['bind', 'ro'] })
  }
  const defaults: OciMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    spec.network === 'host' && !privileged
      // A sysfs of a foreign network namespace cannot be mounted without owning it: show the machine's.
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', access] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', access] },
    // The machine's /sys, bound as a whole, has them below it.
    ...(spec.network === 'host' && !privileged && !f.cgroupV2
      ? []
      : [{ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', ...(f.cgroupV2 ? ['relatime'] : []), access] }]),
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    ...sharedMemory(spec, f),
  ]
  const taken = new Set(own.map((m) => m.destination))
  // Parents before children, so that none hides another.
  own.sort((a, b) => depth(a) - depth(b))
  return [...defaults.filter((m) => !taken.has(m.destination)), ...own]
}

function depth(m: OciMount): number { return m.destination === '/' ? 0 : m.destination.split('/').length }

function sharedMemory(spec: ContainerSpec, f: MountFacts): OciMount[] {
  const destination = '/dev/shm'
  const bound = (source: string): OciMount[] => [{ destination, type: 'bind', source, options: ['rbind', 'nosuid', 'noexec', 'nodev', 'rw'] }]
  if (spec.ipc === 'host') return bound('/dev/shm')
  if (f.shmPath !== undefined) return bound(f.shmPath)
  if (spec.ipc === 'none') return []
  return [{ destination, type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${spec.shmSizeBytes ?? DEFAULT_SHM_BYTES}`] }]
}

function ociMount(m: Mount): OciMount {
  if (!m.target.startsWith('/')) throw new EngineError('invalid', `invalid mount path: '${m.target}' mount path must be absolute`)
  const destination = m.target.length > 1 ? m.target.replace(/\/+$/, '') : m.target
  if (m.type === 'tmpfs') {
    return {
      destination, type: 'tmpfs', source: 'tmpfs',
      options: [
        'nosuid', 'nodev', 'noexec', m.readOnly === true ? 'ro' : 'rw', `mode=${(m.mode ?? 0o1777).toString(8)}`,
        ...(m.sizeBytes === undefined ? [] : [`size=${m.sizeBytes}`]), ...m.options ?? [],
      ],
    }
  }
  if (m.source === undefined || !m.source.startsWith('/')) throw new EngineError('invalid', `the bind mount for ${m.target} lacks an absolute source`)
  const access = m.readOnly !== true ? 'rw' : m.recursiveReadOnly === true && recursiveReadOnly() ? 'rro' : 'ro'
  return { destination, type: 'bind', source: m.source, options: [m.nonRecursive === true ? 'bind' : 'rbind', m.propagation ?? 'rprivate', access] }
}

let recursive: boolean | undefined

/** Whether this kernel has mount_setattr(2), which makes all mounts below a bind read-only: 5.12. */
export function recursiveReadOnly(): boolean {
  if (recursive === undefined) {
    const [major = 0, minor = 0] = release().split('.').map(Number)
    recursive = major > 5 || (major === 5 && minor >= 12)
  }
  return recursive
}

/** A mount that shall receive or send events needs a root that lets them through. */
export function rootPropagation(all: Mount[]): string {
  const any = (...kinds: string[]): boolean => all.some((m) => m.propagation !== undefined && kinds.includes(m.propagation))
  return any('shared', 'rshared') ? 'shared' : any('slave', 'rslave') ? 'rslave' : 'private'
}
