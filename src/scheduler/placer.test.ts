import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Node, Pod, PodSpec } from '../core/types/index.ts'
import { Placer } from './placer.ts'
import { findPreemption } from './preemption.ts'
import { profiles, type ProfileName } from './profile.ts'
import { Snapshot } from './snapshot.ts'

interface NodeFacts { cpu?: string; memory?: string; pods?: string; labels?: Record<string, string>; taints?: Node['spec']['taints']; images?: Record<string, number>; unschedulable?: boolean }

function node(name: string, f: NodeFacts = {}): Node {
  return {
    apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name, ...f.labels } },
    spec: { ...(f.taints && { taints: f.taints }), ...(f.unschedulable && { unschedulable: true }) },
    status: {
      allocatable: { cpu: f.cpu ?? '4', memory: f.memory ?? '8Gi', pods: f.pods ?? '110' },
      images: Object.entries(f.images ?? {}).map(([n, sizeBytes]) => ({ names: [n], sizeBytes })),
    },
  }
}

let serial = 0
function pod(spec: Partial<PodSpec> & { cpu?: string; labels?: Record<string, string>; owner?: string; hostPort?: number } = {}): Pod {
  const { cpu = '500m', labels, owner, hostPort, ...rest } = spec
  const name = `p${++serial}`
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: {
      name, namespace: 'default', uid: name, ...(labels && { labels }),
      ...(owner !== undefined && { ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: owner, uid: owner, controller: true }] }),
    },
    spec: { containers: [{ name: 'c', image: 'web:1', resources: { requests: { cpu } }, ...(hostPort !== undefined && { ports: [{ containerPort: 80, hostPort }] }) }], ...rest },
  }
}

class World {
  readonly snapshot = new Snapshot()
  readonly placer: Placer
  constructor(nodes: Node[], profile: ProfileName = 'spread') {
    for (const n of nodes) this.snapshot.setNode(n)
    this.placer = new Placer(this.snapshot, profiles[profile], () => 0.5)
  }

  /** The chosen node's name, or why there is none. */
  place(p: Pod): string {
    const cls = this.snapshot.classes.acquire(p)
    const placement = this.placer.place(cls)
    if (placement.node !== undefined) this.snapshot.setPod(p, placement.node.name)
    this.snapshot.classes.release(cls)
    return placement.node === undefined ? placement.message : placement.node.name
  }
}

test('a refusal says of every node what is in the way', () => {
  const w = new World([node('a', { cpu: '1' }), node('b', { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] }), node('c', { taints: [{ key: 'k', value: 'v', effect: 'NoExecute' }] })])
  assert.equal(w.place(pod({ cpu: '2' })), '0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}.')
  assert.equal(new World([]).place(pod()), 'no nodes available to schedule pods')
})

test('each filter refuses by its own sentence', () => {
  const reason = (n: NodeFacts, p: Pod, before: Pod[] = []) => {
    const w = new World([node('a', n)])
    for (const b of before) w.snapshot.setPod(b, 'a')
    return /available: 1 (.*)\.$/.exec(w.place(p))?.[1]
  }
  assert.equal(reason({ unschedulable: true }, pod()), 'node(s) were unschedulable')
  assert.equal(reason({ memory: '1Mi' }, pod({ containers: [{ name: 'c', resources: { requests: { memory: '2Mi' } } }] })), 'Insufficient memory')
  assert.equal(reason({ pods: '1' }, pod(), [pod()]), 'Too many pods')
  assert.equal(reason({}, pod({ containers: [{ name: 'c', resources: { requests: { 'example.org/gpu': '1' } } }] })), 'Insufficient example.org/gpu')
  assert.equal(reason({}, pod({ hostPort: 80 }), [pod({ hostPort: 80 })]), "node(s) didn't have free ports for the requested pod ports")
  assert.equal(reason({}, pod({ nodeSelector: { disk: 'ssd' } })), "node(s) didn't match Pod's node affinity/selector")
  const term = (name: string) => ({ labelSelector: { matchLabels: { app: name } }, topologyKey: 'kubernetes.io/hostname' })
  assert.equal(reason({}, pod({ affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('db')] } } })), "node(s) didn't match pod affinity rules")
  const apart = { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('web')] } }
  assert.equal(reason({}, pod({ affinity: apart }), [pod({ labels: { app: 'web' } })]), "node(s) didn't match pod anti-affinity rules")
  assert.equal(reason({}, pod({ labels: { app: 'web' } }), [pod({ affinity: apart })]), "node(s) didn't satisfy existing pods anti-affinity rules")
})

test('affinity operators and name fields choose nodes', () => {
  const w = new World([node('a', { labels: { gen: '3' } }), node('b', { labels: { gen: '12' } })])
  const required = (term: object) => pod({ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [term] } } } })
  assert.equal(w.place(required({ matchExpressions: [{ key: 'gen', operator: 'Gt', values: ['5'] }] })), 'b')
  assert.equal(w.place(required({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['a'] }] })), 'a')
  assert.match(w.place(required({})), /affinity\/selector/)
})

test('replicas of one owner go to different nodes, and different zones', () => {
  const w = new World(['a', 'b', 'c', 'd'].map((n, i) => node(n, { labels: { 'topology.kubernetes.io/zone': `z${i % 2}` } })))
  const first = [w.place(pod({ owner: 'rs' })), w.place(pod({ owner: 'rs' }))]
  const zone = (n: string) => w.snapshot.node(n)!.labels['topology.kubernetes.io/zone']
  assert.notEqual(zone(first[0]!), zone(first[1]!))
  assert.equal(new Set([...first, w.place(pod({ owner: 'rs' })), w.place(pod({ owner: 'rs' }))]).size, 4)
})

