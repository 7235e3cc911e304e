/** A server whose store's thread has died says so, and asks to be started anew. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { startTestServer } from './testing/start.ts'

test('a lost store fails /readyz and every write; reads go on until the restart', async t => {
  let worker: Worker | undefined
  process.once('worker', w => { worker = w })
  const s = await startTestServer()
  t.after(() => s.close())
  assert.equal((await s.call('GET', '/readyz')).status, 200)
  await worker!.terminate()
  const ready = await s.call('GET', '/readyz')
  assert.equal(ready.status, 503)
  assert.match(ready.text, /store: the store is lost/)
  const write = await s.call('POST', '/api/v1/namespaces', { metadata: { name: 'x' } })
  assert.equal(write.status, 500)
  assert.equal((await s.call('GET', '/api/v1/namespaces/default')).status, 200)
  assert.match((await s.lost()).message, /the store is lost/)
  await s.restart()
  assert.equal((await s.call('POST', '/api/v1/namespaces', { metadata: { name: 'x' } })).status, 201)
})
