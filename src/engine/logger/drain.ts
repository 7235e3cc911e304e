/** Drains one container's FIFOs into its log file and to whoever is attached or follows. */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import type { SocketConstructorOpts } from 'node:net'
import { join } from 'node:path'
import type { Compressor } from './compressor.ts'
import { LineFormatter } from './format.ts'
import type { Stamps } from './format.ts'
import { Journal, readJournal } from './journal.ts'
import { LogFile } from './log-file.ts'
import type { LogPosition } from './log-file.ts'
import type { OpenRequest } from './protocol.ts'
import type { openSender, Sender } from './senders/index.ts'

/** Unsent bytes at which an attached client holds the container up, and how long it may do so without taking anything. */
const ATTACH_HIGH_BYTES = 1 << 20
const ATTACH_STALL_MS = 10_000

/** Shared by all reads: each chunk is used up inside its callback. */
const buffer = Buffer.allocUnsafeSlow(1 << 16)
/** Shared by all writes: keeps megabytes of short-lived buffers away from the garbage collector. */
const output = Buffer.allocUnsafeSlow(1 << 20)

type StreamName = 'stdout' | 'stderr'
interface Source { name: StreamName; fd: number; inode: number; socket: Socket; lines: LineFormatter; journal: Journal | undefined }

export class Drain {
  readonly request: OpenRequest
  /** Resolves when the output has ended and is on disk. */
  readonly ended: Promise<void>
  readonly #setEnded: () => void
  /** Undefined with the driver `none`. */
  readonly #file: LogFile | undefined
  readonly #sender: Sender | undefined
  readonly #stamps: Stamps
  readonly #journalDir: string
  readonly #onData: () => void
  readonly #sources = new Map<StreamName, Source>()
  /** Of all FIFOs, those that have ended too. */
  readonly #inodes = new Map<StreamName, number>()
  readonly #attached = new Set<Socket>()
  readonly #blocking = new Map<Socket, NodeJS.Timeout>()
  #done = false

