/** One container's log on disk: appends whole lines, rotates between lines, survives a full disk. */
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Compressor } from './compressor.ts'
import { CURRENT, readNames, rotatedFiles, rotatedName } from './files.ts'
import type { Stamps } from './format.ts'

export interface LogFileOptions {
  dir: string
  /** Size at which `current` is rotated. */
  maxBytes: number
  /** Files kept, `current` included. */
  maxFiles: number
}

/** `sequence` is the number that `current` gets when it is rotated. */
export interface LogPosition { sequence: number; offset: number }

const NEWLINE = 10

export class LogFile {
  readonly #options: LogFileOptions
  readonly #compressor: Compressor
  readonly #stamps: Stamps
  #fd: number
  #size: number
  #sequence: number
  #droppedLines = 0
  #dropReason = ''

  /** `pending`: what a predecessor was about to append, and where, when it was killed. */
  constructor(options: LogFileOptions, compressor: Compressor, stamps: Stamps, pending: { at: LogPosition; lines: Buffer }[] = []) {
    this.#options = options
    this.#compressor = compressor
    this.#stamps = stamps
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
    const rotated = rotatedFiles(options.dir)
    this.#sequence = (rotated.at(-1)?.sequence ?? 0) + 1
    for (const name of readNames(options.dir)) if (name.endsWith('.tmp')) rmSync(join(options.dir, name), { force: true })
    for (const f of rotated) if (!f.compressed) compressor.add(f.path)
    this.#fd = openSync(join(options.dir, CURRENT), 'a+', 0o600)
    this.#size = fstatSync(this.#fd).size
    for (const { at, lines } of pending) this.#resume(at, lines)
    this.#closeTornLine()
  }

  /** Half a line that nothing can make whole any more: end it. */
  #closeTornLine(): void {
    if (this.#size === 0) return
    const last = Buffer.alloc(1)
    readSync(this.#fd, last, 0, 1, this.#size - 1)
    if (last[0] !== NEWLINE) this.#write(Buffer.from('\n'))
  }

  /** `lines` ends with a newline. Never throws: what cannot be written is counted, and said once writing works again. */
  append(lines: Buffer): void {
    const { maxBytes } = this.#options
    // In one write with what follows: alone it could find room where no line does, again and again.
    let rest = this.#droppedLines === 0 ? lines : Buffer.concat([this.#droppedNotice(), lines])
    while (rest.length > 0) {
      const room = maxBytes - this.#size
      let end = rest.length
      if (end > room) {
        end = room <= 0 ? 0 : rest.lastIndexOf(NEWLINE, room - 1) + 1
        if (end === 0 && this.#size > 0) {
          if (!this.#rotate()) break
          continue
        }
        if (end === 0) end = rest.indexOf(NEWLINE) + 1
      }
      if (!this.#write(rest.subarray(0, end))) break
      this.#droppedLines = 0
      rest = rest.subarray(end)
    }
    if (rest.length > 0) this.#droppedLines += countLines(rest) - (this.#droppedLines > 0 ? 1 : 0)
  }

  get position(): LogPosition { return { sequence: this.#sequence, offset: this.#size } }

  /** Less what it managed to append. */
  #resume(at: LogPosition, lines: Buffer): void {
    let rest = lines
    if (at.sequence === this.#sequence - 1) {
      // Rotated in the middle of it. Compressed ones are older: compression comes after.
      const before = rotatedFiles(this.#options.dir).at(-1)
      if (before === undefined || before.compressed || before.sequence !== at.sequence) return
      const written = statSync(before.path).size - at.offset
      if (written < 0 || written >= rest.length || this.#size >= rest.length - written) return
      rest = rest.subarray(written)
      this.#cut(0)
    } else if (at.sequence === this.#sequence && at.offset <= this.#size && this.#size < at.offset + rest.length) {
      this.#cut(at.offset)
    } else {
      return
    }
    this.append(rest)
  }

  #cut(size: number): void {
    ftruncateSync(this.#fd, size)
    this.#size = size
  }

  #write(data: Buffer): boolean {
    let at = 0
    try {
      while (at < data.length) at += writeSync(this.#fd, data, at)
      this.#size += at
      return true
    } catch (e) {
      this.#dropReason = (e as Error).message.replace(/^[A-Z]+: |, write$/g, '')
      // Half a line must not stay.
      try { ftruncateSync(this.#fd, this.#size) } catch { /* the next open repairs it */ }
      return false
    }
  }

  #droppedNotice(): Buffer {
    return Buffer.from(`${this.#stamps.next(Date.now())} stderr F [gantry: ${this.#droppedLines} log lines dropped: ${this.#dropReason}]\n`)
  }

  #rotate(): boolean {
    const { dir, maxFiles } = this.#options
    const current = join(dir, CURRENT)
    try {
      const fresh = maxFiles > 1 ? join(dir, rotatedName(this.#sequence)) : undefined
      // A new file also where only one is kept: who reads the old one goes on reading it to its end.
      if (fresh === undefined) rmSync(current)
      else renameSync(current, fresh)
      closeSync(this.#fd)
      this.#fd = openSync(current, 'a+', 0o600)
      this.#size = 0
      if (fresh !== undefined) {
        this.#sequence++
        this.#compressor.add(fresh)
      }
      const rotated = rotatedFiles(dir)
      for (const old of rotated.slice(0, Math.max(0, rotated.length - (maxFiles - 1)))) rmSync(old.path, { force: true })
      return true
    } catch (e) {
      this.#dropReason = (e as Error).message
      return false
    }
  }

  /** A line of the daemon's own. */
  note(text: string): void { this.append(Buffer.from(`${this.#stamps.next(Date.now())} stderr F [gantry: ${text}]\n`)) }

  close(): void {
    if (this.#droppedLines > 0) this.#write(this.#droppedNotice())
    closeSync(this.#fd)
  }
}

function countLines(data: Buffer): number {
  let n = 0
  for (let at = data.indexOf(NEWLINE); at >= 0; at = data.indexOf(NEWLINE, at + 1)) n++
  return n
}
