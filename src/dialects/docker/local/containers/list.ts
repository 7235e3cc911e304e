/** `docker ps`: prepared rows; what a listing makes anew is the text of the status. */
import type { ContainersBackend, Filters } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import type { ContainerSummary, Port } from '../../model.ts'
import { labelsMatch, matcher } from '../../shared/filters.ts'
import { commandLine } from '../../shared/image-defaults.ts'
import { parsePort } from '../../shared/ports.ts'
import { statusText } from '../../shared/status-text.ts'
import type { Container } from './container.ts'
import type { Context } from './context.ts'
import { endpointSettings, mountPoints } from './inspect.ts'

const STATUSES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead']

export async function listContainers(x: Context, options: Parameters<ContainersBackend['list']>[0]): Promise<ContainerSummary[]> {
  const { filters } = options
  const included = await inclusion(x, filters)
  const all = options.all || (filters['status']?.length ?? 0) > 0 || (options.limit ?? 0) > 0
  const limit = (options.limit ?? 0) > 0 ? options.limit! : Infinity
  const now = Date.now()
  const out: ContainerSummary[] = []
  const newestFirst = [...x.registry.all()].sort((a, b) => b.record.createdAtMs - a.record.createdAtMs)
  for (const c of newestFirst) {
    if ((!all && !c.running) || !included(c)) continue
    const row: ContainerSummary = { ...rowOf(x, c), Status: statusText(c.facts, now) }
    if (options.size) {
      const { writableBytes, rootBytes } = await x.engine.containers.sizes(c.id)
      Object.assign(row, { SizeRw: writableBytes, SizeRootFs: rootBytes })
    }
    out.push(row)
    if (out.length >= limit) break
  }
  return out
}

function rowOf(x: Context, c: Container): ContainerSummary {
  const { config, hostConfig, imageId, createdAtMs } = c.record
  c.row ??= {
    Id: c.id,
    Names: [`/${c.name}`],
    Image: config.Image ?? '',
    ImageID: imageId,
    Command: commandText(c),
    Created: Math.floor(createdAtMs / 1000),
    Ports: ports(x, c),
    Labels: config.Labels ?? {},
    State: c.status,
    Status: '',
    HostConfig: { NetworkMode: hostConfig.NetworkMode ?? 'default', ...(hostConfig.Annotations == null ? {} : { Annotations: hostConfig.Annotations }) },
    NetworkSettings: { Networks: endpointSettings(x, c) },
    Mounts: mountPoints(c),
  }
  return c.row
}

function commandText(c: Container): string {
  const { path, args } = commandLine(c.record.config)
  return [path, ...args.map((a) => (a.includes(' ') ? `'${a}'` : a))].join(' ')
}

/** While it runs: what is published, and what is exposed alone. */
export function ports(x: Context, c: Container): Port[] {
  if (!c.alive) return []
  const sandbox = x.cnm.sandbox(c.id)
  if (sandbox === undefined) return []
  const out: Port[] = []
  const published = new Set<string>()
  for (const p of sandbox.ports) {
    published.add(`${p.containerPort}/${p.protocol}`)
    out.push({ IP: p.hostIP, PrivatePort: p.containerPort, PublicPort: p.hostPort, Type: p.protocol })
  }
  for (const key of Object.keys(c.record.config.ExposedPorts ?? {})) {
    const range = parsePort(key)
    if (range === undefined) continue
    for (let n = range.first; n <= range.last; n++) if (!published.has(`${n}/${range.protocol}`)) out.push({ PrivatePort: n, Type: range.protocol })
  }
  return out
}

