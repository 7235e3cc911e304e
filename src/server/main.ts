/**
 * The server daemon, put together: store, cache, registry, API, dialects; and, while this server leads, the controllers and
 * the scheduler. The one file of this room that knows the rooms above it.
 */
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { randomUUID } from 'node:crypto'
import { KindTable, machines } from '../core/kinds.ts'
import { lineLogger } from '../core/log.ts'
import type { Logger } from '../core/log.ts'
import { dialects } from '../dialects/index.ts'
import type { ServerConfig } from '../machines/layout.ts'
import { openSqliteStore } from '../store/sqlite.ts'
import type { Store } from '../store/store.ts'
import { ApiServer } from './api-server.ts'
import { admitObject, bootstrapRbac, createAuth, mountReviews } from './auth/index.ts'
import { Cache } from './cache.ts'
import { furnishCluster, furnishNamespace } from './furnish.ts'
import { Health, Metrics } from './health.ts'
import { Ipam } from './ipam.ts'
import { Leadership } from './leadership.ts'
import { Lister } from './listing.ts'
import { LocalClient } from './local-client.ts'
import { Registry } from './registry.ts'
import { mountStreams } from './streams/index.ts'
import { hostConnections } from './tunnel/host-liveness.ts'
import { Tunnels } from './tunnel/tunnels.ts'

const loadLeader = () => Promise.all([import('../controllers/index.ts'), import('../scheduler/index.ts')])

/** Loads the code that a server loads only after its start, so that all of it gets into the compile cache. */
export async function loadLater(): Promise<void> {
  // The thread's code cannot run here: it is compiled, and then fails.
  await Promise.all([loadLeader(), import('../store/sqlite-worker.ts').catch(() => undefined)])
}

export interface RunningServer {
  /** Where it listens; differs from the configuration for port 0. */
  port: number
  /** Finishes writes, ends watches and streams, closes the store. */
  close(): Promise<void>
  /** Resolves when the server can write no more and must be started anew. */
  lost: Promise<Error>
}

export interface ServerOptions {
  log?: Logger
  /** With false, neither controllers nor the scheduler run here (tests). */
  lead?: boolean
}


async function openStore(config: ServerConfig, onLost: (e: Error) => void): Promise<Store> {
  if (config.store.type === 'sqlite') {
    await mkdir(dirname(config.store.path), { recursive: true, mode: 0o700 })
    return openSqliteStore(config.store.path, onLost)
  }
  const { openEtcdStore } = await import('../store/etcd.ts')
  return openEtcdStore(config.store)
}

function readSecretsKey(path: string): Buffer {
  const key = Buffer.from(readFileSync(path, 'utf8').trim(), 'base64')
  if (key.length !== 32) throw new Error(`${path} must hold a 32-byte key in base64, and holds ${key.length} bytes`)
  return key
}

/** Resolves when the server listens. Rejects with what to mend in the configuration or on the host. */
export async function runServer(config: ServerConfig, options: ServerOptions = {}): Promise<RunningServer> {
  const log = options.log ?? lineLogger('server', line => process.stderr.write(line))
  const kinds = new KindTable()
  for (const d of dialects) for (const k of d.kinds ?? []) kinds.add(k)

  const advertised = new URL(config.advertise)
  const secretsKey = readSecretsKey(config.secretsKey)
  const ca = readFileSync(config.tls.ca, 'utf8')
  const ipam = new Ipam(config.cluster.serviceCIDR, config.cluster.clusterCIDR)
  const lost = Promise.withResolvers<Error>()
  const store = await openStore(config, lost.resolve)
  const stops: (() => void | Promise<void>)[] = [() => store.close()]
  const close = async (): Promise<void> => { for (const stop of stops.splice(0).reverse()) await stop() }
  try {
    const cache = new Cache(store, kinds.all(), secretsKey, log)
    await cache.start()
    stops.push(() => cache.stop())
    ipam.start(cache)
    stops.push(() => ipam.stop())
    const registry = new Registry(cache, kinds, ipam, (r, namespace) => furnishNamespace(r, namespace, ca))
    const lister = new Lister(cache)
    const client = new LocalClient(registry, lister)
    const auth = createAuth(config, client)
    stops.push(() => auth.stop())
    registry.admit = (user, kind, object, old) => admitObject(auth.authorizer, user, kind, object, old)

    const health = new Health()
    const metrics = new Metrics()
    const api = new ApiServer({
      config, registry, client, lister, health, metrics, log,
      authenticate: req => auth.authenticator.authenticate(req),
      authorize: (user, attributes) => auth.authorizer.authorize(user, attributes),
    })
    metrics.gauge('gantry_store_revision', 'Newest revision.', () => cache.revision())
    metrics.gauge('process_resident_memory_bytes', 'Memory of the process.', () => process.memoryUsage.rss())
    const tunnels = new Tunnels({ log })
    stops.push(() => tunnels.close())
    mountReviews(api, auth)
    mountStreams(api, tunnels)
    for (const d of dialects) d.mount?.(api)

    health.add({ name: 'store', failing: () => store.failing() })
    // First, so that nobody who is let in is told that he may not: agents that wait for the port come at once.
    await furnishCluster(registry)
    await bootstrapRbac(client, kinds.all())
    await auth.ready
    const port = await api.listen()
    stops.push(() => api.close())

    if (options.lead !== false) {
      const leadership = new Leadership(store, 'leader', `${hostname()}_${randomUUID()}`, log, async () => {
        // Loaded after the port is open: nobody waits for them.
        const [{ startControllers }, { startScheduler }] = await loadLeader()
        const hosts = client.informer(machines)
        const running: { stop(): void | Promise<void> }[] = [
          hosts,
          startScheduler(client, { logger: log }),
          startControllers(client, {
            logger: log, kinds: kinds.all(), rootCaPem: ca,
            onNodeConnection: hostConnections(handler => tunnels.onState(handler), node => hosts.get(node)?.status?.address),
            api: { addresses: [advertised.hostname], port: Number(advertised.port || 443), clusterIP: ipam.apiAddress },
          }),
        ]
        for (const d of dialects) running.push(...d.controllers?.(api) ?? [])
        return async () => { await Promise.all(running.map(r => r.stop())) }
      })
      leadership.start()
      stops.push(() => leadership.stop())
    }
    log.info('serving', { address: `https://${config.listen.host}:${port}`, store: config.store.type })
    return { port, close, lost: lost.promise }
  } catch (e) {
    await close()
    throw e
  }
}
