/** `docker volume`: named volumes in the Docker API's shapes, errors and events. */
import type { NamedVolume, NamedVolumeEvent } from '../../../volumes/named/named.ts'
import { NamedVolumeError } from '../../../volumes/named/named.ts'
import type { Filters, VolumesBackend } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { StringMap, Volume } from '../model.ts'
import type { Parts } from './parts.ts'
import { ownerOf } from './volume-users.ts'

const ANONYMOUS_LABEL = 'com.docker.volume.anonymous'
const TRUE = /^(?:1|t|true)$/i
const FALSE = /^(?:0|f|false)$/i

/** `diskUsage`: all volumes with what they hold and how many containers use them, for `GET /system/df`. */
export interface LocalVolumes extends VolumesBackend { diskUsage(): Promise<Volume[]> }

/** From now on what happens to volumes is told as events. */
export function createVolumes(parts: Pick<Parts, 'volumes' | 'events'>): LocalVolumes {
  const { volumes, events } = parts
  volumes.onEvent((e) => { events.emit('volume', e.type, e.volume.name, attributesOf(e)) })

  const inUse = (v: NamedVolume): boolean => volumes.users(v.name).length > 0

  const withUsage = async (v: NamedVolume): Promise<Volume> => ({
    ...toVolume(v), UsageData: { Size: v.driver === 'local' ? await volumes.usage(v.name) : -1, RefCount: volumes.users(v.name).length },
  })

  return {
    async list(filters) {
      const dangling = flag(filters, 'dangling')
      const found = (await told(volumes.list())).filter((v) =>
        (dangling === undefined || dangling !== inUse(v)) && anyOf(filters['driver'], (d) => v.driver === d) &&
        anyOf(filters['name'], (n) => matches(v.name, n)) && labelsMatch(v.labels, filters))
      return { Volumes: found.map(toVolume), Warnings: null }
    },

    async inspect(name) { return toVolume(await told(volumes.get(name))) },

    async create({ Name, Driver, DriverOpts, Labels }) {
      return toVolume(await told(volumes.create({
        ...(Name ? { name: Name } : {}), ...(Driver ? { driver: Driver } : {}), ...(DriverOpts ? { options: DriverOpts } : {}),
        ...(Labels ? { labels: Labels } : {}),
      })))
    },

    async remove(name, force) { await told(volumes.remove(name, force)) },

    async prune(filters) {
      const all = flag(filters, 'all') ?? false
      const deleted: string[] = []
      let reclaimed = 0
      for (const v of await told(volumes.list())) {
        // Only local ones: what a plugin keeps may be another machine's.
        if (v.driver !== 'local' || inUse(v) || (!all && !isAnonymous(v)) || !labelsMatch(v.labels, filters)) continue
        try {
          const bytes = await volumes.usage(v.name)
          await volumes.remove(v.name, false)
          deleted.push(v.name)
          reclaimed += Math.max(0, bytes)
        } catch (e) {
          // Taken into use, or removed, between the look and the deed.
          if (!(e instanceof NamedVolumeError) || e.code !== 'conflict' && e.code !== 'not-found') throw asDocker(e)
        }
      }
      events.emit('volume', 'prune', '', { reclaimed: String(reclaimed) })
      return { VolumesDeleted: deleted, SpaceReclaimed: reclaimed }
    },

    async diskUsage() { return Promise.all((await told(volumes.list())).map(withUsage)) },
  }
}

function toVolume(v: NamedVolume): Volume {
  return {
    Name: v.name, Driver: v.driver, Mountpoint: v.mountpoint, Scope: v.scope,
    Labels: v.labels, Options: v.anonymous ? null : v.options,
    // Seconds and no fraction, as dockerd gives it.
    ...(v.createdAtMs > 0 ? { CreatedAt: new Date(v.createdAtMs).toISOString().replace(/\.\d+Z$/, 'Z') } : {}),
    ...(v.status === undefined ? {} : { Status: v.status }),
  }
}

function attributesOf(e: NamedVolumeEvent): StringMap {
  const { driver } = e.volume
  if (e.type === 'unmount') return { driver, container: ownerOf(e.user) }
  if (e.type !== 'mount') return { driver }
  return { driver, container: ownerOf(e.user), destination: e.target, 'read/write': String(!e.readOnly), propagation: '' }
}

function isAnonymous(v: NamedVolume): boolean { return v.anonymous || v.labels[ANONYMOUS_LABEL] !== undefined }

function anyOf(wanted: string[] | undefined, test: (value: string) => boolean): boolean {
  return wanted === undefined || wanted.length === 0 || wanted.some(test)
}

/** Docker's `name` filter is a regular expression, and a plain part of the name where it is none. */
function matches(name: string, pattern: string): boolean {
  if (name.includes(pattern)) return true
  try {
    return new RegExp(pattern).test(name)
  } catch {
    return false
  }
}

/** All of `label`, none of `label!`; each `KEY` or `KEY=VALUE`. */
function labelsMatch(labels: StringMap, filters: Filters): boolean {
  const has = (wanted: string): boolean => {
    const at = wanted.indexOf('=')
    return at < 0 ? labels[wanted] !== undefined : labels[wanted.slice(0, at)] === wanted.slice(at + 1)
  }
  return (filters['label'] ?? []).every(has) && !(filters['label!'] ?? []).some(has)
}

/** Undefined if it is not given. Both at once select everything, as if it were not there. */
function flag(filters: Filters, key: string): boolean | undefined {
  const values = filters[key] ?? []
  for (const v of values) {
    if (!TRUE.test(v) && !FALSE.test(v)) throw new DockerError('invalid', `invalid filter '${key}=[${values.join(' ')}]'`)
  }
  const yes = values.some((v) => TRUE.test(v))
  return values.length === 0 || yes && values.some((v) => FALSE.test(v)) ? undefined : yes
}

function asDocker(e: unknown): unknown { return e instanceof NamedVolumeError ? new DockerError(e.code, e.message) : e }

async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (e) {
    throw asDocker(e)
  }
}
