/** Both clients against real stores: what works through one works through the other. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clientConformance } from '../../src/client/conformance.ts'
import { KindTable } from '../../src/core/kinds.ts'
import { Cache } from '../../src/server/cache.ts'
import { furnishNamespace } from '../../src/server/furnish.ts'
import { Ipam } from '../../src/server/ipam.ts'
import { LocalClient } from '../../src/server/local-client.ts'
import { Registry } from '../../src/server/registry.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { startServerProcess } from './server-process.ts'

clientConformance('over HTTPS', async () => {
  const server = await startServerProcess()
  return { client: await server.client(), cleanUp: () => server.cleanUp() }
})

clientConformance('in process', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-local-client-'))
  const store = await openSqliteStore(join(dir, 'state.db'))
  const kinds = new KindTable()
  const cache = new Cache(store, kinds.all(), Buffer.alloc(32, 1), { info() {}, warn() {}, error() {} })
  await cache.start()
  const ipam = new Ipam('10.43.0.0/16', '10.42.0.0/16')
  ipam.start(cache)
  const client = new LocalClient(new Registry(cache, kinds, ipam, (registry, namespace) => furnishNamespace(registry, namespace, 'CA')))
  return {
    client,
    cleanUp: async () => {
      cache.stop()
      ipam.stop()
      await store.close()
      await rm(dir, { recursive: true })
    },
  }
})
