/** Docker's configuration of a container → the engine's spec. */
import { readFileSync } from 'node:fs'
import type { ContainerSpec, Mount, Resources } from '../../../../engine/engine.ts'
import { DockerError } from '../../errors.ts'
import type { HostConfig, HostResources } from '../../model.ts'
import { sharedContainer } from '../../shared/network-mode.ts'
import { normalizeCapabilities, parseSecurityOptions } from '../../shared/security.ts'
import { logBytes } from '../../shared/validate.ts'
import type { MachineFacts } from './host-facts.ts'
import type { ContainerRecord } from './records.ts'

/** On engine containers of this backend; others (a cluster's Pods) are none of its business. */
export const DOCKER_LABEL = 'gantry.io/docker'

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const MAX_PROFILE_BYTES = 4 << 20

export interface SpecDeps {
  facts: MachineFacts
  cgroupParent: string
  /** Full id of a container somebody named. */
  idOf(ref: string): string
}

/** Everything that is known when the container is made; network, mounts and links come with its start. */
export function engineSpec(r: ContainerRecord, deps: SpecDeps): ContainerSpec {
  const { config: c, hostConfig: h } = r
  const security = parseSecurityOptions(h.SecurityOpt ?? [])
  const spec: ContainerSpec = {
    id: r.id,
    image: r.imageId,
    noImageDefaults: true,
    labels: { [DOCKER_LABEL]: r.id },
    entrypoint: c.Entrypoint ?? [],
    args: c.Cmd ?? [],
    env: environment(r, []),
    workingDir: c.WorkingDir || '/',
    user: c.User ?? '',
    tty: c.Tty === true,
    stdin: c.OpenStdin === true,
    stdinOnce: c.StdinOnce === true,
    network: 'host',
    pid: namespace(h.PidMode, deps) ?? 'private',
    ipc: h.IpcMode === 'none' ? 'none' : namespace(h.IpcMode, deps) ?? 'private',
    uts: h.UTSMode === 'host' ? 'host' : 'private',
    cgroupNamespace: h.CgroupnsMode === 'host' || !deps.facts.cgroupV2 ? 'host' : 'private',
    cgroupParent: h.CgroupParent !== undefined && h.CgroupParent !== '' ? absoluteCgroup(h.CgroupParent, deps.cgroupParent) : deps.cgroupParent,
    resources: engineResources(h, deps.facts),
    privileged: h.Privileged === true,
    capAdd: normalizeCapabilities(h.CapAdd),
    capDrop: normalizeCapabilities(h.CapDrop),
    noNewPrivileges: security.noNewPrivileges,
    seccomp: seccomp(security.seccomp),
    readOnlyRootfs: h.ReadonlyRootfs === true,
    log: logConfig(r),
    runtime: h.Runtime === 'crun' ? 'crun' : 'runc',
  }
  Object.assign(spec, hostNames(r))
  if (h.ConsoleSize !== undefined && h.ConsoleSize[0] > 0) spec.consoleSize = { rows: h.ConsoleSize[0], columns: h.ConsoleSize[1] }
  if ((h.GroupAdd?.length ?? 0) > 0) spec.additionalGroups = h.GroupAdd!
  if (h.ShmSize !== undefined && h.ShmSize > 0) spec.shmSizeBytes = h.ShmSize
  if ((h.Devices?.length ?? 0) > 0) {
    spec.devices = h.Devices!.map((d) => ({
      hostPath: d.PathOnHost, containerPath: d.PathInContainer || d.PathOnHost, permissions: d.CgroupPermissions || 'rwm',
    }))
  }
  if ((h.Ulimits?.length ?? 0) > 0) spec.ulimits = h.Ulimits!.map((u) => ({ name: u.Name, soft: u.Soft, hard: u.Hard }))
  if (h.MaskedPaths != null) spec.maskedPaths = h.MaskedPaths
  if (h.ReadonlyPaths != null) spec.readonlyPaths = h.ReadonlyPaths
  if (h.Init === true) spec.init = true
  if (h.Annotations != null && Object.keys(h.Annotations).length > 0) spec.annotations = h.Annotations
  if (h.Sysctls != null && Object.keys(h.Sysctls).length > 0) spec.sysctls = h.Sysctls
  if (c.StopSignal !== undefined && c.StopSignal !== '') spec.stopSignal = c.StopSignal
  return spec
}

