/** What stages that are built at the same time say, one stage after the other: it reads as if they had been built in turn. */

export class OrderedOutput {
  readonly #write: (text: string) => void
  readonly #stages: { text: string[]; ended: boolean }[]
  #current = 0

  constructor(stages: number, write: (text: string) => void) {
    this.#write = write
    this.#stages = Array.from({ length: stages }, () => ({ text: [], ended: false }))
  }

  /** The place of one stage's text: at once if all before it have ended, else kept. */
  stage(index: number): (text: string) => void {
    return text => {
      if (index === this.#current) this.#write(text)
      else this.#stages[index]!.text.push(text)
    }
  }

  end(index: number): void {
    this.#stages[index]!.ended = true
    while (this.#stages[this.#current]?.ended === true) {
      for (const text of this.#stages[++this.#current]?.text.splice(0) ?? []) this.#write(text)
    }
  }
}
