/**
 * Sends commands to nftables: each change is atomic, and changes that arrive while one is under way go together in one `nft -f
 * -`.
 */
import { run } from '../run.ts'

interface Pending {
  commands: string[]
  resolve: () => void
  reject: (error: unknown) => void
}

export class NftTransactions {
  #pending: Pending[] = []
  #running: Promise<void> | undefined
  readonly #load: (text: string) => Promise<unknown>

  /** `load` carries one transaction to the kernel; default: an `nft -f -` of its own. */
  constructor(load: (text: string) => Promise<unknown> = (text) => run('nft', ['-f', '-'], { input: text })) {
    this.#load = load
  }

  /** All of `commands` or none. Changes take effect in the order of the calls. */
  apply(commands: string[]): Promise<void> {
    if (commands.length === 0) return Promise.resolve()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#pending.push({ commands, resolve, reject })
    this.#running ??= this.#drain()
    return promise
  }

  async #drain(): Promise<void> {
    await Promise.resolve()
    while (this.#pending.length > 0) {
      const group = this.#pending
      this.#pending = []
      try {
        await this.#send(group.flatMap(({ commands }) => commands))
        for (const { resolve } of group) resolve()
      } catch (error) {
        if (group.length === 1) group[0]!.reject(error)
        else await this.#oneByOne(group)
      }
    }
    this.#running = undefined
  }

  /** One bad change must not take its neighbours down. */
  async #oneByOne(group: Pending[]): Promise<void> {
    for (const { commands, resolve, reject } of group) {
      try {
        await this.#send(commands)
        resolve()
      } catch (error) {
        reject(error)
      }
    }
  }

  async #send(commands: string[]): Promise<void> {
    await this.#load(commands.join('\n') + '\n')
  }
}
