/** Where a container's mounts come from: binds in text, structured mounts, volumes of the image, tmpfs. Texts of errors are dockerd's. */
import { posix } from 'node:path'
import { DockerError } from '../errors.ts'
import type { ContainerConfig, HostConfig, MountSpec, StringMap } from '../model.ts'

/** One mount of a container, kept in its record. */
export interface PlannedMount {
  type: 'bind' | 'volume' | 'tmpfs'
  target: string
  /** Host path of a bind. */
  source?: string
  /** Volume's name; undefined until an anonymous one is made. */
  volume?: string
  driver?: string
  driverOptions?: StringMap
  labels?: StringMap
  subpath?: string
  readOnly: boolean
  /** Made for this container: `rm -v` removes it. */
  anonymous?: boolean
  noCopy?: boolean
  propagation: string
  /** As `inspect` shows it: the options of a bind's text. */
  mode: string
  /** A missing source is made. */
  createSource?: boolean
  nonRecursive?: boolean
  /** Read-only at the top alone. */
  readOnlyNonRecursive?: boolean
  tmpfs?: { sizeBytes?: number; mode?: number; options: string[] }
  /** From HostConfig.Mounts: shown with less. */
  structured?: boolean
}

const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave']
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/

const invalid = (message: string): DockerError => new DockerError('invalid', message)
const invalidSpec = (raw: string): DockerError => invalid(`invalid volume specification: '${raw}'`)

/** `[SOURCE:]TARGET[:OPTIONS]`; `driver` is HostConfig.VolumeDriver. */
export function parseBind(raw: string, driver = ''): PlannedMount {
  const parts = raw.split(':')
  if (parts.length > 3 || parts[0] === '') throw invalidSpec(raw)
  let source = ''
  let target: string
  let mode = ''
  if (parts.length === 1) target = parts[0]!
  else if (parts.length === 2 && isMode(parts[1]!)) [target, mode] = [parts[0]!, parts[1]!]
  else [source, target, mode] = [parts[0]!, parts[1]!, parts[2] ?? '']
  if (mode !== '' && !isMode(mode)) throw invalid(`invalid mode: ${mode}`)
  if (parts.length === 3 && mode === '') throw invalidSpec(raw)
  checkTarget(target, `invalid volume specification: '${raw}'`)
  const options = mode === '' ? [] : mode.split(',')
  const propagation = options.find((o) => PROPAGATIONS.includes(o))
  const common = { target: clean(target), readOnly: options.includes('ro'), mode }
  if (source.startsWith('/')) {
    if (options.includes('nocopy')) throw invalid(`invalid mode: ${mode}`)
    return { ...common, type: 'bind', source: clean(source), propagation: propagation ?? 'rprivate', createSource: true }
  }
  if (propagation !== undefined) throw invalid(`invalid mode: ${mode}`)
  if (source !== '' && !VOLUME_NAME.test(source)) {
    throw invalid(source.length === 1 ? 'volume name is too short, names should be at least two alphanumeric characters'
      : `create ${source}: "${source}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. `
        + 'If you intended to pass a host directory, use absolute path')
  }
  return {
    ...common, type: 'volume', propagation: '', ...(driver === '' ? {} : { driver }),
    ...(source === '' ? { anonymous: true } : { volume: source }), ...(options.includes('nocopy') ? { noCopy: true } : {}),
  }
}

/** At most one option of each group. */
function isMode(text: string): boolean {
  const groups: string[][] = [['rw', 'ro'], ['z', 'Z'], PROPAGATIONS, ['nocopy'], ['consistent', 'cached', 'delegated', 'default']]
  const seen = new Set<number>()
  for (const option of text.split(',')) {
    const group = groups.findIndex((g) => g.includes(option))
    if (group < 0 || seen.has(group)) return false
    seen.add(group)
  }
  return true
}

