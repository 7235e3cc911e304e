/**
 * Finds Pods of lower priority that could make way. Nothing is changed: Pods are lifted off the snapshot for the what-if and put
 * back. Follows Kubernetes' choice of node: lowest top priority of the victims, lowest sum, fewest, latest started.
 */
import type { Placer } from './placer.ts'
import type { PodClass } from './pod-class.ts'
import type { NodeInfo, PlacedPod, Snapshot } from './snapshot.ts'

export interface Preemption { node: NodeInfo; victims: PlacedPod[] }

/** Nodes looked at: a tenth of them, yet no fewer than 100. */
function candidateLimit(nodes: number): number { return Math.max(100, Math.ceil(nodes / 10)) }

export function findPreemption(cls: PodClass, snapshot: Snapshot, placer: Placer): Preemption | undefined {
  let best: Preemption | undefined
  let tried = 0
  const limit = candidateLimit(snapshot.nodeCount)
  for (const node of snapshot.nodes()) {
    if (!placer.fits(cls, node, (f) => !f.preemptible)) continue
    const lower = [...node.pods.values()].filter((p) => p.cls.priority < cls.priority)
    if (lower.length === 0) continue
    const victims = victimsOn(node, lower, cls, snapshot, placer)
    if (victims !== undefined && (best === undefined || isBetter(victims, best.victims))) best = { node, victims }
    if (++tried >= limit && best !== undefined) break
  }
  return best
}

/** The fewest of `lower` whose going lets the class in: all leave, then the most important come back as long as it still fits. */
function victimsOn(node: NodeInfo, lower: PlacedPod[], cls: PodClass, snapshot: Snapshot, placer: Placer): PlacedPod[] | undefined {
  lower.sort((a, b) => b.cls.priority - a.cls.priority || startOf(a) - startOf(b))
  for (const p of lower) snapshot.lift(p)
  if (!placer.fits(cls, node)) {
    for (const p of lower) snapshot.restore(p, node)
    return undefined
  }
  const victims: PlacedPod[] = []
  for (const p of lower) {
    snapshot.restore(p, node)
    if (placer.fits(cls, node)) continue
    snapshot.lift(p)
    victims.push(p)
  }
  for (const p of victims) snapshot.restore(p, node)
  return victims.length > 0 ? victims : undefined
}

function startOf(p: PlacedPod): number { return Date.parse(p.pod.status?.startTime ?? p.pod.metadata.creationTimestamp ?? '') || 0 }

function isBetter(a: PlacedPod[], b: PlacedPod[]): boolean {
  const top = (v: PlacedPod[]) => v.reduce((m, p) => Math.max(m, p.cls.priority), -Infinity)
  const sum = (v: PlacedPod[]) => v.reduce((s, p) => s + p.cls.priority, 0)
  const latest = (v: PlacedPod[]) => v.reduce((m, p) => Math.max(m, startOf(p)), 0)
  return (top(a) - top(b) || sum(a) - sum(b) || a.length - b.length || latest(b) - latest(a)) < 0
}