/** A test made of all filters. */
async function inclusion(x: Context, filters: Filters): Promise<(c: Container) => boolean> {
  const tests: ((c: Container) => boolean)[] = []
  const values = (key: string): string[] => filters[key] ?? []
  const when = (key: string, test: (v: string[]) => (c: Container) => boolean): void => {
    if (values(key).length > 0) tests.push(test(values(key)))
  }
  when('status', (v) => {
    for (const s of v) if (!STATUSES.includes(s)) throw new DockerError('invalid', `invalid filter 'status=${s}'`)
    return (c) => v.includes(c.status)
  })
  when('exited', (v) => {
    const codes = v.map((code) => {
      if (!/^-?\d+$/.test(code)) throw new DockerError('invalid', `invalid filter 'exited=${code}'`)
      return Number(code)
    })
    return (c) => !c.running && c.record.startedAtMs !== 0 && codes.includes(c.record.exitCode)
  })
  when('health', (v) => {
    for (const s of v) if (!['none', 'starting', 'healthy', 'unhealthy'].includes(s)) throw new DockerError('invalid', `invalid filter 'health=${s}'`)
    return (c) => v.includes(c.health?.status ?? 'none')
  })
  when('before', (v) => {
    const limits = v.map((ref) => x.registry.resolve(ref).record.createdAtMs)
    return (c) => limits.every((t) => c.record.createdAtMs < t)
  })
  when('since', (v) => {
    const limits = v.map((ref) => x.registry.resolve(ref).record.createdAtMs)
    return (c) => limits.every((t) => c.record.createdAtMs > t)
  })
  when('label', (v) => (c) => labelsMatch(v, c.record.config.Labels))
  when('name', (v) => {
    const matches = matcher(v)!
    return (c) => matches(`/${c.name}`) || matches(c.name)
  })
  when('id', (v) => {
    const matches = matcher(v)!
    return (c) => matches(c.id)
  })
  when('network', (v) => {
    const wanted = new Set(v)
    for (const ref of v) {
      try {
        wanted.add(x.cnm.find(ref).name)
      } catch { /* no such network: nothing is on it */ }
    }
    return (c) => Object.entries(c.record.endpoints).some(([name, e]) => wanted.has(name) || wanted.has(e.NetworkID ?? name))
  })
  when('volume', (v) => (c) => c.record.mounts.some((m) => v.some((w) => w === m.volume || w === m.target || w === m.source)))
  when('isolation', (v) => () => v.includes('default'))
  when('is-task', (v) => {
    for (const s of v) if (!['true', 'false', '1', '0'].includes(s)) throw new DockerError('invalid', `invalid filter 'is-task=${s}'`)
    return () => v.some((s) => s === 'false' || s === '0')
  })
  for (const key of ['publish', 'expose'] as const) {
    when(key, (v) => {
      const wanted = new Set(v.flatMap((text) => {
        const range = parsePort(text)
        if (range === undefined) throw new DockerError('invalid', `invalid ${key} filter: invalid port: ${text}`)
        return Array.from({ length: range.last - range.first + 1 }, (_, i) => `${range.first + i}/${range.protocol}`)
      }))
      return key === 'expose'
        ? (c) => Object.keys(c.record.config.ExposedPorts ?? {}).some((p) => wanted.has(p.includes('/') ? p : `${p}/tcp`))
        : (c) => ports(x, c).some((p) => p.PublicPort !== undefined && wanted.has(`${p.PrivatePort}/${p.Type}`))
          || Object.keys(c.record.hostConfig.PortBindings ?? {}).some((p) => wanted.has(p.includes('/') ? p : `${p}/tcp`))
    })
  }
  const images = values('ancestor')
  if (images.length > 0) {
    const ids = await ancestry(x, images)
    tests.push((c) => ids.has(c.record.imageId) || images.includes(c.record.config.Image ?? ''))
  }
  return (c) => tests.every((t) => t(c))
}

/** Of all images in use, those that are one of `refs` or grew from one. */
async function ancestry(x: Context, refs: string[]): Promise<Set<string>> {
  const wanted = new Set<string>()
  for (const ref of refs) await x.image(ref).then((i) => wanted.add(i.id), () => undefined)
  const out = new Set(wanted)
  for (const id of new Set([...x.registry.all()].map((c) => c.record.imageId))) {
    const chain: string[] = []
    for (let at = id; at !== '' && chain.length < 200; at = await x.image(at).then((i) => i.parent, () => '')) {
      if (out.has(at)) { for (const member of [at, ...chain]) out.add(member); break }
      chain.push(at)
    }
  }
  return out
}
