import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clone } from '../clone.ts'
import { ApiError, isReason } from '../errors.ts'
import { configMaps, deployments, pods } from '../kinds.ts'
import { defineKind } from '../kinds.ts'
import type { ApiObject, Deployment, Pod } from '../types/index.ts'
import { jsonPatch } from './json-patch.ts'
import { mergePatch } from './merge-patch.ts'
import { applyPatch } from './patch.ts'

test('JSON patch', () => {
  const doc = { a: { b: [1, 2, 3] }, 'x/y': { '~': 1 }, n: null }
  const cases: [unknown[], unknown][] = [
    [[{ op: 'add', path: '/a/b/-', value: 4 }], { ...doc, a: { b: [1, 2, 3, 4] } }],
    [[{ op: 'add', path: '/a/b/0', value: 0 }], { ...doc, a: { b: [0, 1, 2, 3] } }],
    [[{ op: 'remove', path: '/a/b/1' }], { ...doc, a: { b: [1, 3] } }],
    [[{ op: 'replace', path: '/x~1y/~0', value: 2 }], { ...doc, 'x/y': { '~': 2 } }],
    [[{ op: 'move', from: '/a/b', path: '/c' }], { a: {}, 'x/y': { '~': 1 }, n: null, c: [1, 2, 3] }],
    [[{ op: 'copy', from: '/a/b/0', path: '/c' }, { op: 'test', path: '/c', value: 1 }], { ...doc, c: 1 }],
    [[{ op: 'test', path: '/missing', value: null }], doc],
    [[{ op: 'replace', path: '', value: 7 }], 7],
  ]
  for (const [operations, expected] of cases) assert.deepEqual(jsonPatch(doc, operations), expected, JSON.stringify(operations))
  assert.deepEqual(doc, { a: { b: [1, 2, 3] }, 'x/y': { '~': 1 }, n: null })
  for (const op of [
    { op: 'remove', path: '/zz' }, { op: 'replace', path: '/zz', value: 1 }, { op: 'add', path: '/zz/y', value: 1 },
      { op: 'add', path: '/a/b/9', value: 1 },
    { op: 'add', path: '/a/b/01', value: 1 }, { op: 'test', path: '/a', value: 1 }, { op: 'move', from: '/a', path: '/a/b/0' },
      { op: 'remove', path: '' },
    { op: 'add', path: '/toString/x', value: 1 }, { op: 'remove', path: '/constructor' },
  ]) assert.throws(() => jsonPatch(doc, [op]), e => isReason(e, 'Invalid'), JSON.stringify(op))
  for (const bad of [{}, [1], [{ op: 'nope', path: '/a' }], [{ op: 'add', path: 'a', value: 1 }], [{ op: 'add', path: '/q' }],
    [{ path: '/a' }], 'x']) {
    assert.throws(() => jsonPatch(doc, bad), e => isReason(e, 'BadRequest'), JSON.stringify(bad))
  }
  assert.throws(() => jsonPatch(doc, Array(10_001).fill({ op: 'test', path: '', value: doc })),
    { reason: 'RequestEntityTooLarge' })
  jsonPatch(doc, [{ op: 'add', path: '/__proto__', value: { polluted: 1 } }])
  assert.equal(({} as { polluted?: number }).polluted, undefined)
})

test('merge patch', () => {
  assert.deepEqual(mergePatch({ a: { b: 1, c: 2 }, l: [1] }, { a: { b: null, d: { e: null, f: 1 } }, l: [2] }),
    { a: { c: 2, d: { f: 1 } }, l: [2] })
  assert.deepEqual(mergePatch('x', { a: 1 }), { a: 1 })
  mergePatch({}, JSON.parse('{"__proto__":{"polluted":1}}'))
  assert.equal(({} as { polluted?: number }).polluted, undefined)
  const current = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { a: '1' } }
  const next = applyPatch(configMaps, 'merge', current, { data: { b: '2' } })
  next.metadata.labels = { x: 'y' }
  assert.deepEqual(current, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { a: '1' } })
  assert.throws(() => applyPatch(configMaps, 'merge', current, { metadata: null }), { reason: 'BadRequest' })
})

const pod: Pod = {
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', finalizers: ['a/a', 'b/b'] },
  spec: {
    containers: [
      { name: 'a', image: 'a:1', env: [{ name: 'X', value: '1' }, { name: 'Y', value: '2' }],
        ports: [{ containerPort: 80, name: 'http' }] },
      { name: 'b', image: 'b:1', command: ['run'] },
    ],
    volumes: [{ name: 'v', emptyDir: {} }], nodeSelector: { disk: 'ssd' }, tolerations: [{ key: 'k', operator: 'Exists' }],
  },
}
const strategic = (patch: unknown): Pod => applyPatch(pods, 'strategic', pod, patch)

