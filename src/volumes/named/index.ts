/** Volumes with names: one record each, drivers for what is behind them, one piece of work on each volume at a time. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, rm, rmdir } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { openPlugins } from '../../plugins/index.ts'
import type { Plugins } from '../../plugins/index.ts'
import { mountsBelow } from '../../files/mounts.ts'
import { unmount } from '../mounts.ts'
import { relativeParts } from '../paths.ts'
import { bindSubPath, unbindBelow } from '../sub-path.ts'
import { VolumeError } from '../volumes.ts'
import { fillByMoves, fillBySwap, fillInPlace, isEmpty, isFolder } from './copy-up.ts'
import type { Driver } from './driver.ts'
import { LocalDriver } from './local.ts'
import { NamedVolumeError } from './named.ts'
import type { NamedVolume, NamedVolumeEvent, NamedVolumes, NamedVolumesOptions } from './named.ts'
import { getFrom, PluginDriver, scopeOf } from './plugin.ts'
import type { PluginVolume } from './plugin.ts'
import { RecordStore } from './records.ts'
import type { MountRecord, VolumeRecord } from './records.ts'
import { ANONYMOUS_LABEL, anonymousName, LOCAL } from './rules.ts'

export * from './named.ts'
export { ANONYMOUS_LABEL } from './rules.ts'

/** Plugins are asked for their lists this long. */
const LIST_MS = 10_000
const COPY_USER = 'copy-up'

/** Takes over what exists below `dataDir`; one process at a time may have it open. Needs root. */
export async function openNamedVolumes(options: NamedVolumesOptions): Promise<NamedVolumes> {
  const plugins = openPlugins(options.pluginDirs === undefined ? {} : { dirs: options.pluginDirs })
  const store = new RecordStore(options.dataDir)
  const records = await store.load(async (folder) => { await unmount(mountsBelow(folder)) })
  return new Service(store, plugins, records)
}

class Service implements NamedVolumes {
  readonly #store: RecordStore
  readonly #plugins: Plugins
  readonly #local: LocalDriver
  readonly #records: Map<string, VolumeRecord>
  readonly #handlers = new Set<(e: NamedVolumeEvent) => void>()
  /** The last piece of work on each volume. */
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(store: RecordStore, plugins: Plugins, records: VolumeRecord[]) {
    this.#store = store
    this.#plugins = plugins
    this.#local = new LocalDriver(store)
    this.#records = new Map(records.map((r) => [r.name, r]))
  }

