import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clone } from '../clone.ts'
import { ApiError } from '../errors.ts'
import { configMaps, deployments } from '../kinds.ts'
import type { ConfigMap, Deployment, ManagedFieldsEntry } from '../types/index.ts'
import { serverSideApply } from './apply.ts'
import { difference, intersection, pathsOf, union } from './field-set.ts'
import { trackUpdate } from './managed.ts'

const t0 = new Date('2026-01-01T00:00:00Z')
const t1 = new Date('2026-01-01T00:01:00Z')
const options = (manager: string, force = false) => ({ manager, force, now: t0 })

const configMap = (data: Record<string, string>, extra: object = {}): ConfigMap =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'n', ...extra }, data })
function deployment(replicas: number | undefined, containers: object[], labels?: Record<string, string>): Deployment {
  return {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', namespace: 'n', ...(labels && { labels }) },
    spec: { ...(replicas !== undefined && { replicas }), selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers } } },
  } as Deployment
}
const managers = (o: { metadata: { managedFields?: ManagedFieldsEntry[] } }): string[] =>
  (o.metadata.managedFields ?? []).map(e => `${e.manager}/${e.operation}`)
const owned = (o: { metadata: { managedFields?: ManagedFieldsEntry[] } }, manager: string): string[] =>
  pathsOf((o.metadata.managedFields?.find(e => e.manager === manager)?.fieldsV1 ?? {}) as never)

test('sets of fields', () => {
  const a = { 'f:x': {}, 'f:y': { 'f:z': {} } }
  const b = { 'f:y': { '.': {}, 'f:q': {} } }
  assert.deepEqual(union(a, b), { 'f:x': {}, 'f:y': { 'f:z': {}, '.': {}, 'f:q': {} } })
  assert.deepEqual(union({ 'f:y': {} }, { 'f:y': { 'f:z': {} } }), { 'f:y': { 'f:z': {}, '.': {} } })
  assert.deepEqual(difference(union(a, b), b), a)
  assert.deepEqual(difference({ 'f:y': { '.': {}, 'f:z': {} } }, { 'f:y': { 'f:z': {} } }), { 'f:y': {} })
  assert.deepEqual(difference(a, { 'f:y': { '*': {} } }), { 'f:x': {} })
  assert.deepEqual(intersection(union(a, b), b), b)
  assert.deepEqual(pathsOf({ 'f:spec': { 'f:l': { 'k:{"name":"a","p":1}': { '.': {}, 'f:i': {} }, 'v:"s"': {} } } }),
    ['.spec.l[name="a",p=1]', '.spec.l[name="a",p=1].i', '.spec.l[="s"]'])
})

