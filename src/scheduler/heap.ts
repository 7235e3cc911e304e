/** Binary min-heap by `compare`. */
export class Heap<T> {
  readonly #items: T[] = []
  readonly #compare: (a: T, b: T) => number

  constructor(compare: (a: T, b: T) => number) { this.#compare = compare }

  get size(): number { return this.#items.length }
  peek(): T | undefined { return this.#items[0] }

  push(item: T): void {
    const a = this.#items
    let i = a.length
    a.push(item)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (this.#compare(item, a[parent]!) >= 0) break
      a[i] = a[parent]!
      i = parent
    }
    a[i] = item
  }

  pop(): T | undefined {
    const a = this.#items
    const top = a[0]
    const last = a.pop()
    if (a.length === 0 || last === undefined) return top
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= a.length) break
      if (child + 1 < a.length && this.#compare(a[child + 1]!, a[child]!) < 0) child++
      if (this.#compare(a[child]!, last) >= 0) break
      a[i] = a[child]!
      i = child
    }
    a[i] = last
    return top
  }
}