  /** `onData` is called after lines were written. Throws where a FIFO or the log cannot be opened. */
  constructor(request: OpenRequest, compressor: Compressor, stamps: Stamps, journalDir: string, onData: () => void, sender?: typeof openSender) {
    this.request = request
    this.#onData = onData
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#setEnded = resolve
    this.#stamps = stamps
    this.#journalDir = journalDir
    this.#sender = sender?.(request, (note) => { this.#file?.note(note) })
    const pending: { at: LogPosition; lines: Buffer }[] = []
    try {
      this.#open('stdout', request.stdout, pending)
      if (request.stderr !== undefined) this.#open('stderr', request.stderr, pending)
      if (request.driver !== 'none') this.#file = new LogFile(request, compressor, stamps, pending)
    } catch (e) {
      for (const s of this.#sources.values()) s.socket.destroy()
      void this.#sender?.close()
      throw e
    }
    for (const s of this.#sources.values()) s.socket.resume()
  }

  /**
   * O_RDONLY: the kernel reports the end once the last of the writers that came has gone, not before the first one came. Reading begins
   * with `resume`; what a killed predecessor had taken out of the FIFO already comes from its journal.
   */
  #open(name: StreamName, path: string, pending: { at: LogPosition; lines: Buffer }[]): void {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const onread = { buffer, callback: (bytes: number): boolean => { this.#take(name, buffer.subarray(0, bytes)); return true } }
    let socket: Socket
    try {
      // `onread` is honoured by the constructor but missing from its type.
      socket = new Socket({ fd, readable: true, writable: false, onread } as SocketConstructorOpts)
    } catch (e) {
      closeSync(fd)
      throw e
    }
    const inode = fstatSync(fd).ino
    const lines = new LineFormatter(name, this.#stamps)
    const source: Source = { name, fd, inode, socket, lines, journal: undefined }
    this.#sources.set(name, source)
    this.#inodes.set(name, inode)
    socket.on('error', () => { this.#endOf(name) })
    socket.on('end', () => { this.#endOf(name) })
    if (this.request.driver === 'none') return
    const journal = join(this.#journalDir, `${this.request.id}-${name}`)
    const left = readJournal(journal)
    if (left !== undefined) {
      lines.rest = left.rest.toString('latin1')
      let text = lines.format(left.chunk, left.stamp)
      // Of an earlier run: its last line will not go on.
      if (left.inode !== inode) text += lines.end(Date.now())
      if (text !== '') pending.push({ at: left.position, lines: Buffer.from(text, 'latin1') })
    }
    source.journal = new Journal(journal)
  }

  #take(name: StreamName, chunk: Buffer): void {
    const source = this.#sources.get(name)
    if (source === undefined) return
    const file = this.#file
    if (file !== undefined) this.#log(source, file, chunk)
    if (this.#attached.size > 0) this.#broadcast(name, chunk)
  }

  #log({ lines, inode, journal }: Source, file: LogFile, chunk: Buffer): void {
    const stamp = this.#stamps.next(Date.now())
    try {
      // First of all: until it is written, a kill loses what was read.
      journal?.write({ inode, position: file.position, rest: Buffer.from(lines.rest, 'latin1'), chunk, stamp })
    } catch { /* a full disk: the log itself will say so */ }
    this.#write(lines.format(chunk, stamp))
  }

  #write(text: string): void {
    if (text === '') return
    const data = text.length <= output.length ? output.subarray(0, output.write(text, 'latin1')) : Buffer.from(text, 'latin1')
    this.#file?.append(data)
    this.#sender?.take(data)
    this.#onData()
  }

  #endOf(name: StreamName): void {
    const source = this.#sources.get(name)
    if (source === undefined) return
    this.#sources.delete(name)
    source.socket.destroy()
    this.#write(source.lines.end(Date.now()))
    source.journal?.remove()
    if (this.#sources.size === 0) void this.#finish()
  }

  async #finish(): Promise<void> {
    if (this.#done) return
    this.#done = true
    for (const a of this.#attached) a.end()
    for (const t of this.#blocking.values()) clearTimeout(t)
    this.#attached.clear()
    this.#blocking.clear()
    await this.#sender?.close()
    this.#file?.close()
    this.#setEnded()
  }

  /** Whether it has these very FIFOs: an earlier run's, which a killed engine has left open, had the same paths. */
  reads({ stdout, stderr }: OpenRequest): boolean {
    const same = (name: StreamName, path: string | undefined): boolean => {
      const inode = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false })?.ino
      return path === this.request[name] && (inode === undefined || inode === this.#inodes.get(name))
    }
    return same('stdout', stdout) && same('stderr', stderr)
  }

  /** Takes what the FIFOs hold now, and ends. */
  close(): void {
    for (const source of [...this.#sources.values()]) {
      try {
        for (let n = readSync(source.fd, buffer); n > 0; n = readSync(source.fd, buffer)) this.#take(source.name, buffer.subarray(0, n))
      } catch { /* EAGAIN: empty */ }
      this.#endOf(source.name)
    }
  }

  /** Copies of everything from now on. A client that takes nothing for 10 s while its buffer is full is cut off. */
  attach(client: Socket): void {
    if (this.#done) { client.end(); return }
    this.#attached.add(client)
    const leave = (): void => {
      this.#attached.delete(client)
      this.#unblock(client)
    }
    client.once('close', leave)
    client.on('drain', () => { this.#unblock(client) })
  }

  #broadcast(name: StreamName, chunk: Buffer): void {
    const frame = Buffer.allocUnsafe(5 + chunk.length)
    frame[0] = name === 'stdout' ? 1 : 2
    frame.writeUInt32BE(chunk.length, 1)
    chunk.copy(frame, 5)
    for (const client of this.#attached) {
      client.write(frame)
      if (client.writableLength > ATTACH_HIGH_BYTES && !this.#blocking.has(client)) this.#block(client)
    }
  }

  #block(client: Socket): void {
    this.#blocking.set(client, setTimeout(() => { client.destroy() }, ATTACH_STALL_MS))
    for (const s of this.#sources.values()) s.socket.pause()
  }

  #unblock(client: Socket): void {
    const timer = this.#blocking.get(client)
    if (timer === undefined) return
    clearTimeout(timer)
    this.#blocking.delete(client)
    if (this.#blocking.size === 0) for (const s of this.#sources.values()) s.socket.resume()
  }
}
