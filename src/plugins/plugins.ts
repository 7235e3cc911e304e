/**
 * Docker's plugins of the first kind: servers on a socket of this machine (or at an address named in a file) that speak JSON over HTTP
 * POST. This room finds them, shakes hands and carries calls; what the calls mean is known to their users: `network` (NetworkDriver,
 * IpamDriver) and `volumes` (VolumeDriver). Implementation: `index.ts` (`openPlugins`).
 */

/** Names as plugins themselves give them in their answer to `/Plugin.Activate`. */
export type PluginKind = 'VolumeDriver' | 'NetworkDriver' | 'IpamDriver' | 'LogDriver' | 'authz'

export interface PluginsOptions {
  /**
   * Folders looked through in this order, for `NAME.sock`, `NAME/NAME.sock`, then `NAME.spec` and `NAME.json` (also in a folder
   * NAME). Default Docker's: `/run/docker/plugins`, `/etc/docker/plugins`, `/usr/lib/docker/plugins`.
   */
  dirs?: string[]
  /** How long a call goes on trying to connect while a plugin is starting again; default 10 s. */
  connectMs?: number
}

/** Its message names the plugin or the method, as dockerd's does. */
export class PluginError extends Error {
  /**
   * `not-found`: no such plugin, or not of that kind. `unreachable`: found, but it does not answer. `timeout`: no answer in time.
   * `not-implemented`: the plugin does not know the method (404). `refused`: the plugin answered with an error of its own.
   * `protocol`: its answer, or its spec file, is not understood.
   */
  readonly code: 'not-found' | 'unreachable' | 'timeout' | 'not-implemented' | 'refused' | 'protocol'
  readonly plugin: string
  constructor(code: PluginError['code'], plugin: string, message: string) {
    super(message)
    this.name = 'PluginError'
    this.code = code
    this.plugin = plugin
  }
}

export interface CallOptions {
  /** Of the whole call, default 30 s. */
  timeoutMs?: number
  signal?: AbortSignal
}

export interface Plugin {
  readonly name: string
  /** `unix:///run/docker/plugins/x.sock`, `tcp://host:port`, `https://host:port`. */
  readonly address: string
  /** What it said to `/Plugin.Activate` last. */
  readonly implements: readonly string[]
  /**
   * `POST /METHOD`, e.g. `VolumeDriver.Create`. An answer whose `Err` or `Error` holds text rejects with `refused` and that text; an
   * empty answer is `{}`. Each call makes a connection of its own, and a plugin that was started again is activated anew.
   */
  call<T extends object = Record<string, unknown>>(method: string, body?: object, options?: CallOptions): Promise<T>
}

export interface Plugins {
  /**
   * The plugin of that name, activated. `not-found`: `plugin "NAME" not found`, or `plugin "NAME" does not implement KIND` with one
   * that is of other kinds.
   */
  get(name: string, kind: PluginKind): Promise<Plugin>
  /** All of a kind that answer, by name; those that do not are left out. */
  list(kind: PluginKind): Promise<Plugin[]>
}
