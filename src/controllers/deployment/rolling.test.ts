import assert from 'node:assert/strict'
import { test } from 'node:test'
import { proportionalStep, rollingStep } from './rolling.ts'

function seeded(seed: number): (n: number) => number {
  let s = seed
  return (n) => (s = (Math.imul(s, 1664525) + 1013904223) >>> 0) % n
}

test('a rollout under random events keeps its bounds at every step and ends', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = seeded(seed)
    const replicas = 1 + random(12)
    let maxSurge = random(4)
    const maxUnavailable = Math.min(replicas, random(4))
    if (maxSurge + maxUnavailable === 0) maxSurge = 1
    const bounds = { replicas, maxSurge, maxUnavailable }
    // The old Pods all serve when the rollout begins, spread over one to three older ReplicaSets.
    const old = Array.from({ length: 1 + random(3) }, () => ({ replicas: 0, available: 0 }))
    for (let i = 0; i < replicas; i++) old[random(old.length)]!.replicas++
    for (const o of old) o.available = o.replicas
    const fresh = { replicas: 0, available: 0 }
    let steps = 0
    while (fresh.available < replicas || old.some((o) => o.replicas > 0)) {
      const plan = rollingStep(bounds, fresh, old)
      fresh.replicas = plan.fresh
      for (const [i, o] of old.entries()) {
        o.replicas = plan.old[i]!
        // The ReplicaSet's status tells late of Pods it gave up; half of the time it still counts them.
        if (random(2) === 0) o.available = Math.min(o.available, o.replicas)
      }
      const really = old.reduce((n, o) => n + Math.min(o.available, o.replicas), fresh.available)
      const wanted = old.reduce((n, o) => n + o.replicas, fresh.replicas)
      assert.ok(wanted <= replicas + maxSurge, `seed ${seed}: ${wanted} Pods wanted`)
      assert.ok(really >= replicas - maxUnavailable, `seed ${seed}: ${really} available of ${replicas} - ${maxUnavailable}`)
      if (fresh.available < fresh.replicas && random(3) > 0) fresh.available++
      assert.ok(++steps < 1000, `seed ${seed} does not end`)
    }
    assert.equal(fresh.replicas, replicas)
  }
})

test('old Pods that do not work are given up first, and cost no availability', () => {
  const old = [{ replicas: 4, available: 0 }, { replicas: 8, available: 8 }]
  const plan = rollingStep({ replicas: 10, maxSurge: 2, maxUnavailable: 0 }, { replicas: 0, available: 0 }, old)
  assert.deepEqual(plan, { fresh: 0, old: [2, 8] })
})

test('scaling in the middle of a rollout shares the change in proportion', () => {
  const set = (replicas: number, maxReplicas: number) => ({ replicas, maxReplicas })
  // Kubernetes' documented example: 10 replicas, surge 3, unavailable 2, scaled to 15 while 8 + 5 are there.
  assert.deepEqual(proportionalStep({ replicas: 15, maxSurge: 3, maxUnavailable: 2 }, [set(5, 13), set(8, 13)]), [7, 11])
  const halved = proportionalStep({ replicas: 5, maxSurge: 0, maxUnavailable: 1 }, [set(5, 10), set(5, 10)])
  assert.equal(halved.reduce((a, b) => a + b), 5)
  assert.deepEqual(proportionalStep({ replicas: 0, maxSurge: 2, maxUnavailable: 1 }, [set(3, 12), set(7, 12)]), [0, 0])
})