test('binpack fills one node before the next; spread evens out', () => {
  const nodes = () => ['a', 'b', 'c'].map((n) => node(n))
  const pack = new World(nodes(), 'binpack')
  const packed = Array.from({ length: 8 }, () => pack.place(pod()))
  assert.equal(new Set(packed).size, 1)
  const spread = new World(nodes())
  const placed = Array.from({ length: 9 }, () => spread.place(pod()))
  for (const n of ['a', 'b', 'c']) assert.equal(placed.filter((x) => x === n).length, 3)
})

test('what a Pod prefers is found however the nodes are loaded', () => {
  const many = Array.from({ length: 300 }, (_, i) => node(`n${i}`))
  const w = new World([...many, node('wanted', { labels: { disk: 'ssd' } }), node('cached', { images: { 'docker.io/library/web:1': 900e6 } })])
  w.snapshot.setPod(pod({ cpu: '2' }), 'wanted')
  w.snapshot.setPod(pod({ cpu: '1' }), 'cached')
  const preferred = [{ weight: 100, preference: { matchExpressions: [{ key: 'disk', operator: 'Exists' as const }] } }]
  assert.equal(w.place(pod({ affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: preferred } } })), 'wanted')
  assert.equal(w.place(pod()), 'cached')
})

test('topology spread keeps zones within maxSkew', () => {
  const w = new World([node('a', { labels: { zone: '1' } }), node('b', { labels: { zone: '1' } }), node('c', { labels: { zone: '2' }, cpu: '2' })])
  const even = { maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule' as const, labelSelector: { matchLabels: { app: 'x' } } }
  const p = () => pod({ labels: { app: 'x' }, topologySpreadConstraints: [even] })
  const placed = Array.from({ length: 9 }, () => w.place(p()))
  assert.equal(placed.filter((n) => n === 'c').length, 4)
  assert.equal(placed.filter((n) => n === 'a' || n === 'b').length, 5)
  // Zone 2 is full now: one more in zone 1 would make the skew 2.
  assert.match(w.place(p()), /1 Insufficient cpu, 2 node\(s\) didn't match pod topology spread constraints/)
})

test('the snapshot keeps its counts through any order of changes', () => {
  let seed = 7
  const random = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % n
  const w = new World([])
  const here = new Map<string, string>()
  const anti = { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: { matchLabels: { app: '0' } }, topologyKey: 'zone' }] } }
  const live: Pod[] = []
  for (let i = 0; i < 3000; i++) {
    const dice = random(10)
    if (dice < 2) w.snapshot.setNode(node(`n${random(8)}`, { labels: { zone: `z${random(3)}` } }))
    else if (dice === 2) w.snapshot.removeNode(`n${random(8)}`)
    else if (dice < 7) {
      const p = pod({
        labels: { app: String(random(3)) }, owner: `o${random(3)}`,
        ...(random(3) === 0 && { affinity: anti }), ...(random(3) === 0 && { hostPort: 1 + random(5) }),
      })
      live.push(p)
      here.set(p.metadata.uid!, `n${random(8)}`)
      w.snapshot.setPod(p, here.get(p.metadata.uid!)!)
    } else if (live.length > 0) {
      const [p] = live.splice(random(live.length), 1)
      w.snapshot.removePod(p!.metadata.uid!)
    }
    // Classes come and go too, and with them the counters of their terms.
    if (dice === 9 && live.length > 0) w.placer.place(w.snapshot.classes.acquire(pod({ affinity: anti, labels: { app: '1' } })))
  }
  const fresh = new World([...w.snapshot.nodes()].map((n) => node(n.name, { labels: { ...n.labels } })))
  for (const p of live) fresh.snapshot.setPod(p, here.get(p.metadata.uid!)!)
  for (const n of w.snapshot.nodes()) {
    const f = fresh.snapshot.node(n.name)!
    const facts = (x: typeof n) => [x.usedCpuMilli, x.usedPods, x.scoreCpuMilli, x.ports.size, x.pods.size]
    assert.deepEqual(facts(n), facts(f))
    for (const o of ['o0', 'o1', 'o2']) assert.equal(w.snapshot.ownerPods(o)?.get(n.index), fresh.snapshot.ownerPods(o)?.get(f.index))
  }
  assert.equal(w.snapshot.podCount, live.length)
  const probe = () => pod({ affinity: anti, labels: { app: '0' } })
  assert.equal(w.place(probe()).replace(/^n\d$/, 'some node'), fresh.place(probe()).replace(/^n\d$/, 'some node'))
})

test('preemption takes the fewest and least important', () => {
  const w = new World([node('a', { cpu: '2' }), node('b', { cpu: '2' })])
  w.snapshot.setPod(pod({ cpu: '1', priority: 5 }), 'a')
  w.snapshot.setPod(pod({ cpu: '1', priority: 1 }), 'a')
  w.snapshot.setPod(pod({ cpu: '1', priority: 5 }), 'b')
  w.snapshot.setPod(pod({ cpu: '1', priority: 3 }), 'b')
  const wanted = pod({ cpu: '1', priority: 10 })
  assert.match(w.place(wanted), /Insufficient cpu/)
  const cls = w.snapshot.classes.acquire(wanted)
  const found = findPreemption(cls, w.snapshot, w.placer)!
  assert.deepEqual([found.node.name, found.victims.map((v) => v.cls.priority)], ['a', [1]])
  assert.deepEqual([...w.snapshot.nodes()].map((n) => n.usedCpuMilli), [2000, 2000], 'a what-if leaves no trace')
  const humble = w.snapshot.classes.acquire(pod({ cpu: '1', priority: 1 }))
  assert.equal(findPreemption(humble, w.snapshot, w.placer), undefined)
})
