import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason } from '../core/errors.ts'
import { configMaps, secrets } from '../core/kinds.ts'
import type { ApiObject, ConfigMap } from '../core/types/index.ts'
import { Cached } from './cached.ts'
import { KindCache } from './cache.ts'
import type { CacheEvent } from './cache.ts'
import { Codec, storeKey } from './codec.ts'

const codec = new Codec(configMaps)
const object = (name: string): ConfigMap => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'n' }, data: { a: '1' } })
const cached = (name: string, revision: number): Cached => new Cached(codec, object(name), revision)

test('the history has an end: 410 behind it, each change once after it', () => {
  const cache = new KindCache(configMaps, codec, 100)
  for (let r = 101; r <= 10_201; r++) cache.apply('n/x', cached('x', r), r, 0)
  assert.throws(() => cache.watch(200, () => {}), e => isReason(e, 'Expired'))
  const seen: CacheEvent[] = []
  const stop = cache.watch(10_199, events => seen.push(...events))
  assert.deepEqual(seen.map(e => e.revision), [10_200, 10_201])
  const event = cache.apply('n/x', undefined, 10_202, 0)!
  cache.notify([event])
  assert.deepEqual([seen.length, seen[2]!.type, seen[2]!.current.object.metadata.resourceVersion], [3, 'DELETED', '10202'])
  stop()
  cache.notify([event])
  assert.equal(seen.length, 3)
  cache.apply('n/x', cached('x', 10_203), 10_203, 10 * 60_000)
  assert.throws(() => cache.watch(10_201, () => {}), e => isReason(e, 'Expired'), 'older than five minutes')
})

test('lists are in key order and are not touched by later changes', () => {
  const cache = new KindCache(configMaps, codec, 0)
  for (const [i, name] of ['b', 'a', 'c'].entries()) cache.apply(`n/${name}`, cached(name, i + 1), i + 1, 0)
  const list = cache.list()
  assert.deepEqual(list.map(c => c.object.metadata.name), ['a', 'b', 'c'])
  cache.apply('n/b', undefined, 4, 0)
  assert.equal(list.length, 3)
  assert.deepEqual(cache.list('n').map(c => c.object.metadata.name), ['a', 'c'])
  assert.deepEqual(cache.list('none'), [])
})

test('bytes are the object’s JSON with its revision, made once', () => {
  const plain = codec.encode(object('x'))
  const c = new Cached(codec, object('x'), 7, plain)
  assert.deepEqual(JSON.parse(c.bytes.toString()), JSON.parse(JSON.stringify(c.object)))
  assert.equal(c.bytes, c.bytes)
  assert.equal(JSON.parse(c.at(9).bytes.toString()).metadata.resourceVersion, '9')
})

test('sealed values open with the same key at the same place only', () => {
  const key = storeKey(secrets, 'n', 's')
  const sealing = new Codec(secrets, Buffer.alloc(32, 7))
  const plain = sealing.encode({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, data: { p: 'aGk=' } } as ApiObject)
  const sealed = sealing.seal(key, plain)
  assert.ok(!Buffer.from(sealed).includes('aGk='))
  assert.notDeepEqual(sealing.seal(key, plain), sealed, 'no nonce is used twice')
  assert.deepEqual(sealing.unseal(key, sealed), plain)
  assert.throws(() => sealing.unseal(storeKey(secrets, 'n', 'other'), sealed), /cannot be decrypted/)
  assert.throws(() => new Codec(secrets, Buffer.alloc(32, 8)).unseal(key, sealed), /another secrets key/)
  const changed = Buffer.from(sealed)
  changed[40]! ^= 1
  assert.throws(() => sealing.unseal(key, changed), /cannot be decrypted/)
})
