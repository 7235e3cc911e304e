/**
 * `node bench/scheduler.ts [pods]`:
 * 1. the scheduler alone: Pods placed on nodes in memory, one core, no API. The Pods belong to many owners that arrive mixed, as
 *    in a busy cluster. Sizes are run by turns and the median of their ratios counts, for other work on the machine disturbs.
 * 2. the scheduler and the API: 500 Pods created over TLS and bound to 100 nodes, seen in a watch; the store on disk.
 */
import type { Node, Pod } from '../src/core/types/index.ts'
import { Placer } from '../src/scheduler/placer.ts'
import { profiles, type ProfileName } from '../src/scheduler/profile.ts'
import { Snapshot } from '../src/scheduler/snapshot.ts'
import { Connection, cpuMs, load, median, row, sleep, startServer, timed } from './support.ts'

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

interface Result { podsPerS: number; usPerPod: number; fullest: number; emptiest: number }

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
    podsPerS: Math.round(pods / us * 1e6), usPerPod: Math.round(us / pods * 10) / 10,
    fullest: perNode.reduce((a, b) => Math.max(a, b)), emptiest: perNode.reduce((a, b) => Math.min(a, b)),
  }
}

function alone(): void {
  run('spread', 500, 20_000)
  for (const profile of ['spread', 'binpack', 'random'] as const) {
    const rounds = Array.from({ length: ROUNDS }, () => ({ large: run(profile, 5_000, PODS), small: run(profile, 500, PODS) }))
    const perS = median(rounds.map(r => r.large.podsPerS))
    const ratio = median(rounds.map(r => r.large.usPerPod / r.small.usPerPod))
    const { fullest, emptiest } = rounds[0]!.large
    // The targets are those of the default profile; the others are told for comparison.
    const judged = profile === 'spread'
    row(`scheduler alone, ${profile}: ${PODS} Pods on 5000 nodes, one core`, `${perS}/s, ${emptiest} to ${fullest} Pods a node`,
      judged ? '≥ 20000/s' : undefined, judged ? perS >= 20_000 : undefined)
    row(`scheduler alone, ${profile}: cost of a Pod at 5000 nodes to that at 500`, ratio.toFixed(2),
      judged ? '≤ 1.5' : undefined, judged ? ratio <= 1.5 : undefined)
  }
}

const API_NODES = 100
const API_PODS = 500
const CLIENTS = 64
const API_ROUNDS = 12
const WARM_UP = 3
/** A Pod's event is written half a second after its binding; by then all of a round's are. */
const EVENTS_MS = 1000

/** Counts the bound states of Pods that a watch shows. */
function boundPods(connection: Connection): { until(count: number): Promise<void> } {
  const mark = '"nodeName":"'
  let [seen, wanted, rest] = [0, Infinity, '']
  let reached = (): void => {}
  connection.watch('/api/v1/namespaces/default/pods?watch=true&resourceVersion=0', bytes => {
    const text = rest + bytes.toString('latin1')
    for (let at = text.indexOf(mark); at !== -1; at = text.indexOf(mark, at + mark.length)) seen++
    rest = text.slice(-mark.length + 1)
    if (seen >= wanted) reached()
  })
  return {
    until: count => new Promise(resolve => {
      wanted = count
      reached = resolve
      if (seen >= wanted) resolve()
    }),
  }
}

async function withApi(): Promise<void> {
  const server = await startServer(true)
  try {
    const connections = await Promise.all(Array.from({ length: CLIENTS + 1 }, () => Connection.open(server.port, server.admin)))
    const watching = connections.pop()!
    await load(connections, API_NODES, (c, i) => c.call('POST', '/api/v1/nodes', JSON.stringify(makeNode(i))), 201)
    const bound = boundPods(watching)
    const rates: number[] = []
    const costUs: { main: number; all: number; later: number }[] = []
    for (let round = 0; round < API_ROUNDS; round++) {
      const bodies = Array.from({ length: API_PODS }, (_, i) => {
        const { apiVersion, kind, metadata, spec } = makePod(i)
        return JSON.stringify({ apiVersion, kind, metadata: { name: `r${round}-${i}`, labels: metadata.labels }, spec })
      })
      const before = cpuMs(server.pid)
      rates.push(API_PODS / 1e-3 / await timed(() => Promise.all([
        bound.until((round + 1) * API_PODS),
        load(connections, API_PODS, (c, i) => c.call('POST', '/api/v1/namespaces/default/pods', bodies[i]!), 201),
      ])))
      const after = cpuMs(server.pid)
      await sleep(EVENTS_MS)
      const us = (fromMs: number, toMs: number): number => (toMs - fromMs) / API_PODS * 1000
      costUs.push({ main: us(before.main, after.main), all: us(before.all, after.all), later: us(after.all, cpuMs(server.pid).all) })
    }
    const perS = median(rates.slice(WARM_UP))
    row(`${API_PODS} Pods created over HTTPS by ${CLIENTS} clients, bound to ${API_NODES} nodes`,
      `${perS.toFixed(0)}/s (${rates.map(r => r.toFixed(0)).join(', ')}; the first ${WARM_UP} warm up)`, '≥ 4000/s', perS >= 4000)
    const cost = (part: 'main' | 'all' | 'later'): string => median(costUs.slice(WARM_UP).map(c => c[part])).toFixed(0)
    row('server\'s processor time for one of them', `${cost('all')} µs, of it its main thread ${cost('main')} µs; later, for its event, ${cost('later')} µs`)
    for (const c of [...connections, watching]) c.close()
  } finally {
    await server.stop()
  }
}

alone()
await withApi()
