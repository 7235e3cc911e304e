/** The engine's side of the log daemon's socket; connects again after the daemon's restart. */
import { createConnection } from 'node:net'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import { onJsonLines } from '../logger/protocol.ts'
import type { Answer, DaemonEvent, OpenRequest, Request } from '../logger/protocol.ts'

const RETRY_MS = 50
const MAX_RETRY_MS = 500
/** How long a call waits for a daemon that is away. */
const PATIENCE_MS = 5000

export interface OutputCopy { stdout: Readable; stderr: Readable; close(): void }

export class LogClient {
  readonly #path: string
  readonly #onConnected: () => void
  readonly #waiting = new Map<number, { resolve(a: Answer): void; reject(e: Error): void }>()
  readonly #listeners = new Map<string, Set<(e: DaemonEvent['event']) => void>>()
  #socket: Socket | undefined
  #connected = Promise.withResolvers<void>()
  #retry: NodeJS.Timeout | undefined
  #retryMs = RETRY_MS
  #closed = false
  #n = 0

  /** `onConnected` is called after each (re)connection: tell the daemon again what must be open. */
  constructor(path: string, onConnected: () => void) {
    this.#path = path
    this.#onConnected = onConnected
    this.#connect()
  }

  #connect(): void {
    const socket = createConnection(this.#path)
    socket.on('connect', () => {
      this.#socket = socket
      this.#retryMs = RETRY_MS
      for (const id of this.#listeners.keys()) this.#send({ op: 'follow', id }).catch(() => undefined)
      this.#connected.resolve()
      this.#onConnected()
    })
    onJsonLines(socket, (value) => { this.#receive(value as Answer | DaemonEvent) })
    socket.on('error', () => { socket.destroy() })
    socket.on('close', () => { this.#lost(socket) })
  }

  #lost(socket: Socket): void {
    if (this.#socket === socket) {
      this.#socket = undefined
      this.#connected = Promise.withResolvers()
    }
    for (const w of this.#waiting.values()) w.reject(this.#unavailable())
    this.#waiting.clear()
    if (this.#closed) return
    this.#retry = setTimeout(() => { this.#connect() }, this.#retryMs)
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS)
  }

  #unavailable(): EngineError {
    return new EngineError('unavailable', `the log daemon does not answer on ${this.#path}; is it running?`)
  }

  #receive(message: Answer | DaemonEvent): void {
    if ('event' in message) {
      for (const f of this.#listeners.get(message.id) ?? []) f(message.event)
      return
    }
    const waiter = this.#waiting.get(message.n)
    this.#waiting.delete(message.n)
    if (message.error === undefined) waiter?.resolve(message)
    else waiter?.reject(new EngineError('failed', message.error))
  }

  #send(request: Request): Promise<Answer> {
    const socket = this.#socket
    if (socket === undefined) return Promise.reject(this.#unavailable())
    const n = ++this.#n
    return new Promise((resolve, reject) => {
      this.#waiting.set(n, { resolve, reject })
      socket.write(`${JSON.stringify({ ...request, n })}\n`)
    })
  }

  async call(request: Request): Promise<Answer> {
    if (this.#socket === undefined) await this.#patience()
    return this.#send(request)
  }

  async #patience(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => { timer = setTimeout(() => { reject(this.#unavailable()) }, PATIENCE_MS) })
    try {
      await Promise.race([this.#connected.promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  async open(request: OpenRequest): Promise<void> { await this.call({ op: 'open', ...request }) }
  async finish(id: string): Promise<void> { await this.call({ op: 'close', id }) }
  /** Resolves when the output has ended; after `timeoutMs` the daemon ends it. */
  async wait(id: string, timeoutMs: number): Promise<void> { await this.call({ op: 'wait', id, timeoutMs }) }
  async list(): Promise<string[]> { return (await this.call({ op: 'list' })).ids ?? [] }

  /** Resolves with whether output is open, and a function that stops. After a reconnection events simply go on. */
  async follow(id: string, listener: (e: DaemonEvent['event']) => void): Promise<{ open: boolean; stop(): void }> {
    const set = this.#listeners.get(id) ?? new Set()
    this.#listeners.set(id, set.add(listener))
    const stop = (): void => {
      set.delete(listener)
      if (set.size > 0 || this.#listeners.get(id) !== set) return
      this.#listeners.delete(id)
      this.#send({ op: 'unfollow', id }).catch(() => undefined)
    }
    try {
      return { open: (await this.call({ op: 'follow', id })).open === true, stop }
    } catch (e) {
      stop()
      throw e
    }
  }

  /** Everything the container writes from now on. Back-pressure reaches the container. */
  attach(id: string): Promise<OutputCopy> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(this.#path)
      const stdout = new Readable({ read: () => { socket.resume() } })
      const stderr = new Readable({ read: () => { socket.resume() } })
      let rest: Buffer = Buffer.alloc(0)
      let answered = false
      socket.on('connect', () => { socket.write(`${JSON.stringify({ op: 'attach', id, n: 1 })}\n`) })
      socket.on('data', (chunk: Buffer) => {
        rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
        if (!answered) {
          const end = rest.indexOf(10)
          if (end < 0) return
          const answer = JSON.parse(rest.toString('utf8', 0, end)) as Answer
          rest = rest.subarray(end + 1)
          answered = true
          if (answer.error !== undefined) {
            socket.destroy()
            reject(new EngineError('conflict', answer.error))
            return
          }
          resolve({ stdout, stderr, close: () => { socket.destroy() } })
        }
        while (rest.length >= 5) {
          const length = rest.readUInt32BE(1)
          if (rest.length < 5 + length) break
          const target = rest[0] === 1 ? stdout : stderr
          if (!target.push(rest.subarray(5, 5 + length))) socket.pause()
          rest = rest.subarray(5 + length)
        }
      })
      socket.on('error', () => { socket.destroy() })
      socket.on('close', () => {
        stdout.push(null)
        stderr.push(null)
        if (!answered) reject(this.#unavailable())
      })
    })
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#socket?.destroy()
  }
}
