/** The router: watches Routes and what they lead to, and keeps HAProxy at it. Traffic never passes through this process. */
import { readFileSync } from 'node:fs'
import { connect } from '../client/client.ts'
import type { Client, Informer } from '../core/client.ts'
import { keyOf } from '../core/client.ts'
import { endpointSlices, pods, routes, services } from '../core/kinds.ts'
import { lineLogger, type Logger } from '../core/log.ts'
import type { Pod, Route } from '../core/types/index.ts'
import type { RouterConfig } from '../machines/layout.ts'
import { type Desired, desiredOf, hostOf } from './desired.ts'
import { joinOverlay } from './overlay.ts'
import { type Plan, planOf } from './plan.ts'
import { Proxy } from './proxy.ts'

/** Changes that come together are one change of the proxy: this long after the first of them. */
const GATHER_MS = 5

export async function runRouter(config: RouterConfig): Promise<{ close(): Promise<void> }> {
  const log = lineLogger('router', text => process.stderr.write(text))
  const read = (file: string) => readFileSync(file, 'utf8')
  const client = connect({
    servers: config.servers, tls: { ca: read(config.tls.ca), cert: read(config.tls.cert), key: read(config.tls.key) }, userAgent: 'gantry-router',
  })
  const overlay = config.joinOverlay ? await joinOverlay(client, config, log) : undefined
  const router = new Router(client, config, new Proxy(config, log), log)
  await router.start()
  return {
    async close() {
      router.close()
      await overlay?.close()
      client.close()
    },
  }
}

class Router {
  readonly #client: Client
  readonly #config: RouterConfig
  readonly #proxy: Proxy
  readonly #log: Logger
  readonly #routes
  readonly #services
  readonly #slices
  /** Watched only while a route chooses Pods by labels. */
  #pods: Informer<Pod> | undefined
  #plan: Plan | undefined
  readonly #held = new Map<string, string>()
  #timer: NodeJS.Timeout | undefined
  #running = Promise.resolve()

  constructor(client: Client, config: RouterConfig, proxy: Proxy, log: Logger) {
    this.#client = client
    this.#config = config
    this.#proxy = proxy
    this.#log = log
    this.#routes = client.informer(routes)
    this.#services = client.informer(services)
    this.#slices = client.informer(endpointSlices, {
      indexes: { service: s => [`${s.metadata.namespace}/${s.metadata.labels?.['kubernetes.io/service-name']}`] },
    })
  }

  async start(): Promise<void> {
    // Nothing is told to the proxy before all is known: it goes on with what it has.
    await Promise.all([this.#routes.synced, this.#services.synced, this.#slices.synced])
    for (const i of [this.#routes, this.#services, this.#slices]) i.on(() => this.#changed())
    this.#changed()
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const i of [this.#routes, this.#services, this.#slices, this.#pods]) i?.stop()
    this.#proxy.close()
  }

  /** Updates run one after the other; changes meanwhile lead to one more. */
  #changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#running = this.#running.then(() => {
        this.#timer = undefined
        return this.#update()
      }).catch((e: Error) => this.#log.error('routes could not be worked out', { error: e.stack }))
    }, GATHER_MS)
  }

  async #update(): Promise<void> {
    await this.#watchPodsIfNeeded()
    const desired = desiredOf(this.#routes.list(), {
      service: key => this.#services.get(key),
      slices: key => this.#slices.byIndex('service', key),
      pods: namespace => this.#pods?.byIndex('namespace', namespace) ?? [],
    }, { domain: this.#config.domain, reservedPorts: this.#reservedPorts() })
    this.#plan = planOf(desired, this.#plan, this.#held)
    this.#proxy.apply(this.#plan)
    await this.#report(desired)
  }

  #reservedPorts(): Set<number> {
    return new Set([this.#config.httpPort, ...this.#config.servers.map(s => Number(new URL(s).port))])
  }

  async #watchPodsIfNeeded(): Promise<void> {
    if (this.#pods !== undefined || ![...this.#routes.list()].some(r => r.spec.backend.selector !== undefined)) return
    this.#pods = this.#client.informer(pods, { indexes: { namespace: p => [p.metadata.namespace ?? ''] } })
    await this.#pods.synced
    this.#pods.on(() => this.#changed())
  }

  /** Says in each Route's status where it is and how many instances answer. */
  async #report(desired: Desired): Promise<void> {
    const refused = new Map(desired.refusals.map(r => [r.route, r]))
    const ways = new Map(desired.ways.map(w => [w.route, w]))
    for (const route of this.#routes.list()) {
      const key = keyOf(route)
      const refusal = refused.get(key)
      const status: NonNullable<Route['status']> = {
        ...(refusal === undefined && { url: this.#urlOf(route), endpoints: ways.get(key)?.targets.length ?? 0 }),
        conditions: [{
          type: 'Accepted', status: refusal === undefined ? 'True' : 'False',
          reason: refusal?.reason ?? 'Accepted', message: refusal?.message ?? '',
          lastTransitionTime: transitionOf(route, refusal === undefined),
        }],
      }
      if (JSON.stringify(status) === JSON.stringify(sortedLike(route.status))) continue
      await this.#client.patch(routes, route.metadata, 'merge', { status: { url: null, endpoints: null, ...status } }, { subresource: 'status' })
        .catch((e: Error) => this.#log.warn('a route\'s status could not be written', { route: key, error: e.message }))
    }
  }

  #urlOf(route: Route): string {
    if (route.spec.tcpPort !== undefined) return `tcp://${this.#config.domain}:${route.spec.tcpPort}`
    const port = this.#config.httpPort === 80 ? '' : `:${this.#config.httpPort}`
    return `http://${hostOf(route, this.#config.domain)}${port}${route.spec.path ?? '/'}`
  }
}

/** Now, unless the condition said the same before. */
function transitionOf(route: Route, accepted: boolean): string {
  const before = route.status?.conditions?.find(c => c.type === 'Accepted')
  return before?.status === (accepted ? 'True' : 'False') && before.lastTransitionTime !== undefined
    ? before.lastTransitionTime : new Date().toISOString().replace(/\.\d+Z$/, 'Z')
}

/** The status with its fields in the order this file writes them, so that equal ones compare equal. */
function sortedLike(s: Route['status']): Route['status'] {
  if (s === undefined) return undefined
  return {
    ...(s.url !== undefined && { url: s.url, endpoints: s.endpoints ?? 0 }),
    conditions: (s.conditions ?? []).map(c => ({
      type: c.type, status: c.status, reason: c.reason, message: c.message ?? '', lastTransitionTime: c.lastTransitionTime,
    })) as never,
  }
}
