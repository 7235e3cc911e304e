/** The log daemon's socket: open, close, wait, follow, attach. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { replaceFileSync } from '../../files/replace.ts'
import { Compressor } from './compressor.ts'
import { Drain } from './drain.ts'
import { Stamps } from './format.ts'
import { onJsonLines } from './protocol.ts'
import type { Answer, DaemonEvent, OpenRequest, Request } from './protocol.ts'
import type { openSender } from './senders/index.ts'

export class LogServer {
  readonly #socketPath: string
  readonly #statePath: string
  /** Beside the socket: like FIFOs, journals are worth nothing after a reboot. */
  readonly #journalDir: string
  readonly #server: Server
  readonly #drains = new Map<string, Drain>()
  readonly #followers = new Map<string, Set<Socket>>()
  readonly #connections = new Set<Socket>()
  readonly #compressor = new Compressor()
  readonly #stamps = new Stamps()

  #openSender: typeof openSender | undefined

  constructor(socketPath: string) {
    this.#socketPath = socketPath
    this.#statePath = `${socketPath}.state`
    this.#journalDir = `${socketPath}.journal`
    this.#server = createServer((s) => { this.#connection(s) })
  }

  /** Takes up again what was open when a predecessor ended, then listens. Rejects if another daemon holds the socket. */
  async listen(): Promise<void> {
    if (await answers(this.#socketPath)) throw new Error(`another log daemon is listening on ${this.#socketPath}`)
    rmSync(this.#socketPath, { force: true })
    mkdirSync(this.#journalDir, { recursive: true, mode: 0o700 })
    for (const request of readState(this.#statePath)) {
      await this.#loadFor(request)
      try { this.#open(request) } catch { /* its FIFOs are gone: so is the container */ }
    }
    this.#saveState()
    for (const name of readdirSync(this.#journalDir)) {
      if (!this.#drains.has(name.slice(0, name.lastIndexOf('-')))) rmSync(join(this.#journalDir, name), { force: true })
    }
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject)
        this.#server.listen(this.#socketPath, () => { resolve() })
      })
    } finally {
      process.umask(umask)
    }
    chmodSync(this.#socketPath, 0o600)
  }

  /** Stops taking requests and writes what is in the FIFOs; a successor goes on with what is still open. */
  async close(): Promise<void> {
    this.#server.close()
    const drains = [...this.#drains.values()]
    for (const d of drains) d.close()
    writeState(this.#statePath, drains.map((d) => d.request))
    await Promise.all(drains.map((d) => d.ended))
    for (const s of this.#connections) s.destroy()
  }

  #connection(socket: Socket): void {
    this.#connections.add(socket)
    socket.on('error', () => { socket.destroy() })
    socket.once('close', () => {
      this.#connections.delete(socket)
      for (const set of this.#followers.values()) set.delete(socket)
    })
    onJsonLines(socket, (value) => { void this.#answer(socket, value as Request & { n: number }) })
  }

  async #answer(socket: Socket, request: Request & { n: number }): Promise<void> {
    let answer: Answer
    try {
      answer = { n: request.n, ...await this.#handle(socket, request) }
    } catch (e) {
      answer = { n: request.n, error: (e as Error).message }
    }
    if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`)
    if (request.op === 'attach' && answer.error === undefined) this.#drains.get(request.id)?.attach(socket)
  }

  async #handle(socket: Socket, r: Request): Promise<Omit<Answer, 'n'>> {
    switch (r.op) {
      case 'open':
        await this.#loadFor(r)
        this.#open(r)
        this.#saveState()
        return {}
      case 'close':
        this.#drains.get(r.id)?.close()
        return {}
      case 'wait': {
        const drain = this.#drains.get(r.id)
        if (drain === undefined) return {}
        const timer = new AbortController()
        const late = sleep(r.timeoutMs, 'late', { signal: timer.signal }).catch(() => 'ended')
        if (await Promise.race([drain.ended, late]) === 'late') drain.close()
        timer.abort()
        return {}
      }
      case 'follow': {
        const set = this.#followers.get(r.id) ?? new Set()
        this.#followers.set(r.id, set.add(socket))
        return { open: this.#drains.has(r.id) }
      }
      case 'unfollow':
        this.#followers.get(r.id)?.delete(socket)
        return {}
      case 'list':
        return { ids: [...this.#drains.keys()] }
      case 'attach':
        if (!this.#drains.has(r.id)) throw new Error(`no output of ${r.id} is open`)
        return {}
    }
  }

  /** Few containers have their lines sent elsewhere, and the code for it holds some megabytes. */
  async #loadFor({ driver }: OpenRequest): Promise<void> {
    if (driver === 'syslog' || driver === 'fluentd') this.#openSender ??= (await import('./senders/index.ts')).openSender
  }

  #open(request: OpenRequest): void {
    const { id, stdout, stderr, dir, maxBytes, maxFiles, driver, options } = request
    const old = this.#drains.get(id)
    if (old?.reads(request) === true) return
    old?.close()
    const clean: OpenRequest = {
      id, stdout, ...(stderr === undefined ? {} : { stderr }), dir, maxBytes, maxFiles, ...(driver === undefined ? {} : { driver }),
      ...(options === undefined ? {} : { options }),
    }
    const drain = new Drain(clean, this.#compressor, this.#stamps, this.#journalDir, () => { this.#tell({ event: 'data', id }) }, this.#openSender)
    this.#drains.set(id, drain)
    void drain.ended.then(() => {
      if (this.#drains.get(id) !== drain) return
      this.#drains.delete(id)
      this.#tell({ event: 'end', id })
      if (this.#server.listening) this.#saveState()
    })
  }

  #tell(event: DaemonEvent): void {
    const followers = this.#followers.get(event.id)
    if (followers === undefined || followers.size === 0) return
    const line = `${JSON.stringify(event)}\n`
    // A follower that does not read will look at the file when it does: one unsent notice is as good as many.
    for (const f of followers) if (event.event === 'end' || f.writableLength < 65536) f.write(line)
    if (event.event === 'end') this.#followers.delete(event.id)
  }

  #saveState(): void {
    writeState(this.#statePath, [...this.#drains.values()].map((d) => d.request))
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const s = createConnection(path)
    s.once('connect', () => { s.destroy(); resolve(true) })
    s.once('error', () => { resolve(false) })
  })
}

function readState(path: string): OpenRequest[] {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as OpenRequest[]
  } catch {
    return []
  }
}

function writeState(path: string, open: OpenRequest[]): void { replaceFileSync(path, JSON.stringify(open)) }
