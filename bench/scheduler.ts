/**
 * The scheduler alone: places Pods on nodes in memory, one core, no API. Prints JSON lines; `node bench/scheduler.ts [pods]`.
 * The Pods belong to many owners that arrive mixed, as in a busy cluster. Random choice is seeded, so that runs compare.
 */
import type { Node, Pod } from '../src/core/types/index.ts'
import { Placer } from '../src/scheduler/placer.ts'
import { profiles, type ProfileName } from '../src/scheduler/profile.ts'
import { Snapshot } from '../src/scheduler/snapshot.ts'

const PODS = Number(process.argv[2] ?? 100_000)
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

// The same Pods per node at both sizes would compare other things too: here both get what 500 nodes can hold.
run('spread', 500, 20_000)
for (const profile of ['spread', 'binpack', 'random'] as const) {
  const large = run(profile, 5_000, PODS)
  const small = run(profile, 500, PODS)
  console.log(JSON.stringify(large))
  console.log(JSON.stringify(small))
  console.log(JSON.stringify({ profile, costRatio5000To500Nodes: Math.round(large.usPerPod / small.usPerPod * 100) / 100 }))
}
