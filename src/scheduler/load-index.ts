/**
 * Nodes ordered by how full they are, in buckets: moving a node costs the same however many nodes there are, and a walk from
 * either end meets the emptiest (or fullest) nodes first. That is what keeps the cost of placing a Pod flat as clusters grow.
 */
const BUCKETS = 1024

export class LoadIndex<N extends { bucket: number; slot: number }> {
  readonly #buckets: N[][] = Array.from({ length: BUCKETS }, () => [])
  /** One bit a bucket: whether it holds nodes. Most are empty, and need not be looked at. */
  readonly #occupied = new Int32Array(BUCKETS / 32)
  #turn = 0

  /** `load` is a fraction; below 0 and above 1 count as these. */
  place(node: N, load: number): void {
    const bucket = Math.max(0, Math.min(BUCKETS - 1, Math.floor(load * (BUCKETS - 1))))
    if (node.bucket === bucket) return
    this.remove(node)
    const list = this.#buckets[bucket]!
    node.bucket = bucket
    node.slot = list.length
    list.push(node)
    this.#occupied[bucket >> 5]! |= 1 << (bucket & 31)
  }

  remove(node: N): void {
    if (node.bucket === -1) return
    const list = this.#buckets[node.bucket]!
    const last = list.pop()!
    if (last !== node) {
      list[node.slot] = last
      last.slot = node.slot
    }
    if (list.length === 0) this.#occupied[node.bucket >> 5]! &= ~(1 << (node.bucket & 31))
    node.bucket = -1
    node.slot = -1
  }

  /** Visits nodes until `visit` returns false. Nodes of one bucket begin at another place each time, so that equals take turns. */
  walk(from: 'emptiest' | 'fullest', visit: (node: N) => boolean): void {
    const turn = this.#turn++
    const words = this.#occupied.length
    for (let i = 0; i < words; i++) {
      const word = from === 'emptiest' ? i : words - 1 - i
      for (let bits = this.#occupied[word]!; bits !== 0;) {
        const bit = 31 - Math.clz32(from === 'emptiest' ? bits & -bits : bits)
        bits &= ~(1 << bit)
        if (!this.#visitBucket(this.#buckets[word * 32 + bit]!, turn, visit)) return
      }
    }
  }

  #visitBucket(list: N[], turn: number, visit: (node: N) => boolean): boolean {
    const n = list.length
    let at = turn % n
    for (let k = 0; k < n; k++) {
      if (!visit(list[at]!)) return false
      if (++at === n) at = 0
    }
    return true
  }
}