  async list(): Promise<NamedVolume[]> {
    const told = new Map<string, { driver: string; volume: PluginVolume; scope: 'local' | 'global' }>()
    for (const plugin of await this.#plugins.list('VolumeDriver')) {
      const answer = plugin.call<{ Volumes?: PluginVolume[] | null }>('VolumeDriver.List', {}, { timeoutMs: LIST_MS })
      const volumes = (await answer.catch(() => undefined))?.Volumes ?? []
      const unknown = volumes.some((v) => !this.#records.has(v.Name))
      const scope = unknown ? await scopeOf(plugin) : 'local'
      for (const volume of volumes) told.set(volume.Name, { driver: plugin.name, volume, scope })
    }
    const out: NamedVolume[] = []
    for (const r of this.#records.values()) {
      const mountpoint = r.driver === LOCAL ? this.#store.dataPath(r.name) : told.get(r.name)?.volume.Mountpoint ?? ''
      out.push(toVolume(r, mountpoint, told.get(r.name)?.volume.Status))
      told.delete(r.name)
    }
    for (const { driver, volume, scope } of told.values()) out.push(foreign(driver, volume, scope))
    return out.sort((a, b) => a.name < b.name ? -1 : 1)
  }

  async get(name: string): Promise<NamedVolume> {
    const record = this.#records.get(name) ?? await this.#adopt(name)
    if (record === undefined) throw absent('get', name)
    return this.#describe('get', record)
  }

  create(request: Parameters<NamedVolumes['create']>[0]): Promise<NamedVolume> {
    const anonymous = request.name === undefined || request.name === ''
    const name = anonymous ? anonymousName() : request.name as string
    return this.#inTurn(name, async () => {
      const { driver, options = {}, labels = {} } = request
      const known = this.#records.get(name) ?? (driver === undefined && !anonymous ? await this.#adopt(name) : undefined)
      if (known !== undefined) {
        if (driver === undefined || driver === '' || driver === known.driver) return this.#describe('create', known)
        throw new NamedVolumeError('conflict', `create ${name}: driver '${known.driver}' already has volume '${name}': volume name must be unique`)
      }
      const driverName = driver === undefined || driver === '' ? LOCAL : driver
      const { scope } = await named('create', name, this.#driver(driverName).create(name, options))
      const record: VolumeRecord = {
        name, driver: driverName, createdAtMs: Date.now(), anonymous, scope, options,
        labels: anonymous ? { [ANONYMOUS_LABEL]: '', ...labels } : labels, users: request.user === undefined ? [] : [request.user], mounts: {},
      }
      await named('create', name, this.#store.add(record, !anonymous))
      this.#records.set(name, record)
      const volume = await this.#describe('create', record)
      this.#emit({ type: 'create', volume })
      return volume
    })
  }

  remove(name: string, force: boolean): Promise<void> {
    return this.#inTurn(name, async () => {
      const record = this.#records.get(name) ?? await this.#adopt(name)
      if (record === undefined) {
        if (force) return
        throw absent('get', name)
      }
      const users = new Set([...record.users, ...Object.keys(record.mounts)])
      if (users.size > 0) throw new NamedVolumeError('conflict', `remove ${name}: volume is in use - [${[...users].join(', ')}]`)
      const volume = toVolume(record, record.driver === LOCAL ? this.#store.dataPath(name) : '')
      try {
        await this.#driver(record.driver).remove(record)
      } catch (e) {
        // With force the record of a plugin that failed, or is gone, goes all the same.
        if (!force || record.driver === LOCAL) throw prefixed('remove', name, e)
      }
      await named('remove', name, this.#store.remove(name))
      this.#records.delete(name)
      this.#emit({ type: 'destroy', volume })
    })
  }

  reference(name: string, user: string): Promise<void> {
    return this.#change(name, 'get', (r) => {
      if (r.users.includes(user)) return false
      r.users.push(user)
      return true
    })
  }

  async release(name: string, user: string): Promise<void> {
    if (!this.#records.has(name)) return
    await this.unmount(name, user)
    await this.#change(name, 'release', (r) => {
      const at = r.users.indexOf(user)
      if (at >= 0) r.users.splice(at, 1)
      return at >= 0
    }).catch(ignoreAbsent)
  }

  users(name: string): string[] { return [...this.#records.get(name)?.users ?? []] }

  mount(name: string, user: string, how: { readOnly: boolean; target: string; subpath?: string }): Promise<string> {
    return this.#inTurn(name, async () => {
      const record = this.#need('get', name)
      const driver = this.#driver(record.driver)
      const path = await driver.mount(record, user).catch((e: unknown) => { throw asFailed(e) })
      const mounted = { target: how.target, readOnly: how.readOnly }
      const before = record.mounts[user] ?? []
      try {
        const inside = how.subpath === undefined || how.subpath === '' ? path : await this.#bindPart(name, path, how.subpath, user, how.target)
        record.mounts[user] = [...before.filter((m) => m.target !== how.target), mounted]
        await this.#store.save(record)
        this.#emit({ type: 'mount', volume: toVolume(record, path), user, ...mounted })
        return inside
      } catch (e) {
        if (before.length > 0) record.mounts[user] = before
        else {
          Reflect.deleteProperty(record.mounts, user)
          await driver.unmount(record, user, Object.keys(record.mounts).length === 0).catch(() => undefined)
        }
        throw asFailed(e)
      }
    })
  }

  /** Where the part is bound for this mount of `user`. Links may lead anywhere inside the volume, not out of it. */
  async #bindPart(name: string, root: string, part: string, user: string, at: string): Promise<string> {
    const target = join(this.#partsOf(name, user), createHash('sha256').update(at).digest('hex').slice(0, 32))
    try {
      await bindSubPath(root, relativeParts('subpath', part), target)
      return target
    } catch (e) {
      if (!(e instanceof VolumeError)) throw e
      const code = e.code === 'missing' ? 'not-found' : e.code === 'invalid' ? 'invalid' : 'failed'
      throw new NamedVolumeError(code, `${e.message} (volume ${name})`)
    }
  }

  async #unbindParts(name: string, user: string): Promise<void> {
    const folder = this.#partsOf(name, user)
    if (!existsSync(folder)) return
    await unbindBelow(folder)
    for (const entry of await readdir(folder)) await removeEmpty(join(folder, entry))
    await rmdir(folder)
  }

  #partsOf(name: string, user: string): string { return join(this.#store.folder(name), 'parts', user) }

  /** All that `user` has mounted of it. Resolves also if that is nothing. */
  unmount(name: string, user: string): Promise<void> {
    return this.#inTurn(name, async () => {
      const record = this.#records.get(name)
      const mounts = record?.mounts[user]
      if (record === undefined || mounts === undefined) return
      Reflect.deleteProperty(record.mounts, user)
      try {
        await this.#unbindParts(name, user)
        await this.#driver(record.driver).unmount(record, user, Object.keys(record.mounts).length === 0)
      } catch (e) {
        record.mounts[user] = mounts
        throw asFailed(e)
      }
      await this.#store.save(record)
      this.#tellUnmounts(record, user, mounts)
    })
  }

  copyUp(name: string, sourceDir: string): Promise<void> {
    return this.#inTurn(name, async () => {
      const record = this.#need('get', name)
      if (!await isFolder(sourceDir)) return
      const own = record.driver === LOCAL && record.options['device'] === undefined
      const used = Object.keys(record.mounts).length > 0
      if (own && !used && record.copying === undefined) {
        const path = this.#store.dataPath(name)
        if (await isEmpty(path)) await fillBySwap(sourceDir, path)
        return
      }
      // Where containers write, a copy made in place could be led elsewhere by them, and there is no other place on that file system.
      if (used && !own) return
      const driver = this.#driver(record.driver)
      const path = await driver.mount(record, COPY_USER).catch((e: unknown) => { throw asFailed(e) })
      try {
        if (record.copying === undefined && !await isEmpty(path)) return
        await this.#store.save(Object.assign(record, { copying: true as const }))
        await (own ? fillByMoves : fillInPlace)(sourceDir, path)
        delete record.copying
        await this.#store.save(record)
      } finally {
        await driver.unmount(record, COPY_USER, Object.keys(record.mounts).length === 0).catch(() => undefined)
      }
    })
  }

  async usage(name: string): Promise<number> {
    const record = this.#need('get', name)
    return this.#driver(record.driver).usage(record)
  }

  async reconcile(liveUsers: ReadonlySet<string>, runningUsers: ReadonlySet<string>): Promise<void> {
    for (const record of [...this.#records.values()]) {
      const gone = Object.keys(record.mounts).filter((u) => !runningUsers.has(u))
      const lost = madeForNobody(record, liveUsers)
      // A plugin that is away keeps its volume mounted: the next reconciliation tries again.
      for (const user of gone) await this.unmount(record.name, user).catch(() => undefined)
      await this.#change(record.name, 'get', (r) => {
        const kept = r.users.filter((u) => liveUsers.has(u))
        const changed = kept.length !== r.users.length
        r.users = kept
        return changed
      }).catch(ignoreAbsent)
      if (lost) await this.remove(record.name, true).catch(ignoreAbsent)
    }
  }

  async drivers(): Promise<string[]> { return [LOCAL, ...(await this.#plugins.list('VolumeDriver')).map((p) => p.name)] }

  onEvent(handler: (e: NamedVolumeEvent) => void): () => void {
    this.#handlers.add(handler)
    return () => { this.#handlers.delete(handler) }
  }

  #driver(name: string): Driver { return name === LOCAL ? this.#local : new PluginDriver(this.#plugins, name) }

  /** A volume that some plugin has and we have no record of yet: from now on it is known. */
  async #adopt(name: string): Promise<VolumeRecord | undefined> {
    for (const plugin of await this.#plugins.list('VolumeDriver')) {
      const found = await getFrom(plugin, name).catch(() => undefined)
      if (found === undefined) continue
      const volume = foreign(plugin.name, found, await scopeOf(plugin))
      const known = this.#records.get(name)
      if (known !== undefined) return known
      const record: VolumeRecord = { ...volume, options: {}, users: [], mounts: {} }
      for (const extra of ['mountpoint', 'status']) Reflect.deleteProperty(record, extra)
      this.#records.set(name, record)
      try {
        await this.#store.add(record, true)
      } catch (e) {
        this.#records.delete(name)
        throw e
      }
      return record
    }
    return undefined
  }

  async #describe(operation: string, record: VolumeRecord): Promise<NamedVolume> {
    try {
      const { mountpoint, status } = await this.#driver(record.driver).describe(record)
      return toVolume(record, mountpoint, status)
    } catch (e) {
      throw prefixed(operation, record.name, e)
    }
  }

  #need(operation: string, name: string): VolumeRecord {
    const record = this.#records.get(name)
    if (record === undefined) throw absent(operation, name)
    return record
  }

  /** Saves if `work` says that it changed something. */
  #change(name: string, operation: string, work: (r: VolumeRecord) => boolean): Promise<void> {
    return this.#inTurn(name, async () => {
      const record = this.#need(operation, name)
      if (work(record)) await this.#store.save(record)
    })
  }

  #tellUnmounts(record: VolumeRecord, user: string, mounts: MountRecord[]): void {
    const volume = toVolume(record, record.driver === LOCAL ? this.#store.dataPath(record.name) : '')
    for (const m of mounts) this.#emit({ type: 'unmount', volume, user, ...m })
  }

  #emit(e: NamedVolumeEvent): void { for (const h of this.#handlers) h(e) }

  async #inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(name) ?? Promise.resolve()).catch(() => undefined).then(work)
    this.#turns.set(name, turn)
    try {
      return await turn
    } finally {
      if (this.#turns.get(name) === turn) this.#turns.delete(name)
    }
  }
}

