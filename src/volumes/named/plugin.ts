/** Drivers that are plugins: Docker's volume protocol, `VolumeDriver.*`. */
import type { Plugin, Plugins } from '../../plugins/index.ts'
import { PluginError } from '../../plugins/index.ts'
import type { Driver } from './driver.ts'
import { NamedVolumeError } from './named.ts'
import type { VolumeRecord } from './records.ts'
import { checkPluginName } from './rules.ts'

/** What dockerd grants. */
const LONG_MS = 120_000
const SHORT_MS = 60_000

/** A volume as a plugin tells of it. */
export interface PluginVolume { Name: string; Mountpoint?: string; Status?: Record<string, unknown>; CreatedAt?: string }

export class PluginDriver implements Driver {
  readonly #plugins: Plugins
  readonly #name: string

  constructor(plugins: Plugins, name: string) {
    this.#plugins = plugins
    this.#name = name
  }

  async create(name: string, options: Record<string, string>): Promise<{ scope: 'local' | 'global' }> {
    checkPluginName(name)
    const plugin = await this.#plugin()
    await told(plugin.call('VolumeDriver.Create', { Name: name, Opts: options }, { timeoutMs: LONG_MS }))
    return { scope: await scopeOf(plugin) }
  }

  async remove(v: VolumeRecord): Promise<void> { await this.#call('VolumeDriver.Remove', { Name: v.name }, SHORT_MS) }

  async describe(v: VolumeRecord): Promise<{ mountpoint: string; status?: Record<string, unknown> }> {
    const found = await getFrom(await this.#plugin(), v.name)
    if (found === undefined) throw new NamedVolumeError('not-found', `no such volume`)
    return { mountpoint: found.Mountpoint ?? '', ...(found.Status == null ? {} : { status: found.Status }) }
  }

  async mount(v: VolumeRecord, user: string): Promise<string> {
    const answer = await this.#call('VolumeDriver.Mount', { Name: v.name, ID: user }, LONG_MS)
    const path = answer['Mountpoint']
    if (typeof path !== 'string' || !path.startsWith('/')) {
      throw new NamedVolumeError('failed', `VolumeDriver.Mount: plugin "${this.#name}" answered no mountpoint`)
    }
    return path
  }

  async unmount(v: VolumeRecord, user: string): Promise<void> {
    await this.#call('VolumeDriver.Unmount', { Name: v.name, ID: user }, SHORT_MS)
  }

  usage(): Promise<number> { return Promise.resolve(-1) }

  async #plugin(): Promise<Plugin> {
    try {
      return await this.#plugins.get(this.#name, 'VolumeDriver')
    } catch (e) {
      if (!(e instanceof PluginError)) throw e
      throw new NamedVolumeError(e.code === 'not-found' ? 'not-found' : 'failed', `error looking up volume plugin ${this.#name}: ${e.message}`)
    }
  }

  async #call(method: string, body: object, timeoutMs: number): Promise<Record<string, unknown>> {
    return told((await this.#plugin()).call(method, body, { timeoutMs }))
  }
}

/** Undefined if the plugin says that it has none of that name. */
export async function getFrom(plugin: Plugin, name: string): Promise<PluginVolume | undefined> {
  try {
    return (await plugin.call<{ Volume?: PluginVolume }>('VolumeDriver.Get', { Name: name }, { timeoutMs: SHORT_MS })).Volume ?? undefined
  } catch (e) {
    // The protocol has no code for "none": any word of the plugin itself is one.
    if (e instanceof PluginError && (e.code === 'refused' || e.code === 'not-implemented')) return undefined
    throw new NamedVolumeError('failed', (e as Error).message)
  }
}

/** Older plugins do not know the method: their volumes are local. */
export async function scopeOf(plugin: Plugin): Promise<'local' | 'global'> {
  const answer = await plugin.call<{ Capabilities?: { Scope?: string } }>('VolumeDriver.Capabilities', {}, { timeoutMs: SHORT_MS }).catch(() => undefined)
  return answer?.Capabilities?.Scope?.toLowerCase() === 'global' ? 'global' : 'local'
}

async function told<T>(call: Promise<T>): Promise<T> {
  try {
    return await call
  } catch (e) {
    throw e instanceof PluginError ? new NamedVolumeError('failed', e.message) : e
  }
}