export function hostNames({ config, hostConfig }: ContainerRecord): Pick<ContainerSpec, 'hostname' | 'domainname'> {
  return {
    ...(hostConfig.UTSMode !== 'host' && config.Hostname ? { hostname: config.Hostname } : {}), ...(config.Domainname ? { domainname: config.Domainname } : {}),
  }
}

/** PATH, HOSTNAME, TERM, links' variables, then the container's own, which win in place; a name alone takes its variable away. */
export function environment(r: ContainerRecord, links: string[]): string[] {
  const { config: c } = r
  const all = [PATH, `HOSTNAME=${c.Hostname ?? ''}`, ...(c.Tty === true ? ['TERM=xterm'] : []), ...links]
  const at = new Map(all.map((e, i) => [e.slice(0, e.indexOf('=')), i]))
  const out: (string | undefined)[] = [...all]
  for (const entry of c.Env ?? []) {
    const eq = entry.indexOf('=')
    const name = eq < 0 ? entry : entry.slice(0, eq)
    const index = at.get(name)
    if (eq < 0) {
      if (index !== undefined) out[index] = undefined
      at.delete(name)
    } else if (index === undefined) {
      at.set(name, out.push(entry) - 1)
    } else {
      out[index] = entry
    }
  }
  return out.filter((e) => e !== undefined)
}

function namespace(mode: string | undefined, deps: SpecDeps): 'host' | { container: string } | undefined {
  if (mode === 'host') return 'host'
  const ref = sharedContainer(mode)
  return ref === undefined ? undefined : { container: deps.idOf(ref) }
}

function absoluteCgroup(parent: string, root: string): string { return parent.startsWith('/') ? parent : `${root}/${parent}` }

function seccomp(profile: string | undefined): NonNullable<ContainerSpec['seccomp']> {
  if (profile === undefined || profile === 'builtin') return 'default'
  if (profile === 'unconfined') return 'unconfined'
  if (profile.trimStart().startsWith('{')) return { profile: checkProfile(profile) }
  // The CLI sends the text; a bare name is a file of the daemon's machine.
  try {
    const text = readFileSync(profile, 'utf8')
    if (text.length > MAX_PROFILE_BYTES) throw new Error('it is too large')
    return { profile: checkProfile(text) }
  } catch (e) {
    throw new DockerError('invalid', `opening seccomp profile (${profile}) failed: ${(e as Error).message}`)
  }
}

function checkProfile(text: string): string {
  try {
    JSON.parse(text)
    return text
  } catch (e) {
    throw new DockerError('invalid', `Decoding seccomp profile failed: ${(e as Error).message}`)
  }
}

