/**
 * Turns a container's bytes into log lines: `TIME STREAM F text`, `P` for a piece whose newline is still to come (lines over
 * 16 KiB, and a last line without one). The hot path works on whole chunks: a million short lines must cost about a second.
 */

/** Longest piece of text in one log line, in bytes. */
export const MAX_LINE_BYTES = 16384

/** RFC 3339 with nanoseconds: milliseconds from the clock, below them a counter, so that later chunks sort later. */
export class Stamps {
  #second = -1
  #text = ''
  #lastMs = -1
  #count = 0

  next(nowMs: number): string {
    if (nowMs === this.#lastMs) this.#count = Math.min(this.#count + 1, 999_999)
    else { this.#lastMs = nowMs; this.#count = 0 }
    const second = Math.floor(nowMs / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#text = new Date(second * 1000).toISOString().slice(0, 20)
    }
    const ns = (nowMs - second * 1000) * 1_000_000 + this.#count
    return `${this.#text}${String(ns).padStart(9, '0')}Z`
  }
}

/** One stream's splitter. Bytes travel as latin1 text: one char a byte, so nothing is decoded and replaceAll does the work. */
export class LineFormatter {
  readonly #stream: string
  readonly #stamps: Stamps
  #rest = ''

  constructor(stream: 'stdout' | 'stderr', stamps: Stamps) {
    this.#stream = stream
    this.#stamps = stamps
  }

  /** Text whose newline is still to come, as latin1. */
  get rest(): string { return this.#rest }
  set rest(text: string) { this.#rest = text }

  /** Complete log lines for this chunk, as latin1 text ending with a newline, or ''. */
  push(chunk: Buffer, nowMs: number): string { return this.format(chunk, this.#stamps.next(nowMs)) }

  /** As {@link push}, with a time that was given out before. */
  format(chunk: Buffer, stamp: string): string {
    const text = this.#rest === '' ? chunk.toString('latin1') : this.#rest + chunk.toString('latin1')
    const end = text.lastIndexOf('\n') + 1
    const full = `${stamp} ${this.#stream} F `
    let out = ''
    if (end > 0) {
      const body = text.slice(0, end - 1)
      out = hasLongLine(body) ? this.#split(body, full) : `${full}${body.replaceAll('\n', `\n${full}`)}\n`
    }
    let rest = end === 0 ? text : text.slice(end)
    if (rest.length >= MAX_LINE_BYTES) {
      const partial = full.replace(/F $/, 'P ')
      let at = 0
      for (; rest.length - at >= MAX_LINE_BYTES; at += MAX_LINE_BYTES) out += `${partial}${rest.slice(at, at + MAX_LINE_BYTES)}\n`
      rest = rest.slice(at)
    }
    this.#rest = rest
    return out
  }

  /** What is left without a newline when the stream ends. */
  end(nowMs: number): string {
    if (this.#rest === '') return ''
    const out = `${this.#stamps.next(nowMs)} ${this.#stream} P ${this.#rest}\n`
    this.#rest = ''
    return out
  }

  #split(body: string, full: string): string {
    const partial = full.replace(/F $/, 'P ')
    let out = ''
    for (let line of body.split('\n')) {
      while (line.length > MAX_LINE_BYTES) {
        out += `${partial}${line.slice(0, MAX_LINE_BYTES)}\n`
        line = line.slice(MAX_LINE_BYTES)
      }
      out += `${full}${line}\n`
    }
    return out
  }
}

/** Jumps from newline to newline in steps of the limit: a handful of searches for a chunk of short lines. */
function hasLongLine(body: string): boolean {
  let at = 0
  while (body.length - at > MAX_LINE_BYTES) {
    const next = body.lastIndexOf('\n', at + MAX_LINE_BYTES)
    if (next < at) return true
    at = next + 1
  }
  return false
}
