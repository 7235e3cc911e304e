/**
 * Tools of the machine started ahead of their use: a process that has been loaded and waits for its batch on stdin takes a millisecond
 * where a new one takes five.
 */
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { spawn } from 'node:child_process'
import { CnmError } from './cnm.ts'

const timeoutMs = 30_000
const maxMessageChars = 2000

/** A process that waits for (the rest of) its input. */
export class Waiting {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #ended: Promise<{ status: number; stderr: string }>
  readonly #what: string
  #alive = true

  constructor(command: string, args: string[]) {
    this.#what = command
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: searchPath(), LC_ALL: 'C' } })
    const errors: Buffer[] = []
    this.#child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
    this.#child.stdout.resume()
    // One that ends before it has read its input is reported by its status.
    this.#child.stdin.on('error', () => undefined)
    this.#ended = new Promise((resolve) => {
      this.#child.on('error', (error: NodeJS.ErrnoException) => {
        this.#alive = false
        const missing = error.code === 'ENOENT' ? `"${command}" is not installed on this machine` : error.message
        resolve({ status: 127, stderr: missing })
      })
      this.#child.on('close', (code) => {
        this.#alive = false
        resolve({ status: code ?? 128, stderr: Buffer.concat(errors).toString() })
      })
    })
    this.#keepAlive(false)
  }

  /** False: it ended by itself; whoever wanted it must take another. */
  get alive(): boolean {
    return this.#alive
  }

  /** More of a batch of `ip`; resolves when all of it is done. Rejects with the tool's own words, and then it has ended. */
  async ask(lines: string): Promise<void> {
    this.#keepAlive(true)
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs)
    const { promise: answered, resolve } = Promise.withResolvers<void>()
    let said = ''
    const onData = (chunk: Buffer): void => {
      said += chunk.toString('latin1')
      if (said.includes('link/loopback') && said.endsWith('\n')) resolve()
    }
    this.#child.stdout.on('data', onData)
    try {
      this.#child.stdin.write(`${lines}link show dev lo\n`)
      await Promise.race([answered, this.#ended.then((end) => { throw this.#failure(end) })])
    } finally {
      clearTimeout(timer)
      this.#child.stdout.off('data', onData)
      // Without a reader it would stop.
      this.#child.stdout.resume()
    }
    this.#keepAlive(false)
  }

  /** The last part of the batch. Rejects with the tool's own words. */
  async finish(lines: string): Promise<void> {
    this.#keepAlive(true)
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), timeoutMs)
    this.#child.stdin.end(lines)
    const end = await this.#ended
    clearTimeout(timer)
    if (end.status !== 0) throw this.#failure(end)
  }

  /** Ends it without work. */
  async dismiss(): Promise<void> {
    this.#keepAlive(true)
    this.#child.stdin.end()
    await this.#ended
  }

  #failure({ status, stderr }: { status: number; stderr: string }): CnmError {
    return new CnmError('failed', `${this.#what}: ${stderr.trim().slice(0, maxMessageChars) || `ended with status ${status}`}`)
  }

  /** One that only waits must not keep this process from its end. */
  #keepAlive(busy: boolean): void {
    const streams = [this.#child, this.#child.stdin, this.#child.stdout, this.#child.stderr] as unknown as { ref?(): void; unref?(): void }[]
    for (const stream of streams) {
      if (busy) stream.ref?.()
      else stream.unref?.()
    }
  }
}

/** A tool for this machine's own namespace, with one process in waiting: it serves one batch; the next is started while that one works. */
export class WarmTool {
  readonly #command: string
  readonly #args: string[]
  #next: Waiting | undefined
  #closed = false

  constructor(command: string, args: string[]) {
    this.#command = command
    this.#args = args
  }

  /** One batch, all lines of it in one process. */
  async run(lines: string): Promise<void> {
    const ready = this.#next?.alive === true ? this.#next : new Waiting(this.#command, this.#args)
    this.#next = undefined
    const done = ready.finish(lines)
    // Not at once: the next one's start would compete with this one's work.
    setImmediate(() => { if (!this.#closed) this.#next ??= new Waiting(this.#command, this.#args) })
    await done
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#next?.dismiss()
    this.#next = undefined
  }
}

/**
 * One `ip` for all batches, one after another: none has to wait for a process. `ip` remembers links by their names: whoever makes or removes
 * links whose names may come again calls `forget`.
 */
export class SharedIp {
  #process: Waiting | undefined = new Waiting('ip', ['-batch', '-'])
  #tail: Promise<unknown> = Promise.resolve()

  run(lines: string): Promise<void> {
    const result = this.#tail.then(async () => {
      // A batch that failed has ended it.
      if (this.#process?.alive !== true) this.#process = new Waiting('ip', ['-batch', '-'])
      await this.#process.ask(lines)
    })
    this.#tail = result.catch(() => undefined)
    return result
  }

  /** Resolves when the process of all batches so far has ended; the next one gets another. */
  forget(): Promise<void> {
    const ended = this.#tail.then(async () => {
      const old = this.#process
      this.#process = undefined
      await old?.dismiss()
    })
    this.#tail = ended
    return ended
  }
}

function searchPath(): string {
  return `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`
}