test('a create and updates are tracked', () => {
  const first = deployment(1, [{ name: 'c', image: 'x', ports: [{ containerPort: 80 }], resources: {} }], { l: '1' })
  trackUpdate(undefined, first, 'kubectl-create', '', t0)
  assert.deepEqual(first.metadata.managedFields, [{
    manager: 'kubectl-create', operation: 'Update', apiVersion: 'apps/v1', time: '2026-01-01T00:00:00Z', fieldsType: 'FieldsV1',
    fieldsV1: {
      'f:metadata': { 'f:labels': { '.': {}, 'f:l': {} } },
      'f:spec': {
        'f:replicas': {}, 'f:selector': {},
        'f:template': {
          'f:metadata': { 'f:labels': { '.': {}, 'f:a': {} } },
          'f:spec': {
            'f:containers': {
              'k:{"name":"c"}': {
                '.': {}, 'f:name': {}, 'f:image': {}, 'f:resources': {},
                'f:ports': { '.': {}, 'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} } },
              },
            },
          },
        },
      },
    },
  }])
  const second = clone(first)
  second.spec.replicas = 2
  second.metadata.labels = { m: '2' }
  trackUpdate(first, second, 'scaler', '', t1)
  assert.deepEqual(owned(second, 'scaler'), ['.metadata.labels.m', '.spec.replicas'])
  assert.equal(owned(second, 'kubectl-create').includes('.spec.replicas'), false)
  assert.equal(owned(second, 'kubectl-create').includes('.metadata.labels.l'), false)
  assert.equal(owned(second, 'kubectl-create').includes('.metadata.labels'), true)
  const third = clone(second)
  trackUpdate(second, third, 'other', '', t1)
  assert.deepEqual(third.metadata.managedFields, second.metadata.managedFields)
  const status = clone(second) as Deployment
  status.status = { replicas: 2 }
  trackUpdate(second, status, 'controller', 'status', t1)
  assert.equal(status.metadata.managedFields?.find(e => e.manager === 'controller')?.subresource, 'status')
  const cleared = { ...clone(status), metadata: { ...status.metadata, managedFields: [{}] } }
  trackUpdate(status, cleared, 'x', '', t1)
  assert.equal(cleared.metadata.managedFields, undefined)
})

test('many updaters are merged into one', () => {
  let live = configMap({ k0: '0' })
  trackUpdate(undefined, live, 'm0', '', t0)
  for (let i = 1; i <= 15; i++) {
    const next = clone(live)
    next.data = { ...next.data, [`k${i}`]: '' }
    trackUpdate(live, next, `m${i}`, '', new Date(t0.getTime() + i * 1000))
    live = next
  }
  assert.equal(live.metadata.managedFields?.length, 10)
  assert.equal(managers(live)[0], 'ancient-changes/Update')
  assert.ok(owned(live, 'ancient-changes').includes('.data.k1'))
})

test('apply creates, is idempotent, and removes what it no longer names', () => {
  const created = serverSideApply(configMaps, undefined, configMap({ a: '1', b: '2' }), options('me'))
  assert.deepEqual(created.metadata.managedFields?.[0]?.fieldsV1, { 'f:data': { 'f:a': {}, 'f:b': {} } })
  assert.deepEqual(serverSideApply(configMaps, created, configMap({ a: '1', b: '2' }), { ...options('me'), now: t1 }), created)
  const fewer = serverSideApply(configMaps, created, configMap({ a: '1' }), options('me'))
  assert.deepEqual(fewer.data, { a: '1' })
  const none = serverSideApply(configMaps, fewer, { apiVersion: 'v1', kind: 'ConfigMap',
    metadata: { name: 'c', namespace: 'n' } }, options('me'))
  assert.deepEqual([none.data, none.metadata.managedFields], [undefined, []])
})

test('conflicts, force, shared ownership', () => {
  const live = serverSideApply(deployments, undefined, deployment(1, [{ name: 'c', image: 'x' }]), options('a'))
  assert.throws(() => serverSideApply(deployments, live, deployment(5, [{ name: 'c', image: 'x' }]), options('b')),
    (e: unknown) => {
    assert.ok(e instanceof ApiError)
    assert.equal(e.message, 'Apply failed with 1 conflict: conflict with "a" using apps/v1: .spec.replicas')
    assert.deepEqual(e.details?.causes, [{ reason: 'FieldManagerConflict', message: 'conflict with "a" using apps/v1',
      field: '.spec.replicas' }])
    return e.code === 409
  })
  const forced = serverSideApply(deployments, live, deployment(5, [{ name: 'c', image: 'x' }]), options('b', true))
  assert.equal(forced.spec.replicas, 5)
  assert.equal(owned(forced, 'a').includes('.spec.replicas'), false)
  // a no longer names replicas: b owns it, so it stays. The image is shared: dropping it by one keeps it.
  const dropped = serverSideApply(deployments, forced, deployment(undefined, [{ name: 'c' }]), options('a'))
  assert.deepEqual([dropped.spec.replicas, dropped.spec.template.spec.containers[0]?.image], [5, 'x'])
  const both = serverSideApply(deployments, dropped, deployment(5, [{ name: 'c' }]), options('b'))
  assert.equal(both.spec.template.spec.containers[0]?.image, undefined)
  assert.throws(() => serverSideApply(deployments, live, deployment(2, [{ name: 'c', image: 'y' }]), options('b')),
    /Apply failed with 2 conflicts: conflicts with "a" using apps\/v1:\n- /)
})

test('list items by key and order', () => {
  const live = serverSideApply(deployments, undefined, deployment(1, [{ name: 'a', image: '1' }, { name: 'b', image: '1' }]),
    options('me'))
  const other = serverSideApply(deployments, live, {
    ...deployment(undefined, [{ name: 'side', image: 's' }]),
  }, options('injector'))
  assert.deepEqual(other.spec.template.spec.containers.map(c => c.name), ['a', 'b', 'side'])
  const swapped = serverSideApply(deployments, other, deployment(1, [{ name: 'b', image: '1' }, { name: 'new', image: 'n' }]),
    options('me'))
  assert.deepEqual(swapped.spec.template.spec.containers.map(c => c.name), ['b', 'side', 'new'])
})

test('what was there before the first apply has an owner', () => {
  const untracked = configMap({ a: '1', b: '2' }, { uid: 'u', resourceVersion: '7', creationTimestamp: '2020-01-01T00:00:00Z' })
  const next = serverSideApply(configMaps, untracked, configMap({ a: '1' }), options('me'))
  assert.deepEqual(managers(next), ['me/Apply', 'before-first-apply/Update'])
  assert.deepEqual([next.data, next.metadata.uid, next.metadata.resourceVersion], [{ a: '1', b: '2' }, 'u', '7'])
  assert.throws(() => serverSideApply(configMaps, untracked, configMap({ a: '2' }), options('me')),
    /conflict with "before-first-apply" using v1: \.data\.a/)
})

test('an apply needs a manager and no managedFields', () => {
  assert.throws(() => serverSideApply(configMaps, undefined, configMap({}), options('')), { reason: 'Invalid' })
  assert.throws(() => serverSideApply(configMaps, undefined, configMap({}), options('x'.repeat(129))), { reason: 'Invalid' })
  assert.throws(() => serverSideApply(configMaps, undefined, configMap({}, { managedFields: [{ manager: 'x' }] }), options('a')),
    { reason: 'BadRequest' })
})
