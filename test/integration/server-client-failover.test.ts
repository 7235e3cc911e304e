/** The remote client while its server is killed in the midst of writes, again and again. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { RemoteClient } from '../../src/client/client.ts'
import { ApiError, isReason } from '../../src/core/errors.ts'
import { configMaps } from '../../src/core/kinds.ts'
import { startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'

const KILLS = 4
const WRITERS = 6
let server: ServerProcess
let client: RemoteClient

before(async () => {
  server = await startServerProcess()
  client = await server.client()
})
after(() => server?.cleanUp())

test('no acknowledged write is lost and informers end up equal to a list', async () => {
  const watcher = await server.client()
  const informer = watcher.informer(configMaps, { namespace: 'default', labelSelector: 'chaos=yes' })
  const newest = new Map<string, number>()
  let backwards = 0
  informer.on((type, object) => {
    const revision = Number(object.metadata.resourceVersion)
    if (type !== 'DELETED' && revision <= (newest.get(object.metadata.name) ?? 0)) backwards++
    newest.set(object.metadata.name, revision)
  })
  await informer.synced

  /** What each object must at least be at, by acknowledged writes; null: its deletion was acknowledged. */
  const acknowledged = new Map<string, number | null>()
  let stop = false
  let failed = 0
  const write = async (writer: number): Promise<void> => {
    for (let n = 0; !stop; n++) {
      const name = `w${writer}-${n % 20}`
      const key = { namespace: 'default', name }
      try {
        if (n % 7 === 6) {
          await client.delete(configMaps, key).catch((e: unknown) => { if (!isReason(e, 'NotFound')) throw e })
          acknowledged.set(name, null)
        } else {
          const data = { n: String(n) }
          const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...key, labels: { chaos: 'yes' } }, data }
          await client.create(configMaps, object).catch((e: unknown) => {
            if (!isReason(e, 'AlreadyExists')) throw e
            return client.patch(configMaps, key, 'merge', { data })
          })
          acknowledged.set(name, n)
        }
      } catch (e) {
        assert.ok(e instanceof ApiError, String(e))
        assert.equal(e.reason, 'ServiceUnavailable', e.message)
        failed++
        // Whether it happened nobody knows: it is asked for again, as a controller would.
        acknowledged.delete(name)
        await delay(20)
      }
    }
  }
  const writers = Array.from({ length: WRITERS }, (_, i) => write(i))
  for (let kill = 0; kill < KILLS; kill++) {
    await delay(400)
    await server.kill()
    await delay(100)
    await server.start()
  }
  await delay(400)
  stop = true
  await Promise.all(writers)
  assert.ok(failed > 0, 'the kills hit no write: the test proves nothing')
  assert.ok(acknowledged.size > 20, `only ${acknowledged.size} writes were acknowledged`)

  const list = await client.list(configMaps, { namespace: 'default', labelSelector: 'chaos=yes' })
  const present = new Map(list.items.map((c) => [c.metadata.name, Number(c.data?.['n'])]))
  for (const [name, n] of acknowledged) {
    if (n === null) assert.equal(present.has(name), false, `${name} is back after its acknowledged deletion`)
    else assert.equal(present.get(name), n, `${name} lost an acknowledged write`)
  }
  const state = (items: Iterable<{ metadata: { name: string; resourceVersion?: string } }>) => [...items].map((c) => `${c.metadata.name}@${c.metadata.resourceVersion}`).sort()
  const end = Date.now() + 5000
  while (state(informer.list()).join() !== state(list.items).join() && Date.now() < end) await delay(20)
  assert.deepEqual(state(informer.list()), state(list.items))
  assert.equal(backwards, 0)
})
