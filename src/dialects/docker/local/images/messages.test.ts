/** Progress lines byte for byte as dockerd 20.10 wrote them to a registry of the same machine. */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { toMessage } from './messages.ts'

test('progress lines', () => {
  assert.equal(JSON.stringify(toMessage({ id: '29fcb47950ad', status: 'Pushing', currentBytes: 2557440, totalBytes: 4982263 })),
    '{"status":"Pushing","progressDetail":{"current":2557440,"total":4982263},"progress":"[=========================>                         ]  2.557MB/4.982MB","id":"29fcb47950ad"}')
  assert.equal(toMessage({ id: 'x', status: 'Pushing', currentBytes: 1536 }).progress, ' 1.536kB')
  assert.equal(toMessage({ id: 'x', status: 'Pushing', currentBytes: 4986880, totalBytes: 4982263 }).progress, `[${'='.repeat(50)}>]  4.987MB`)
  assert.equal(toMessage({ id: 'x', status: 'Downloading', currentBytes: 94, totalBytes: 94 }).progress, `[${'='.repeat(50)}>]      94B/94B`)
  assert.deepEqual(toMessage({ id: '1', status: 'Pulling from team/app' }), { status: 'Pulling from team/app', id: '1' })
  assert.deepEqual(toMessage({ id: 'x', status: 'Pull complete' }), { status: 'Pull complete', progressDetail: {}, id: 'x' })
  assert.deepEqual(toMessage({ status: 'Digest: d' }), { status: 'Digest: d' })
  assert.deepEqual(toMessage({ status: '', stream: 'Loaded image: a\n' }), { stream: 'Loaded image: a\n' })
})
