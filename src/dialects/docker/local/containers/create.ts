/** Making a container: checks, defaults, mounts, snapshot, record. Nothing stays of one that could not be made. */
import { statSync } from 'node:fs'
import { hostname as machineName } from 'node:os'
import { CnmError } from '../../../../network/cnm/cnm.ts'
import { EngineError } from '../../../../engine/engine.ts'
import { DockerError } from '../../errors.ts'
import type { CreateContainer, EndpointSettings, HostConfig } from '../../model.ts'
import { commandLine, mergeImageConfig } from '../../shared/image-defaults.ts'
import { parseVolumesFrom, planMounts } from '../../shared/mounts.ts'
import type { PlannedMount } from '../../shared/mounts.ts'
import { checkName, newId, randomName, shortId } from '../../shared/names.ts'
import { parseNetworkMode } from '../../shared/network-mode.ts'
import { nowMs } from '../../shared/time.ts'
import { validateCreate } from '../../shared/validate.ts'
import { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'
import type { MachineFacts } from './host-facts.ts'
import { keepJoined } from './joined.ts'
import { checkLinks } from './links.ts'
import type { ContainerRecord } from './records.ts'
import { endpointSpec } from './sandbox.ts'
import { engineSpec } from './spec.ts'

const DEFAULT_SHM_BYTES = 64 << 20
export const DEFAULT_MASKED = [
  '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi',
  '/proc/timer_list', '/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware',
]
export const DEFAULT_READONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

export async function createContainer(x: Context, request: CreateContainer): Promise<{ Id: string; Warnings: string[] }> {
  if (request.config === undefined || request.config === null) throw new DockerError('invalid', 'config cannot be empty in order to create a container')
  const name = request.name === undefined || request.name === '' ? undefined : checkName(request.name)
  const hostConfig = withDefaults(request.hostConfig ?? {}, x.facts)
  const warnings = validateCreate({ ...request, hostConfig, endpoints: request.endpoints ?? {} }, x.facts)
  dropUnsupported(hostConfig, x.facts, warnings)
  const image = await x.image(request.config.Image ?? '')
  checkPlatform(request, image)
  const config = mergeImageConfig(request.config, image.config)
  if (commandLine(config).path === '') throw new DockerError('invalid', 'no command specified')
  const id = newId()
  config.Hostname ||= hostnameFor(hostConfig, id)
  checkLinks(x, hostConfig.Links)
  keepJoined(x, hostConfig)
  const mounts = planMounts(config, hostConfig, inheritedMounts(x, hostConfig))
  checkBindSources(mounts)
  const record: ContainerRecord = {
    id, name: name ?? randomName((n) => x.registry.hasName(n)), createdAtMs: nowMs(), imageId: image.id, platform: image.os, config, hostConfig,
    endpoints: endpointsFor(hostConfig, request.endpoints ?? {}), mounts, exitCode: 0, error: '', oomKilled: false, startedAtMs: 0, finishedAtMs: 0, exitSeenMs: 0,
    restartCount: 0, manuallyStopped: false,
  }
  const c = new Container(record)
  checkEndpoints(x, c)
  x.registry.reserve(record.name, id)
  try {
    await make(x, c)
  } catch (e) {
    x.registry.release(record.name)
    throw dockerError(e)
  }
  emit(x, c, 'create')
  return { Id: id, Warnings: warnings }
}

async function make(x: Context, c: Container): Promise<void> {
  const { id } = c
  const spec = engineSpec(c.record, { facts: x.facts, cgroupParent: x.cgroupParent, idOf: (ref) => x.registry.find(ref)?.id ?? ref })
  const made = await Promise.allSettled([x.engine.containers.create(spec), makeVolumes(x, c)])
  try {
    for (const m of made) if (m.status === 'rejected') throw m.reason
    for (const m of c.record.mounts) if (m.type === 'volume' && m.noCopy !== true && m.volume !== undefined) await copyUp(x, id, m.volume, m.target)
    x.records.saveNew(c.record)
    x.registry.add(c)
  } catch (e) {
    await x.records.delete(id)
    await Promise.allSettled([x.engine.containers.remove(id, true), releaseVolumes(x, c, true)])
    if (e instanceof EngineError && e.code === 'not-found' && e.message.startsWith('No such image')) {
      throw new DockerError('not-found', `No such image: ${c.record.config.Image}`)
    }
    throw e
  }
}

async function copyUp(x: Context, id: string, volume: string, target: string): Promise<void> {
  await x.engine.containers.withFolder(id, target, async (path) => { if (path !== undefined) await x.volumes.copyUp(volume, path) })
}

/** Volumes that are named are made if absent; the nameless get names. All are held for this container. */
async function makeVolumes(x: Context, c: Container): Promise<void> {
  for (const m of c.record.mounts) {
    if (m.type !== 'volume') continue
    const volume = await x.volumes.create({
      ...(m.volume === undefined ? {} : { name: m.volume }), ...(m.driver === undefined ? {} : { driver: m.driver }),
      ...(m.driverOptions === undefined ? {} : { options: m.driverOptions }), ...(m.labels === undefined ? {} : { labels: m.labels }), user: c.id,
    })
    m.volume = volume.name
    m.driver = volume.driver
    m.source = volume.mountpoint
    await x.volumes.reference(volume.name, c.id)
  }
}

/** With `anonymous` those made for this container go as well, unless others use them. */
export async function releaseVolumes(x: Context, c: Container, anonymous: boolean): Promise<void> {
  for (const m of c.record.mounts) {
    if (m.type !== 'volume' || m.volume === undefined) continue
    await x.volumes.release(m.volume, c.id)
    if (anonymous && m.anonymous === true && x.volumes.users(m.volume).length === 0) {
      await x.volumes.remove(m.volume, false).catch((e: unknown) => { x.logger.warn(`volume ${m.volume} stays`, { error: String(e) }) })
    }
  }
}

function withDefaults(h: HostConfig, facts: MachineFacts): HostConfig {
  const mode = h.NetworkMode
  return {
    ...h,
    NetworkMode: mode === undefined || mode === '' || mode === 'default' ? 'bridge' : mode,
    RestartPolicy: { Name: h.RestartPolicy?.Name || 'no', MaximumRetryCount: h.RestartPolicy?.MaximumRetryCount ?? 0 },
    LogConfig: { Type: h.LogConfig?.Type || 'json-file', Config: h.LogConfig?.Config ?? {} },
    IpcMode: h.IpcMode || 'private',
    CgroupnsMode: h.CgroupnsMode || (facts.cgroupV2 && h.Privileged !== true ? 'private' : 'host'),
    ShmSize: h.ShmSize || DEFAULT_SHM_BYTES,
    Runtime: h.Runtime || 'runc',
    MaskedPaths: h.MaskedPaths ?? (h.Privileged === true ? null : DEFAULT_MASKED),
    ReadonlyPaths: h.ReadonlyPaths ?? (h.Privileged === true ? null : DEFAULT_READONLY),
  }
}

/** What this kernel cannot do is dropped with a warning, as dockerd does. */
function dropUnsupported(h: HostConfig, facts: MachineFacts, warnings: string[]): void {
  if ((h.Memory ?? 0) > 0) {
    if (facts.swapLimit) h.MemorySwap ||= h.Memory! * 2
    else if (h.MemorySwap !== -1) {
      warnings.push('Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.')
      h.MemorySwap = -1
    }
  }
  if ((h.BlkioWeight ?? 0) > 0 && !facts.blkioWeight) {
    warnings.push('Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.')
    h.BlkioWeight = 0
  }
  if (!facts.cgroupV2) return
  if (h.MemorySwappiness != null && h.MemorySwappiness !== -1) {
    warnings.push('Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.')
    h.MemorySwappiness = null
  }
  if (h.OomKillDisable === true) warnings.push('Your kernel does not support OomKillDisable. OomKillDisable discarded.')
  h.OomKillDisable = null
}

function checkPlatform(request: CreateContainer, image: { os: string; architecture: string }): void {
  if (request.platform === undefined || request.platform === '') return
  const [os = '', architecture] = request.platform.split('/')
  if ((architecture === undefined && [image.os, image.architecture].includes(os)) || (os === image.os && architecture === image.architecture)) return
  throw new DockerError('not-found', `image with reference ${request.config.Image} was found but does not provide the specified platform (${request.platform})`)
}

function hostnameFor(h: HostConfig, id: string): string {
  if (parseNetworkMode(h.NetworkMode).kind === 'host' || h.UTSMode === 'host') return machineName()
  return parseNetworkMode(h.NetworkMode).kind === 'container' ? '' : shortId(id)
}

function inheritedMounts(x: Context, h: HostConfig): PlannedMount[] {
  const out = new Map<string, PlannedMount>()
  for (const text of h.VolumesFrom ?? []) {
    const { container, mode } = parseVolumesFrom(text)
    for (const m of x.registry.resolve(container).record.mounts) {
      if (m.type === 'tmpfs') continue
      const { anonymous: _, structured: __, ...rest } = m
      out.set(m.target, { ...rest, readOnly: m.readOnly || mode.split(',').includes('ro') })
    }
  }
  return [...out.values()]
}

function checkBindSources(mounts: PlannedMount[]): void {
  for (const m of mounts) {
    if (m.type !== 'bind' || m.createSource === true || m.structured !== true) continue
    if (statSync(m.source!, { throwIfNoEntry: false }) === undefined) {
      throw new DockerError('invalid', `invalid mount config for type "bind": bind source path does not exist: ${m.source}`)
    }
  }
}

/** The network of NetworkMode is one of the endpoints, whatever it is called there. */
function endpointsFor(h: HostConfig, given: Record<string, EndpointSettings>): Record<string, EndpointSettings> {
  const mode = parseNetworkMode(h.NetworkMode)
  if (mode.kind === 'container') return {}
  const out: Record<string, EndpointSettings> = {}
  for (const [name, settings] of Object.entries(given)) out[name === 'default' ? 'bridge' : name] = settings ?? {}
  out[mode.name] ??= {}
  return out
}

/** Wishes for networks that exist are checked now; one that does not may come before the start. */
function checkEndpoints(x: Context, c: Container): void {
  const keys = Object.keys(c.record.endpoints)
  for (const key of keys) {
    try {
      const network = x.cnm.find(key)
      // By its name from now on, however it was called.
      if (network.name !== key) {
        c.record.endpoints[network.name] = c.record.endpoints[key]!
        delete c.record.endpoints[key]
      }
      x.cnm.checkEndpoint(network.id, endpointSpec(x, c, network.name, c.record.endpoints[network.name]!))
    } catch (e) {
      if (!(e instanceof CnmError && e.code === 'not-found')) throw dockerError(e)
    }
  }
}

