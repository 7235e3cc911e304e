/**
 * Patterns with wildcards, matched in time that grows with the text times the pattern and no faster: patterns and names come from contexts of
 * anybody, and with regular expressions a few stars could occupy the engine for hours.
 */

/**
 * `one`: a character. `many`: any number of them. `optional`: the next step may be left out. `through`: all up to some slash, the slash too.
 */
export interface Step { kind: 'one' | 'many' | 'optional' | 'through'; fits(character: string): boolean }

export class Matcher {
  readonly #steps: readonly Step[]

  constructor(steps: readonly Step[]) { this.#steps = steps }

  /** Whether it matches the whole text. */
  matches(text: string): boolean {
    const characters = [...text]
    return this.ends(characters).includes(characters.length)
  }

  /** After how many characters from the first one on it has matched, in rising order. */
  ends(characters: readonly string[]): number[] {
    const out: number[] = []
    this.#run(characters, 0, false, (_, end) => { out.push(end) })
    return out
  }

  /** The first match at or behind `from`, and of those that begin there the longest. */
  find(characters: readonly string[], from: number): { start: number; end: number } | undefined {
    let best: { start: number; end: number } | undefined
    this.#run(characters, from, true, (start, end) => {
      if (best === undefined || start <= best.start) best = { start, end }
      return best.start
    })
    return best
  }

  /** `found` may answer the last start that is still of interest. */
  #run(characters: readonly string[], from: number, anywhere: boolean, found: (start: number, end: number) => number | void): void {
    const steps = this.#steps
    let latest = anywhere ? Infinity : from
    // Where the match began that has come to each step; the earliest, if there are several.
    let starts: (number | undefined)[] = []
    let next: (number | undefined)[] = []
    const enter = (into: (number | undefined)[], first: number, start: number): void => {
      for (let at = first; ; at++) {
        const before = into[at]
        if (before !== undefined && before <= start) return
        into[at] = start
        const kind = steps[at]?.kind
        if (kind === 'optional') enter(into, at + 2, start)
        else if (kind !== 'many') return
      }
    }
    for (let position = from; ; position++) {
      if (position <= latest) enter(starts, 0, position)
      if (anywhere === false) latest = -1
      const whole = starts[steps.length]
      if (whole !== undefined) latest = found(whole, position) ?? latest
      const character = characters[position]
      if (character === undefined || (starts.length === 0 && position >= latest)) return
      next = []
      starts.forEach((start, at) => {
        const step = steps[at]
        if (start === undefined || step === undefined || (anywhere && start > latest)) return
        if (step.kind === 'through') {
          next[at] = Math.min(start, next[at] ?? start)
          if (character === '/') enter(next, at + 1, start)
        } else if (step.kind !== 'optional' && step.fits(character)) enter(next, step.kind === 'many' ? at : at + 1, start)
      })
      starts = next
    }
  }
}

export const anything = (): boolean => true
export const literal = (character: string): Step => ({ kind: 'one', fits: c => c === character })
