/**
 * FIFOs without a process per start: Node cannot make them, so `mkfifo` makes a stock of them ahead of time, and taking one
 * is a rename to its final name.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const STOCK = 48
const LOW = 16
const PREFIX = '.stock-'

export class FifoPool {
  readonly #dir: string
  readonly #stock: string[] = []
  #next = 0
  #filling: Promise<void> | undefined

  constructor(dir: string) { this.#dir = dir }

  /** Makes the directory, takes over what a predecessor left in stock, fills up. */
  async open(): Promise<void> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(this.#dir)) {
      if (!name.startsWith(PREFIX)) continue
      this.#stock.push(join(this.#dir, name))
      this.#next = Math.max(this.#next, Number(name.slice(PREFIX.length)) + 1 || 0)
    }
    if (this.#stock.length < LOW) await this.#fill()
  }

  path(name: string): string { return join(this.#dir, name) }

  /** A fresh FIFO for each name; what had the name before is replaced. Resolves with their paths. */
  async take(names: string[]): Promise<string[]> {
    while (this.#stock.length < names.length) await this.#fill()
    const paths = names.map((n) => this.path(n))
    for (const p of paths) renameSync(this.#stock.pop() as string, p)
    // Short of stock is no failure yet: whoever finds it empty will meet the error.
    if (this.#stock.length < LOW) this.#fill().catch(() => undefined)
    return paths
  }

  remove(paths: string[]): void {
    for (const p of paths) rmSync(p, { force: true })
  }

  /** Names in use, without the stock. */
  inUse(): string[] { return readdirSync(this.#dir).filter((n) => !n.startsWith(PREFIX)) }

  #fill(): Promise<void> {
    this.#filling ??= (async () => {
      const paths = Array.from({ length: STOCK - this.#stock.length }, () => join(this.#dir, `${PREFIX}${this.#next++}`))
      await promisify(execFile)('mkfifo', ['-m', '600', ...paths])
      this.#stock.push(...paths)
    })().finally(() => { this.#filling = undefined })
    return this.#filling
  }
}