/**
 * An anonymous one of a container whose making was cut off by a kill. Of a container made before the machine last came up a record may
 * have been lost with the power: its data stays.
 */
function madeForNobody(r: VolumeRecord, liveUsers: ReadonlySet<string>): boolean {
  return r.anonymous && r.users.length > 0 && !r.users.some((u) => liveUsers.has(u)) && r.createdAtMs > Date.now() - uptime() * 1000
}

function toVolume(r: VolumeRecord, mountpoint: string, status?: Record<string, unknown>): NamedVolume {
  const { name, driver, createdAtMs, anonymous, labels, options, scope } = r
  return { name, driver, mountpoint, createdAtMs, anonymous, labels, options, scope, ...(status == null ? {} : { status }) }
}

function foreign(driver: string, v: PluginVolume, scope: 'local' | 'global'): NamedVolume {
  return {
    name: v.Name, driver, mountpoint: v.Mountpoint ?? '', createdAtMs: Date.parse(v.CreatedAt ?? '') || 0, anonymous: false,
    labels: {}, options: {}, scope, ...(v.Status == null ? {} : { status: v.Status }),
  }
}

/** A place something was bound to: never through a mount that is still there. */
async function removeEmpty(path: string): Promise<void> { await rmdir(path).catch(() => rm(path)) }

function absent(operation: string, name: string): NamedVolumeError {
  return new NamedVolumeError('not-found', `${operation} ${name}: no such volume`)
}

function ignoreAbsent(e: unknown): void {
  if (!(e instanceof NamedVolumeError) || e.code !== 'not-found') throw e
}

function asFailed(e: unknown): NamedVolumeError {
  return e instanceof NamedVolumeError ? e : new NamedVolumeError('failed', (e as Error).message)
}

/** With the operation and the volume before the message, as dockerd's store puts it. */
function prefixed(operation: string, name: string, e: unknown): NamedVolumeError {
  const { code, message } = asFailed(e)
  const prefix = `${operation} ${name}: `
  return new NamedVolumeError(code, message.startsWith(prefix) ? message : prefix + message)
}

async function named<T>(operation: string, name: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (e) {
    throw prefixed(operation, name, e)
  }
}
