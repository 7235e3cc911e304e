import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InformerCache } from './informer-cache.ts'
import type { Pod } from './types/index.ts'

function pod(name: string, revision: number, nodeName?: string, uid = name): Pod {
  return {
    apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'n', uid, resourceVersion: String(revision) },
    spec: { containers: [], ...(nodeName !== undefined && { nodeName }) },
  }
}
const byNode = { node: (p: Pod) => p.spec.nodeName ? [p.spec.nodeName] : [] }
const names = (pods: Iterable<Pod>): string[] => [...pods].map(p => p.metadata.name)

test('events, replay and indexes', () => {
  const cache = new InformerCache<Pod>(byNode)
  const seen: string[] = []
  cache.apply('ADDED', pod('a', 1))
  const off = cache.on((type, o, old) => seen.push(`${type} ${o.metadata.name} ${old?.metadata.resourceVersion ?? '-'}`))
  cache.apply('MODIFIED', pod('a', 2, 'n1'))
  cache.apply('MODIFIED', pod('a', 2, 'n1'))
  cache.apply('ADDED', pod('b', 3, 'n1'))
  assert.deepEqual(names(cache.byIndex('node', 'n1')), ['a', 'b'])
  cache.apply('MODIFIED', pod('a', 4, 'n2'))
  assert.deepEqual(names(cache.byIndex('node', 'n1')), ['b'])
  assert.equal([...cache.byIndex('node', 'n2')][0]?.metadata.resourceVersion, '4')
  cache.apply('DELETED', pod('a', 5, 'n2'))
  cache.apply('DELETED', pod('a', 5, 'n2'))
  assert.deepEqual(names(cache.byIndex('node', 'n2')), [])
  off()
  cache.apply('DELETED', pod('b', 6))
  assert.deepEqual(seen, ['ADDED a -', 'MODIFIED a 1', 'ADDED b -', 'MODIFIED a 2', 'DELETED a 4'])
  assert.equal(cache.size, 0)
  assert.throws(() => cache.byIndex('nope', 'x'), /no index nope/)
})

test('a relist gives the difference', () => {
  const cache = new InformerCache<Pod>(byNode)
  for (const p of [pod('gone', 1, 'n1'), pod('same', 2), pod('changed', 3, 'n1'),
    pod('reborn', 4, 'n1', 'u1')]) cache.apply('ADDED', p)
  const seen: string[] = []
  cache.on((type, o) => seen.push(`${type} ${o.metadata.name}`))
  seen.length = 0
  cache.replace([pod('same', 2), pod('changed', 9, 'n2'), pod('reborn', 8, 'n1', 'u2'), pod('new', 7)])
  assert.deepEqual(seen, ['DELETED gone', 'DELETED reborn', 'MODIFIED changed', 'ADDED reborn', 'ADDED new'])
  assert.deepEqual(names(cache.byIndex('node', 'n1')), ['reborn'])
  assert.equal(cache.get('n/changed')?.metadata.resourceVersion, '9')
})
