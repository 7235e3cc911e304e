/** What stages that are built at the same time say, one stage after the other: it reads as if they had been built in turn. */

export type Say = (text: string, stderr?: boolean) => void

export class OrderedOutput {
  readonly #write: Say
  readonly #stages: { said: Parameters<Say>[]; ended: boolean }[]
  #current = 0

  constructor(stages: number, write: Say) {
    this.#write = write
    this.#stages = Array.from({ length: stages }, () => ({ said: [], ended: false }))
  }

  /** The place of one stage's text: at once if all before it have ended, else kept. */
  stage(index: number): Say {
    return (...said) => {
      if (index === this.#current) this.#write(...said)
      else this.#stages[index]!.said.push(said)
    }
  }

  end(index: number): void {
    this.#stages[index]!.ended = true
    while (this.#stages[this.#current]?.ended === true) {
      for (const said of this.#stages[++this.#current]?.said.splice(0) ?? []) this.#write(...said)
    }
  }
}
