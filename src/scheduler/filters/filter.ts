/** A filter says whether a node can run a Pod at all. It is prepared once for a class of Pods and then asked node by node. */
import type { PodClass } from '../pod-class.ts'
import type { NodeInfo, Snapshot } from '../snapshot.ts'

export interface Filter {
  readonly name: string
  /** Undefined when the filter has nothing to say about these Pods. */
  prepare(cls: PodClass, snapshot: Snapshot): PreparedFilter | undefined
}

export interface PreparedFilter {
  /** Called before each placement, for what depends on the whole cluster (such as the least crowded domain). */
  begin?(): void
  check(node: NodeInfo): boolean
  /** Why {@link check} refused: `Insufficient cpu`, `node(s) had untolerated taint {k: v}`, … One sentence for each obstacle. */
  explain(node: NodeInfo): string[]
  /** True if removing other Pods from the node could help. */
  readonly preemptible: boolean
  /** Gives back what it holds of the snapshot. */
  release?(): void
}

/** Caches a verdict that depends on a node's labels, taints and cordon only. */
export function cachedByStatic(compute: (node: NodeInfo) => boolean): (node: NodeInfo) => boolean {
  // staticVersion * 2 + verdict, so that one read tells both.
  const seen: number[] = []
  return (node) => {
    const known = seen[node.index]
    if (known !== undefined && known >> 1 === node.staticVersion) return (known & 1) === 1
    const verdict = compute(node)
    seen[node.index] = node.staticVersion * 2 + Number(verdict)
    return verdict
  }
}
