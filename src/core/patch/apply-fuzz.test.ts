import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clone, equal } from '../clone.ts'
import { deployments } from '../kinds.ts'
import { prepareCreate, prepareUpdate } from '../prepare.ts'
import type { Deployment } from '../types/index.ts'
import { serverSideApply } from './apply.ts'
import { difference, isEmpty, union } from './field-set.ts'
import type { FieldSet } from './field-set.ts'
import { ownedBy, trackUpdate } from './managed.ts'

/** A small reproducible generator (xorshift). */
function generator(seed: number): (n: number) => number {
  let x = seed * 2654435761 | 1
  return n => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (x >>> 0) % n
  }
}

function randomDeployment(r: (n: number) => number): Deployment {
  const some = <T>(items: T[]): T[] => items.filter(() => r(2) === 0)
  const containers = [{ name: 'main', image: `i:${r(3)}` }, ...some([{ name: 'a', image: 'a' },
    { name: 'b', image: `b:${r(2)}` }])]
    .map(c => ({ ...c, env: some(['X', 'Y', 'Z']).map(name => ({ name, value: String(r(3)) })),
      ...(r(2) === 0 && { resources: { limits: { cpu: `${r(2) + 1}` } } }) }))
  if (r(2) === 0) containers.reverse()
  return {
    apiVersion: 'apps/v1', kind: 'Deployment',
    metadata: { name: 'd', namespace: 'n', ...(r(2) === 0 && { labels: Object.fromEntries(some(['l', 'm']).map(k =>
      [k, String(r(2))])) }) },
    spec: { ...(r(2) === 0 && { replicas: r(4) }), selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers } } },
  } as Deployment
}

/** Everything in `part` is in `whole`: members, and items of lists by name. */
function contains(whole: unknown, part: unknown): boolean {
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.every(item => whole.some(other =>
      (other as { name: string }).name === (item as { name: string }).name && contains(other, item)))
  }
  if (typeof part !== 'object' || part === null) return part === whole
  return typeof whole === 'object' && whole !== null
    && Object.entries(part).every(([k, v]) => (Array.isArray(v) && v.length === 0)
      || contains((whole as Record<string, unknown>)[k], v))
}

test('any sequence of applies and updates keeps objects and their ownership in step', () => {
  const ctx = { now: new Date(0), uuid: () => 'u', random: () => 0 }
  let refused = 0
  let steps = 0
  for (let seed = 1; seed <= 60; seed++) {
    const r = generator(seed)
    let live: Deployment | undefined
    for (let step = 0; step < 12; step++) {
      steps++
      const now = new Date(step * 1000)
      const wanted = randomDeployment(r)
      const before = live && clone(live)
      let next: Deployment
      if (r(3) > 0) {
        const options = { manager: `m${r(3)}`, force: true, now }
        const applied = serverSideApply(deployments, live, wanted, options)
        try {
          next = live ? prepareUpdate(deployments, applied, live, ctx) : prepareCreate(deployments, applied, ctx)
        } catch (e) {
          // One manager drops a container of which another still owns a part: what is left has no image.
          assert.match((e as Error).message, /\.image: Required value$/)
          refused++
          continue
        }
        const { managedFields: _, ...metadata } = next.metadata
        assert.ok(contains({ ...next, metadata }, wanted), `seed ${seed} step ${step}: lacks what was applied`)
        const again = serverSideApply(deployments, next, wanted, { ...options, now: new Date(9e9) })
        assert.deepEqual(prepareUpdate(deployments, again, next, ctx), next, `seed ${seed} step ${step}: not idempotent`)
      } else {
        next = live ? prepareUpdate(deployments, wanted, live, ctx) : prepareCreate(deployments, wanted, ctx)
        trackUpdate(live, next, `u${r(2)}`, '', now)
        const owners = (next.metadata.managedFields ?? []).reduce<FieldSet>((set, e) => union(set, e.fieldsV1 as FieldSet), {})
        const phantom = difference(leaves(owners), ownedBy(next, true))
        assert.ok(isEmpty(phantom), `seed ${seed} step ${step}: owned but absent ${JSON.stringify(phantom)}`)
      }
      assert.ok(equal(live, before), 'the live object was changed')
      live = next
    }
  }
  assert.ok(refused < steps / 4, `${refused} of ${steps} steps were refused`)
})

/** Only the paths without anything below: containers may be owned while empty. */
function leaves(set: FieldSet): FieldSet {
  return Object.fromEntries(Object.entries(set).filter(([key]) => key !== '.').map(([key, node]) => [key, leaves(node)]))
}