/** One of HostConfig.Mounts. The source of a bind is looked at when the container is made, by its owner. */
export function parseMount(m: MountSpec): PlannedMount {
  const prefix = `invalid mount config for type "${m.Type}"`
  if (m.Target === undefined || m.Target === '') throw invalid(`${prefix}: field Target must not be empty`)
  checkTarget(m.Target, prefix)
  const common = { target: clean(m.Target), readOnly: m.ReadOnly === true, mode: '', structured: true }
  if (m.Type !== 'bind' && m.BindOptions !== undefined) throw invalid(`${prefix}: field BindOptions must not be specified`)
  if (m.Type !== 'volume' && m.VolumeOptions !== undefined) throw invalid(`${prefix}: field VolumeOptions must not be specified`)
  if (m.Type !== 'tmpfs' && m.TmpfsOptions !== undefined) throw invalid(`${prefix}: field TmpfsOptions must not be specified`)
  switch (m.Type) {
    case 'bind': {
      if (m.Source === undefined || m.Source === '') throw invalid(`${prefix}: field Source must not be empty`)
      if (!m.Source.startsWith('/')) throw invalid(`${prefix}: invalid mount path: '${m.Source}' mount path must be absolute`)
      const o = m.BindOptions ?? {}
      if (o.Propagation !== undefined && o.Propagation !== '' && !PROPAGATIONS.includes(o.Propagation)) {
        throw invalid(`${prefix}: invalid propagation mode: ${o.Propagation}`)
      }
      return {
        ...common, type: 'bind', source: clean(m.Source), propagation: o.Propagation || 'rprivate',
        ...(o.CreateMountpoint === true ? { createSource: true } : {}), ...(o.NonRecursive === true ? { nonRecursive: true } : {}),
        ...(o.ReadOnlyNonRecursive === true ? { readOnlyNonRecursive: true } : {}),
      }
    }
    case 'volume': {
      const o = m.VolumeOptions ?? {}
      const anonymous = m.Source === undefined || m.Source === ''
      if (anonymous && o.Subpath !== undefined && o.Subpath !== '') throw invalid(`${prefix}: must not set Subpath when using anonymous volumes`)
      if (o.Subpath !== undefined && o.Subpath !== '' && (o.Subpath.startsWith('/') || posix.normalize(o.Subpath).startsWith('..'))) {
        throw invalid(`${prefix}: subpath must be a relative path within the volume`)
      }
      return {
        ...common, type: 'volume', propagation: '', ...(anonymous ? { anonymous: true } : { volume: m.Source }),
        ...(o.NoCopy === true ? { noCopy: true } : {}), ...(o.Labels === undefined ? {} : { labels: o.Labels }),
        ...(o.DriverConfig?.Name ? { driver: o.DriverConfig.Name } : {}),
        ...(o.DriverConfig?.Options === undefined ? {} : { driverOptions: o.DriverConfig.Options }), ...(o.Subpath ? { subpath: o.Subpath } : {}),
      }
    }
    case 'tmpfs': {
      if (m.Source !== undefined && m.Source !== '') throw invalid(`${prefix}: field Source must not be specified`)
      const o = m.TmpfsOptions ?? {}
      return {
        ...common, type: 'tmpfs', propagation: '',
        tmpfs: {
          ...(o.SizeBytes === undefined || o.SizeBytes === 0 ? {} : { sizeBytes: o.SizeBytes }),
          ...(o.Mode === undefined || o.Mode === 0 ? {} : { mode: o.Mode }),
          options: (o.Options ?? []).map((pair) => pair.join('=')),
        },
      }
    }
    default: throw invalid(`${prefix}: mount type unknown`)
  }
}

/** HostConfig.Tmpfs: target → options. */
function parseTmpfs(target: string, options: string): PlannedMount {
  checkTarget(target, 'invalid tmpfs mount')
  const list = options === '' ? [] : options.split(',')
  const size = list.find((o) => o.startsWith('size='))
  const mode = list.find((o) => o.startsWith('mode='))
  const sizeBytes = size === undefined ? undefined : bytes(size.slice('size='.length))
  if (size !== undefined && sizeBytes === undefined && !size.endsWith('%')) throw invalid(`invalid tmpfs option "${size}"`)
  return {
    type: 'tmpfs', target: clean(target), readOnly: list.includes('ro'), propagation: '', mode: options,
    tmpfs: {
      ...(sizeBytes === undefined ? {} : { sizeBytes }), ...(mode === undefined ? {} : { mode: Number.parseInt(mode.slice('mode='.length), 8) }),
      options: list.filter((o) => o !== 'ro' && o !== 'rw' && o !== mode && (o !== size || sizeBytes === undefined)),
    },
  }
}

function bytes(text: string): number | undefined {
  const match = /^(\d+)([kKmMgG]?)$/.exec(text)
  return match === null ? undefined : Number(match[1]) * { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[match[2]!.toLowerCase() as '' | 'k' | 'm' | 'g']
}

/**
 * All mounts of a container by target: what it takes from other containers, binds and structured mounts over that, then its volumes
 * where nothing is yet, tmpfs. Two for one target: `Duplicate mount point`.
 */
export function planMounts(config: ContainerConfig, host: HostConfig, inherited: PlannedMount[]): PlannedMount[] {
  const plan = new Map<string, PlannedMount>()
  for (const m of inherited) plan.set(m.target, m)
  const own = new Set<string>()
  const add = (m: PlannedMount): void => {
    if (own.has(m.target)) throw invalid(`Duplicate mount point: ${m.target}`)
    own.add(m.target)
    plan.set(m.target, m)
  }
  for (const bind of host.Binds ?? []) add(parseBind(bind, host.VolumeDriver))
  for (const m of host.Mounts ?? []) add(parseMount(m))
  for (const [target, options] of Object.entries(host.Tmpfs ?? {})) add(parseTmpfs(target, options))
  for (const raw of Object.keys(config.Volumes ?? {})) {
    checkTarget(raw, `invalid volume specification: '${raw}'`)
    const target = clean(raw)
    if (!plan.has(target)) {
      plan.set(target, {
        type: 'volume', target, readOnly: false, propagation: '', mode: '', anonymous: true, ...(host.VolumeDriver ? { driver: host.VolumeDriver } : {}),
      })
    }
  }
  return [...plan.values()].sort((a, b) => (a.target < b.target ? -1 : 1))
}

/** `ID[:ro|rw]`. */
export function parseVolumesFrom(text: string): { container: string; mode: string } {
  if (text === '') throw invalid('volumes-from specification cannot be an empty string')
  const colon = text.indexOf(':')
  const [container, mode] = colon < 0 ? [text, 'rw'] : [text.slice(0, colon), text.slice(colon + 1)]
  if (!isMode(mode)) throw invalid(`invalid mode: ${mode}`)
  return { container, mode }
}

function checkTarget(target: string, prefix: string): void {
  if (!target.startsWith('/')) throw invalid(`${prefix}: invalid mount path: '${target}' mount path must be absolute`)
  if (clean(target) === '/') throw invalid(`${prefix}: invalid specification: destination can't be '/'`)
}

function clean(path: string): string {
  const normal = posix.normalize(path)
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal
}