/** `docker update` sends only what changes: fields that are left out stay away here too. */
export function engineResources(h: HostResources & Pick<HostConfig, 'OomScoreAdj'>, facts: MachineFacts): Resources {
  const out: Resources = {}
  const set = <K extends keyof Resources>(key: K, value: Resources[K] | null | undefined): void => {
    if (value !== undefined && value !== null && value !== 0 && value !== '') out[key] = value
  }
  set('cpuShares', h.CpuShares)
  if ((h.NanoCpus ?? 0) > 0) {
    out.cpuPeriodUs = 100_000
    out.cpuQuotaUs = Math.floor(h.NanoCpus! * 100_000 / 1e9)
  } else {
    set('cpuPeriodUs', h.CpuPeriod)
    set('cpuQuotaUs', h.CpuQuota)
  }
  set('memoryBytes', h.Memory)
  if (facts.swapLimit) set('memorySwapBytes', h.MemorySwap)
  set('memoryReservationBytes', h.MemoryReservation)
  if (h.MemorySwappiness != null && h.MemorySwappiness >= 0 && !facts.cgroupV2) out.memorySwappiness = h.MemorySwappiness
  if (h.OomKillDisable === true && !facts.cgroupV2) out.oomKillDisable = true
  if (h.PidsLimit != null && h.PidsLimit !== 0) out.pidsMax = h.PidsLimit
  set('oomScoreAdj', h.OomScoreAdj)
  set('cpusetCpus', h.CpusetCpus)
  set('cpusetMems', h.CpusetMems)
  set('cpuRealtimePeriodUs', h.CpuRealtimePeriod)
  set('cpuRealtimeRuntimeUs', h.CpuRealtimeRuntime)
  set('blkioWeight', h.BlkioWeight)
  const rates = (list: { Path: string; Rate: number }[] | null | undefined): { path: string; rate: number }[] | undefined =>
    list == null || list.length === 0 ? undefined : list.map((d) => ({ path: d.Path, rate: d.Rate }))
  set('blkioReadBps', rates(h.BlkioDeviceReadBps))
  set('blkioWriteBps', rates(h.BlkioDeviceWriteBps))
  set('blkioReadIops', rates(h.BlkioDeviceReadIOps))
  set('blkioWriteIops', rates(h.BlkioDeviceWriteIOps))
  if ((h.BlkioWeightDevice?.length ?? 0) > 0) out.blkioWeightDevices = h.BlkioWeightDevice!.map((d) => ({ path: d.Path, weight: d.Weight }))
  if ((h.DeviceCgroupRules?.length ?? 0) > 0) out.deviceRules = h.DeviceCgroupRules!
  return out
}

function logConfig(r: ContainerRecord): NonNullable<ContainerSpec['log']> {
  const { Type: type = 'json-file', Config: options } = r.hostConfig.LogConfig ?? {}
  const maxBytes = options?.['max-size'] === undefined ? undefined : logBytes(options['max-size'])
  const limits = {
    ...(maxBytes === undefined || maxBytes <= 0 ? {} : { maxBytes }),
    ...(options?.['max-file'] === undefined ? {} : { maxFiles: Number(options['max-file']) }),
  }
  if (type === 'none') return { driver: 'none' }
  if (type === 'syslog' || type === 'fluentd') return { driver: type, ...limits, options: { ...options, 'container-name': `/${r.name}`, tag: logTag(r, options?.['tag']) } }
  return { driver: 'local', ...limits }
}

/** The fields of a log tag's template that Docker documents. */
function logTag(r: ContainerRecord, template = '{{.ID}}'): string {
  const image = r.config.Image ?? ''
  const values: Record<string, string> = {
    ID: r.id.slice(0, 12), FullID: r.id, Name: r.name, ImageID: r.imageId.replace('sha256:', '').slice(0, 12), ImageFullID: r.imageId, ImageName: image,
    DaemonName: 'docker',
  }
  return template.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (whole, key: string) => values[key] ?? whole)
}

/** What only a start knows. `volumePaths`: host path of each volume mount, in the order of `mounts`. */
export function engineMounts(r: ContainerRecord, volumePaths: (string | undefined)[], files: { source: string; target: string }[]): Mount[] {
  const rootReadOnly = r.hostConfig.ReadonlyRootfs === true
  const taken = new Set(r.mounts.map((m) => m.target))
  const out: Mount[] = files.filter((f) => !taken.has(f.target))
    .map((f) => ({ type: 'bind', source: f.source, target: f.target, readOnly: rootReadOnly, propagation: 'rprivate' }))
  for (const [i, m] of r.mounts.entries()) {
    if (m.type === 'tmpfs') {
      out.push({ type: 'tmpfs', target: m.target, readOnly: m.readOnly, ...m.tmpfs })
      continue
    }
    out.push({
      type: 'bind', source: m.type === 'volume' ? volumePaths[i]! : m.source!, target: m.target, readOnly: m.readOnly,
      propagation: (m.propagation || 'rprivate') as NonNullable<Mount['propagation']>,
      ...(m.nonRecursive === true ? { nonRecursive: true } : {}),
      ...(m.readOnly && m.type === 'bind' && m.readOnlyNonRecursive !== true ? { recursiveReadOnly: true } : {}),
    })
  }
  return out
}