test('strategic merge: lists by key, atomic lists, nulls', () => {
  const before = clone(pod)
  const next = strategic({
    spec: {
      containers: [{ name: 'b', image: 'b:2' }, { name: 'c', image: 'c:1' },
        { name: 'a', env: [{ name: 'Y', value: '9' }, { name: 'Z', value: '3' }],
        ports: [{ containerPort: 80, protocol: 'TCP' }] }],
      nodeSelector: { disk: null, zone: 'z' }, tolerations: [],
    },
  })
  assert.deepEqual(next.spec.containers, [
    { name: 'a', image: 'a:1', env: [{ name: 'X', value: '1' }, { name: 'Y', value: '9' }, { name: 'Z', value: '3' }],
      ports: [{ containerPort: 80, name: 'http', protocol: 'TCP' }] },
    { name: 'b', image: 'b:2', command: ['run'] }, { name: 'c', image: 'c:1' },
  ])
  assert.deepEqual([next.spec.nodeSelector, next.spec.tolerations], [{ zone: 'z' }, []])
  assert.deepEqual(strategic({ spec: { containers: [{ name: 'b', command: ['other'] }] } }).spec.containers[1]?.command,
    ['other'])
  assert.deepEqual(pod, before)
})

test('strategic merge: directives', () => {
  assert.deepEqual(strategic({ spec: { containers: [{ name: 'a', $patch: 'delete' }] } }).spec.containers.map(c => c.name), ['b'])
  assert.deepEqual(strategic({ spec: { containers: [{ $patch: 'replace' }, { name: 'z', image: 'z' }] } }).spec.containers,
    [{ name: 'z', image: 'z' }])
  assert.deepEqual(strategic({ spec: { nodeSelector: { $patch: 'replace', a: 'b' } } }).spec.nodeSelector, { a: 'b' })
  assert.equal(strategic({ spec: { nodeSelector: { $patch: 'delete' } } }).spec.nodeSelector, undefined)
  assert.deepEqual(strategic({ metadata: { finalizers: ['c/c', 'a/a'] } }).metadata.finalizers, ['a/a', 'b/b', 'c/c'])
  assert.deepEqual(strategic({ metadata: { '$deleteFromPrimitiveList/finalizers': ['a/a'] } }).metadata.finalizers, ['b/b'])
  assert.deepEqual(strategic({ spec: { '$setElementOrder/containers': [{ name: 'c' }, { name: 'b' }, { name: 'a' }],
    containers: [{ name: 'c', image: 'c' }] } }).spec.containers.map(c => c.name), ['c', 'b', 'a'])
  assert.deepEqual(strategic({ spec: { volumes: [{ name: 'v', $retainKeys: ['name', 'hostPath'],
    hostPath: { path: '/x' } }] } }).spec.volumes, [{ name: 'v', hostPath: { path: '/x' } }])
  const deployment = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd' },
    spec: { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1 } } } } as Deployment
  assert.deepEqual(applyPatch(deployments, 'strategic', deployment,
    { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } }).spec.strategy, { type: 'Recreate' })
  for (const bad of [{ $patch: 'explode' }, { spec: { containers: [{ image: 'x' }] } }, { spec: { containers: ['x'] } },
    { spec: { $retainKeys: 1 } }, [], 'x', { metadata: { '$deleteFromPrimitiveList/finalizers': 1 } }]) {
    assert.throws(() => strategic(bad), e => isReason(e, 'BadRequest'), JSON.stringify(bad))
  }
})

test('strategic merge needs a table', () => {
  const kind = defineKind({ group: 'example.org', version: 'v1', kind: 'Thing', plural: 'things' })
  assert.throws(() => applyPatch(kind, 'strategic', { apiVersion: 'example.org/v1', kind: 'Thing', metadata: { name: 'x' } }, {}),
    { reason: 'UnsupportedMediaType' })
})

test('garbage patches end in ApiError', () => {
  const junk: unknown[] = [1, 'x', [], null, true, {}, [[]], [{}], { $patch: 'delete' }, { a: null }]
  for (const type of ['json', 'merge', 'strategic'] as const) {
    for (const value of junk) {
      for (const body of [value, { spec: value }, { spec: { containers: value } }, { metadata: value },
        { spec: { '$setElementOrder/containers': value } }, [{ op: 'add', path: '/spec', value }]]) {
        try {
          applyPatch(pods, type, pod as ApiObject as Pod, body)
        } catch (e) {
          assert.ok(e instanceof ApiError, `${type} ${JSON.stringify(body)}: ${String((e as Error).stack)}`)
        }
      }
    }
  }
})
