import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ResourceRequirements } from '../../core/types/index.ts'
import { pod } from '../test-support/fakes.ts'
import { pullDelayMs, restartDelayMs } from './backoff.ts'
import { containerResources, oomScoreAdj, qosClass } from './qos.ts'

const GIB = 1024 ** 3
const withResources = (...r: (ResourceRequirements | undefined)[]) => pod('p', {
  containers: r.map((resources, i) => ({ name: `c${i}`, image: 'i', ...(resources && { resources }) })),
})
const both = { cpu: '1', memory: '1Gi' }

test('QoS classes', () => {
  const cases: [string, (ResourceRequirements | undefined)[]][] = [
    ['BestEffort', [undefined, {}]],
    ['Guaranteed', [{ limits: both, requests: { cpu: '1000m', memory: '1024Mi' } }]],
    ['Guaranteed', [{ limits: both }]],
    ['Burstable', [{ limits: both }, undefined]],
    ['Burstable', [{ limits: both, requests: { cpu: '500m' } }]],
    ['Burstable', [{ requests: { cpu: '1' } }]],
    ['Burstable', [{ limits: { memory: '1Gi' } }]],
  ]
  for (const [expected, r] of cases) assert.equal(qosClass(withResources(...r).spec), expected, JSON.stringify(r))
})

test('oom_score_adj by class, never below what this process may give', () => {
  const score = (r: ResourceRequirements | undefined, floor: number) => {
    const p = withResources(r)
    return oomScoreAdj(p, p.spec.containers[0]!, 8 * GIB, floor)
  }
  assert.equal(score({ limits: both }, -1000), -997)
  assert.equal(score({ limits: both }, 0), 0)
  assert.equal(score(undefined, 0), 1000)
  assert.equal(score({ requests: { memory: '2Gi' } }, 0), 750)
  assert.equal(score({ requests: { memory: '8Gi' } }, 0), 3)
  assert.equal(score({ requests: { cpu: '1' } }, 0), 999)
})

test('cgroup numbers', () => {
  const numbers = (r: ResourceRequirements | undefined) => {
    const p = withResources(r)
    return containerResources(p, p.spec.containers[0]!, 8 * GIB, 0)
  }
  assert.deepEqual(numbers(undefined), { cpuShares: 2, oomScoreAdj: 1000 })
  assert.deepEqual(numbers({ requests: { cpu: '500m' }, limits: { cpu: '1500m', memory: '50000000' } }),
    { cpuShares: 512, cpuPeriodUs: 100_000, cpuQuotaUs: 150_000, memoryBytes: 50_000_000, oomScoreAdj: 995 })
  assert.equal(numbers({ limits: { cpu: '1m' } }).cpuQuotaUs, 1000)
})

test('back-off: the first restart is immediate, then 10 s doubling to 300 s; pulls begin at 10 s', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7, 100].map(restartDelayMs), [0, 10, 20, 40, 80, 160, 300, 300, 300].map(s => s * 1000))
  assert.deepEqual([1, 2, 3, 6, 60].map(pullDelayMs), [10, 20, 40, 300, 300].map(s => s * 1000))
})
