/**
 * Keeps HAProxy at the desired plan. The proxy is a service of its own that the host's supervisor keeps running; this class
 * writes its configuration and speaks to its sockets. Whichever of the two dies, the other goes on, and both meet again at
 * the files: these always hold the newest plan.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Logger } from '../core/log.ts'
import { replaceFileSync } from '../files/replace.ts'
import { renderConfig, renderHosts } from './haproxy-config.ts'
import { commandsBetween, needsReload, type Plan } from './plan.ts'
import { ProxyUnavailable, reload, runCommands } from './runtime.ts'

export interface ProxyPlace { dataDir: string; runDir: string; httpAddress: string; httpPort: number }

/** The files and sockets of the proxy of one host. */
export function proxyPaths(p: Pick<ProxyPlace, 'dataDir' | 'runDir'>) {
  return {
    config: join(p.dataDir, 'haproxy.cfg'), hostsMap: join(p.dataDir, 'hosts.map'), cookieKey: join(p.dataDir, 'cookie.key'),
    socket: join(p.runDir, 'haproxy.sock'), master: join(p.runDir, 'haproxy-master.sock'),
  }
}

export const emptyPlan = (): Plan => ({ slots: new Map(), hosts: new Map(), tcpPorts: [], httpSlots: 64, stickySlots: 16 })

/** Writes map and configuration, each at once or not at all. */
export function writeProxyFiles(place: ProxyPlace, plan: Plan): void {
  const paths = proxyPaths(place)
  for (const dir of [place.dataDir, place.runDir]) mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (!existsSync(paths.cookieKey)) writeFileSync(paths.cookieKey, randomBytes(24).toString('hex'), { mode: 0o600 })
  const cookieKey = readFileSync(paths.cookieKey, 'utf8')
  replaceFileSync(paths.hostsMap, renderHosts(plan))
  replaceFileSync(paths.config, renderConfig(plan, { paths, httpAddress: place.httpAddress, httpPort: place.httpPort, cookieKey }))
}

/** How the supervisor starts the proxy: a master process that keeps its worker and reloads on demand. */
export function proxyCommand(place: Pick<ProxyPlace, 'dataDir' | 'runDir'>): string[] {
  const paths = proxyPaths(place)
  return ['haproxy', '-W', '-db', '-S', `${paths.master},mode,600`, '-f', paths.config]
}

const RETRY_MS = 500

export class Proxy {
  readonly #place: ProxyPlace
  readonly #log: Logger
  /** What the running proxy has been told; undefined when that is unknown, which a reload settles. */
  #told: Plan | undefined
  #wanted: Plan | undefined
  #working = false
  /** Servers in maintenance that could not be removed yet, because requests on them were under way. */
  #leftovers = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(place: ProxyPlace, log: Logger) {
    this.#place = place
    this.#log = log
  }

  /** Asks for a plan; the newest one wins. */
  apply(plan: Plan): void {
    this.#wanted = plan
    void this.#work()
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async #work(): Promise<void> {
    if (this.#working || this.#closed) return
    this.#working = true
    try {
      while (this.#wanted !== undefined && this.#wanted !== this.#told && !this.#closed) await this.#reach(this.#wanted)
      await this.#sweep()
    } catch (e) {
      // The proxy is away: it will read the files when it starts; until it answers, what it knows is unknown.
      this.#told = undefined
      if (!(e instanceof ProxyUnavailable)) this.#log.error('the proxy could not be changed', { error: (e as Error).message })
      this.#later()
    } finally {
      this.#working = false
    }
  }

  async #reach(plan: Plan): Promise<void> {
    const paths = proxyPaths(this.#place)
    writeProxyFiles(this.#place, plan)
    if (this.#told === undefined || needsReload(this.#told, plan)) {
      await reload(paths.master)
      this.#leftovers.clear()
    } else {
      const { now, later } = commandsBetween(this.#told, plan, paths.hostsMap)
      for (const c of now) if (c.startsWith('add server ')) this.#leftovers.delete(`del server ${c.split(' ')[2]}`)
      const complaints = await runCommands(paths.socket, now)
      if (complaints.length > 0) {
        this.#log.warn('the proxy refused a change; it is reloaded', { complaints: complaints.slice(0, 3) })
        await reload(paths.master)
        this.#leftovers.clear()
      } else for (const c of later) this.#leftovers.add(c)
    }
    this.#told = plan
  }

  async #sweep(): Promise<void> {
    if (this.#leftovers.size === 0) return
    const all = [...this.#leftovers]
    for (const c of all) {
      const complaints = await runCommands(proxyPaths(this.#place).socket, [c])
      if (complaints.length === 0) this.#leftovers.delete(c)
    }
    if (this.#leftovers.size > 0) this.#later()
  }

  #later(): void {
    clearTimeout(this.#timer)
    if (!this.#closed) this.#timer = setTimeout(() => void this.#work(), RETRY_MS)
  }
}
