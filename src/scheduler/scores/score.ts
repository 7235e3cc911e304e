/**
 * A score says how well a node suits a Pod, 0 to 100. Unlike Kubernetes' scores it never depends on the other nodes (no
 * normalising pass), so that looking at a few good candidates gives the same order as looking at all.
 */
import type { PodClass } from '../pod-class.ts'
import type { NodeInfo, Snapshot } from '../snapshot.ts'

export interface Score {
  readonly name: string
  /** Undefined when all nodes are equal to it. */
  prepare(cls: PodClass, snapshot: Snapshot): PreparedScore | undefined
}

export interface PreparedScore {
  /** Called before each placement. */
  begin?(): void
  score(node: NodeInfo): number
  /**
   * True if the nodes it favours cannot be met by walking nodes in order of load, so that the placer must also look for them
   * (preferred affinity, images). May change from one placement to the next.
   */
  guides(): boolean
  release?(): void
}

export const never = (): boolean => false
