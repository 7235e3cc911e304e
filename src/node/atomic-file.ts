/** Small private JSON files that are either old or new, never half. */
import { mkdirSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { replaceFile } from '../files/replace.ts'

/** Undefined if the file is absent or is no JSON (then it is as good as absent: all of it can be had again from the API). */
export function readJson<T>(path: string): T | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T
  } catch (e) {
    if (e instanceof SyntaxError || (e as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw e
  }
}

/** One file (mode 0600), written at most once per `delayMs` with the newest value; writes never overlap. */
export class JsonFile<T> {
  readonly #path: string
  readonly #delayMs: number
  #value: (() => T) | undefined
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #removed = false

  constructor(path: string, delayMs: number) {
    this.#path = path
    this.#delayMs = delayMs
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  }

  /** `value` is called when the time to write has come. */
  save(value: () => T): void {
    this.#value = value
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      void this.flush()
    }, this.#delayMs)
  }

  /** Resolves when the newest value is in the file. Failures are swallowed: the file is a copy of what the API knows. */
  flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(async () => {
      const value = this.#value
      this.#value = undefined
      if (value === undefined || this.#removed) return
      // Not synced: what a machine that lost power forgets is had from the API again.
      await replaceFile(this.#path, JSON.stringify(value()))
    }).catch(() => {})
    return this.#writing
  }

  remove(): Promise<void> {
    this.#removed = true
    clearTimeout(this.#timer)
    this.#writing = this.#writing.then(() => rm(this.#path, { force: true })).catch(() => {})
    return this.#writing
  }
}
