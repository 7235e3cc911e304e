/** Opens the room: plugins are looked for when they are asked for, and remembered once activated. */
import { stat } from 'node:fs/promises'
import { DEFAULT_DIRS, locate, namesIn } from './discovery.ts'
import type { Location } from './discovery.ts'
import { PluginError } from './plugins.ts'
import type { CallOptions, Plugin, PluginKind, Plugins, PluginsOptions } from './plugins.ts'
import { post } from './transport.ts'
import type { PostOptions } from './transport.ts'

export { PluginError } from './plugins.ts'
export type { CallOptions, Plugin, PluginKind, Plugins, PluginsOptions } from './plugins.ts'

const CALL_MS = 30_000
const CONNECT_MS = 10_000
/** A list must not wait long for one that hangs. */
const LIST_MS = 2000

export function openPlugins(options: PluginsOptions = {}): Plugins {
  return new Registry(options.dirs ?? DEFAULT_DIRS, options.connectMs ?? CONNECT_MS)
}

class Registry implements Plugins {
  readonly #dirs: readonly string[]
  readonly #connectMs: number
  readonly #known = new Map<string, Client>()

  constructor(dirs: readonly string[], connectMs: number) {
    this.#dirs = dirs
    this.#connectMs = connectMs
  }

  async get(name: string, kind: PluginKind): Promise<Plugin> {
    const plugin = await this.#client(name)
    if (plugin === undefined) throw new PluginError('not-found', name, `plugin "${name}" not found`)
    await plugin.activate(CALL_MS)
    if (!plugin.implements.includes(kind)) throw new PluginError('not-found', name, `plugin "${name}" does not implement ${kind}`)
    return plugin
  }

  async list(kind: PluginKind): Promise<Plugin[]> {
    const all = await Promise.all((await namesIn(this.#dirs)).map(async (name) => {
      try {
        const plugin = await this.#client(name)
        await plugin?.activate(LIST_MS, 0)
        return plugin
      } catch {
        return undefined
      }
    }))
    return all.filter((p): p is Client => p?.implements.includes(kind) === true)
  }

  /**
   * A plugin that is known stays so while it is away: its next call waits for it. Only where its folder names another address the
   * old one is dropped.
   */
  async #client(name: string): Promise<Client | undefined> {
    const known = this.#known.get(name)
    const location = await locate(this.#dirs, name)
    if (location === undefined || known?.same(location) === true) return known
    const client = new Client(location, this.#connectMs)
    this.#known.set(name, client)
    return client
  }
}

class Client implements Plugin {
  readonly #location: Location
  readonly #connectMs: number
  #implements: string[] = []
  /** Which server was activated: the socket's inode and time; the address itself elsewhere. */
  #activated: string | undefined

  constructor(location: Location, connectMs: number) {
    this.#location = location
    this.#connectMs = connectMs
  }

  get name(): string { return this.#location.name }
  get address(): string { return this.#location.address.href }
  get implements(): readonly string[] { return this.#implements }

  same(other: Location): boolean {
    return this.address === other.address.href && JSON.stringify(this.#location.tls) === JSON.stringify(other.tls)
  }

  async activate(timeoutMs: number, connectMs = this.#connectMs, signal?: AbortSignal): Promise<void> {
    const server = await this.#server()
    if (server !== undefined && server === this.#activated) return
    const answer = await this.#post('Plugin.Activate', {}, { timeoutMs, connectMs, signal })
    const kinds = answer['Implements']
    if (!Array.isArray(kinds) || kinds.some((k) => typeof k !== 'string')) {
      throw new PluginError('protocol', this.name, `plugin "${this.name}": Plugin.Activate: Implements is missing from its answer`)
    }
    this.#implements = kinds as string[]
    this.#activated = server ?? await this.#server()
  }

  async call<T extends object>(method: string, body: object = {}, options: CallOptions = {}): Promise<T> {
    const { timeoutMs = CALL_MS, signal } = options
    const until = Date.now() + timeoutMs
    await this.activate(timeoutMs, this.#connectMs, signal)
    return await this.#post(method, body, { timeoutMs: Math.max(1, until - Date.now()), connectMs: this.#connectMs, signal }) as T
  }

  /** Changes when a plugin's socket was made anew; undefined while there is none. */
  async #server(): Promise<string | undefined> {
    const { address } = this.#location
    if (address.protocol !== 'unix:') return address.href
    const s = await stat(decodeURI(address.pathname), { bigint: true }).catch(() => undefined)
    return s === undefined ? undefined : `${s.dev}:${s.ino}:${s.ctimeNs}`
  }

  async #post(method: string, body: object, options: PostOptions): Promise<Record<string, unknown>> {
    const { status, body: bytes } = await post(this.#location, method, body, options)
    const answer = parse(bytes)
    const said = answer === undefined ? undefined : [answer['Err'], answer['Error']].find((e) => typeof e === 'string' && e !== '') as string | undefined
    if (status === 404) throw new PluginError('not-implemented', this.name, `${method}: ${said ?? 'not implemented'} by plugin "${this.name}"`)
    if (status !== 200) throw new PluginError('refused', this.name, `${method}: ${said ?? (bytes.toString('utf8', 0, 500).trim() || `status ${status}`)}`)
    if (said !== undefined) throw new PluginError('refused', this.name, `${method}: ${said}`)
    if (answer === undefined) {
      throw new PluginError('protocol', this.name, `plugin "${this.name}": ${method}: its answer is no JSON object: ${bytes.toString('utf8', 0, 100)}`)
    }
    return answer
  }
}

function parse(bytes: Buffer): Record<string, unknown> | undefined {
  const text = bytes.toString('utf8').trim()
  if (text === '') return {}
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : value === null ? {} : undefined
  } catch {
    return undefined
  }
}
