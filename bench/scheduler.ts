/**
 * `node bench/scheduler.ts [pods]` prints JSON lines of
 * 1. the scheduler alone: Pods placed on nodes in memory, one core, no API. The Pods belong to many owners that arrive mixed, as
 *    in a busy cluster. Sizes are run by turns and the median of their ratios counts, for other work on the machine disturbs.
 * 2. the scheduler and the API: 500 Pods created over TLS by one client and bound to 100 nodes; a process each, store on disk.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { connect } from '../src/client/client.ts'
import { nodes as nodeKind, pods as podKind } from '../src/core/kinds.ts'
import type { Node, Pod } from '../src/core/types/index.ts'
import { Placer } from '../src/scheduler/placer.ts'
import { profiles, type ProfileName } from '../src/scheduler/profile.ts'
import { Snapshot } from '../src/scheduler/snapshot.ts'

const SERVE = '--serve'
const PODS = Number(process.argv[2] ?? 100_000)
const ROUNDS = 3
const OWNERS = 1_000

function makeNode(i: number): Node {
  const name = `node-${i}`
  const allocatable = { cpu: '32', memory: '64Gi', pods: '500' }
  return {
    apiVersion: 'v1', kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name, 'topology.kubernetes.io/zone': `zone-${i % 3}` } },
    spec: {}, status: { allocatable, capacity: allocatable },
  }
}

function makePod(i: number): Pod {
  const owner = i % OWNERS
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: {
      name: `app-${owner}-${i}`, namespace: 'default', uid: `pod-${i}`, labels: { app: `app-${owner}` },
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `app-${owner}`, uid: `owner-${owner}`, controller: true }],
    },
    spec: { containers: [{ name: 'c', image: 'web:1', resources: { requests: { cpu: '100m', memory: '128Mi' } } }] },
  }
}

function seeded(seed: number): () => number {
  let s = seed
  return () => (s = (Math.imul(s, 1664525) + 1013904223) >>> 0) / 2 ** 32
}

interface Result { profile: ProfileName; nodes: number; pods: number; podsPerS: number; usPerPod: number; fullest: number; emptiest: number }

function run(profile: ProfileName, nodes: number, pods: number): Result {
  const snapshot = new Snapshot()
  for (let i = 0; i < nodes; i++) snapshot.setNode(makeNode(i))
  const placer = new Placer(snapshot, profiles[profile], seeded(1))
  const waiting = Array.from({ length: pods }, (_, i) => makePod(i))
  const start = process.cpuUsage()
  for (const pod of waiting) {
    const cls = snapshot.classes.acquire(pod)
    const { node } = placer.place(cls)
    if (node === undefined) throw new Error(`${pod.metadata.name} did not fit`)
    snapshot.setPod(pod, node.name, true, cls)
    snapshot.classes.release(cls)
  }
  const used = process.cpuUsage(start)
  const us = used.user + used.system
  const perNode = [...snapshot.nodes()].map((n) => n.usedPods)
  return {
    profile, nodes, pods, podsPerS: Math.round(pods / us * 1e6), usPerPod: Math.round(us / pods * 10) / 10,
    fullest: perNode.reduce((a, b) => Math.max(a, b)), emptiest: perNode.reduce((a, b) => Math.min(a, b)),
  }
}

const median = (list: number[]): number => list.sort((a, b) => a - b)[list.length >> 1]!
const round2 = (n: number): number => Math.round(n * 100) / 100

function alone(): void {
  run('spread', 500, 20_000)
  for (const profile of ['spread', 'binpack', 'random'] as const) {
    const rounds = Array.from({ length: ROUNDS }, () => ({ large: run(profile, 5_000, PODS), small: run(profile, 500, PODS) }))
    for (const size of ['large', 'small'] as const) {
      const podsPerS = median(rounds.map((r) => r[size].podsPerS))
      console.log(JSON.stringify(rounds.map((r) => r[size]).find((r) => r.podsPerS === podsPerS)))
    }
    console.log(JSON.stringify({ profile, costRatio5000To500Nodes: round2(median(rounds.map((r) => r.large.usPerPod / r.small.usPerPod))) }))
  }
}

const API_NODES = 100
const API_PODS = 500
const CLIENT_WRITES = 64

/** In the child: a server that leads, for as long as the parent lives. */
async function serve(): Promise<void> {
  const { startTestServer } = await import('../src/server/testing/start.ts')
  const server = await startTestServer({ lead: true })
  process.send!({ port: server.port, admin: server.admin })
  process.once('message', () => void server.close().then(() => process.exit(0)))
}

async function withApi(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), [SERVE], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const { port, admin } = await new Promise<{ port: number; admin: { ca: string; cert: string; key: string } }>((resolve) => child.once('message', resolve as never))
  const client = connect({ servers: [`https://127.0.0.1:${port}`], tls: admin })
  const each = async (n: number, work: (i: number) => Promise<unknown>): Promise<void> => {
    let next = 0
    await Promise.all(Array.from({ length: CLIENT_WRITES }, async () => { for (let i = next++; i < n; i = next++) await work(i) }))
  }
  await each(API_NODES, async (i) => {
    const node = makeNode(i)
    await client.create(nodeKind, node)
    await client.patch(nodeKind, { name: node.metadata.name }, 'merge', { status: node.status }, { subresource: 'status' })
  })
  const bound = new Map<string, () => void>()
  const informer = client.informer(podKind, { namespace: 'default' })
  await informer.synced
  informer.on((_, pod) => { if (pod.spec.nodeName !== undefined) bound.get(pod.metadata.name)?.() })
  const rates: number[] = []
  for (let round = 0; round < ROUNDS + 2; round++) {
    const names = Array.from({ length: API_PODS }, (_, i) => `r${round}-${i}`)
    const all = Promise.all(names.map((name) => new Promise<void>((resolve) => bound.set(name, resolve))))
    const startMs = performance.now()
    await Promise.all([all, each(API_PODS, async (i) => {
      const pod = makePod(i)
      await client.create(podKind, { ...pod, metadata: { name: names[i]!, namespace: 'default', labels: pod.metadata.labels! } })
    })])
    // The first rounds warm up both processes.
    if (round >= 2) rates.push(API_PODS / (performance.now() - startMs) * 1000)
  }
  console.log(JSON.stringify({ work: 'create and bind over the API', nodes: API_NODES, pods: API_PODS, boundPerS: Math.round(median(rates)), rounds: rates.map(Math.round) }))
  informer.stop()
  client.close()
  child.send('stop')
}

if (process.argv[2] === SERVE) await serve()
else {
  alone()
  await withApi()
}
