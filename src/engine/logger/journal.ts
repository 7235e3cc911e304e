/**
 * What a stream's reader has taken out of its FIFO and may not have in the log yet. Two places in one file are written in turns, so that a kill
 * in the middle of a write leaves the one before. Only for the death of the daemon, not of the machine: nothing is synced. What is left
 * to chance are the microseconds between a read and the end of this write: a pipe cannot be read without emptying it.
 */
import { closeSync, constants, openSync, readFileSync, rmSync, writevSync } from 'node:fs'
import type { LogPosition } from './log-file.ts'

const SLOT_BYTES = 128 << 10
const HEADER_BYTES = 72
const STAMP_BYTES = 30
/** The entry's number again: where it stands, all before it was written. */
const TRAILER_BYTES = 8

export interface JournalEntry {
  /** The FIFO's inode: another one is another run of the container. */
  inode: number
  /** Where in the log this was about to go. */
  position: LogPosition
  /** Text of an unfinished line from before, then what was read, and the time given to it. */
  rest: Buffer
  chunk: Buffer
  stamp: string
}

export class Journal {
  readonly #path: string
  readonly #fd: number
  readonly #header = Buffer.alloc(HEADER_BYTES)
  readonly #trailer = Buffer.alloc(TRAILER_BYTES)
  #count: number

  constructor(path: string) {
    this.#path = path
    this.#count = (newest(path)?.count ?? 0) + 1
    // Neither truncating nor appending, which no letters stand for.
    this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  }

  /** Throws where the disk is full: the log will say so itself. */
  write(e: JournalEntry): void {
    const h = this.#header
    // Doubles hold whole numbers up to 2^53 without a BigInt for each chunk.
    h.writeDoubleLE(this.#count, 0)
    h.writeUInt32LE(e.rest.length, 8)
    h.writeUInt32LE(e.chunk.length, 12)
    h.writeUInt32LE(e.position.sequence, 16)
    h.writeDoubleLE(e.position.offset, 24)
    h.writeDoubleLE(e.inode, 32)
    h.write(e.stamp, 40, STAMP_BYTES, 'latin1')
    this.#trailer.writeDoubleLE(this.#count, 0)
    writevSync(this.#fd, [h, e.rest, e.chunk, this.#trailer], this.#count % 2 * SLOT_BYTES)
    this.#count++
  }

  /** Nothing is under way any more. */
  remove(): void {
    closeSync(this.#fd)
    rmSync(this.#path, { force: true })
  }
}

/** The last thing written whole; undefined if there is none. */
export function readJournal(path: string): JournalEntry | undefined { return newest(path)?.entry }

function newest(path: string): { count: number; entry: JournalEntry } | undefined {
  let data: Buffer
  try {
    data = readFileSync(path)
  } catch {
    return undefined
  }
  return [slot(data.subarray(0, SLOT_BYTES)), slot(data.subarray(SLOT_BYTES))]
    .filter((s) => s !== undefined).sort((a, b) => b.count - a.count)[0]
}

function slot(data: Buffer): { count: number; entry: JournalEntry } | undefined {
  if (data.length < HEADER_BYTES) return undefined
  const count = data.readDoubleLE(0)
  const restEnd = HEADER_BYTES + data.readUInt32LE(8)
  const end = restEnd + data.readUInt32LE(12)
  if (end + TRAILER_BYTES > data.length || count === 0 || data.readDoubleLE(end) !== count) return undefined
  return {
    count,
    entry: {
      inode: data.readDoubleLE(32), position: { sequence: data.readUInt32LE(16), offset: data.readDoubleLE(24) },
      rest: data.subarray(HEADER_BYTES, restEnd), chunk: data.subarray(restEnd, end), stamp: data.toString('latin1', 40, 40 + STAMP_BYTES),
    },
  }
}
