import type { Score } from './score.ts'
import { never } from './score.ts'

const ZONE = 'topology.kubernetes.io/zone'
/** Owners with more nodes than this are even over zones in any order of load; summing them up would only cost time. */
const MAX_OWNER_NODES = 256

/** Keeps the replicas of one owner on different nodes, and in different zones where nodes have them. */
export const ownerSpread: Score = {
  name: 'OwnerSpread',
  prepare(cls, snapshot) {
    const uid = cls.ownerUid
    if (uid === undefined) return undefined
    const zone = snapshot.topology.key(ZONE)
    let perNode: ReadonlyMap<number, number> | undefined
    let perZone: number[] = []
    let all = 0
    return {
      begin() {
        perNode = snapshot.ownerPods(uid)
        all = 0
        if (perNode === undefined || zone.domains < 2 || perNode.size > MAX_OWNER_NODES) return
        perZone = new Array<number>(zone.domains).fill(0)
        for (const [index, n] of perNode) {
          const z = zone.domainOfNode[index] ?? -1
          if (z >= 0) perZone[z]! += n
          all += n
        }
      },
      score(node) {
        const spread = 100 / (1 + (perNode?.get(node.index) ?? 0))
        if (all === 0) return spread
        const z = zone.domainOfNode[node.index] ?? -1
        return spread * (1 - (z < 0 ? 1 : perZone[z]! / all) / 2)
      },
      guides: never,
    }
  },
}
