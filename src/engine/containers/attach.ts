/** Clients attached to a container's first process: to one that runs, or, from its first byte, to one that will be started. */
import { PassThrough } from 'node:stream'
import type { Readable } from 'node:stream'
import type { ContainerdClient } from '../containerd/index.ts'
import type { ContainerSpec, ProcessStreams } from '../engine.ts'
import { openStdin } from './exec.ts'
import type { FifoPool } from './fifos.ts'
import type { LogClient, OutputCopy } from './log-client.ts'
import type { Entry } from './model.ts'

interface Waiting {
  stdout: PassThrough
  stderr: PassThrough
  stdin?: PassThrough
  exit: PromiseWithResolvers<number>
  closed: boolean
  output?: OutputCopy
}

export class Attachments {
  readonly #client: ContainerdClient
  readonly #fifos: FifoPool
  readonly #logs: LogClient
  /** Of containers that are not started yet. */
  readonly #waiting = new Map<string, Set<Waiting>>()

  constructor(client: ContainerdClient, fifos: FifoPool, logs: LogClient) {
    this.#client = client
    this.#fifos = fifos
    this.#logs = logs
  }

  /** To a container that runs. */
  async now(entry: Entry): Promise<ProcessStreams> {
    const { spec } = entry.record
    const { id } = spec
    const exit = entry.exit.promise
    const output = await this.#logs.attach(id).catch((e: unknown) => {
      // It has ended, and the news of its exit is on its way.
      if (/^no output of .* is open$/.test((e as Error).message)) return endedOutput()
      throw e
    })
    const stdin = spec.stdin === true ? openStdin(this.#client, id, '', this.#fifos.path(`${id}-in`), closesStdin(spec)) : undefined
    return {
      ...(stdin === undefined ? {} : { stdin }),
      stdout: output.stdout,
      ...(spec.tty === true ? {} : { stderr: output.stderr }),
      resize: (columns, rows) => this.#client.tasks.resize(id, '', columns, rows),
      exit,
      close: () => {
        stdin?.destroy()
        output.close()
      },
    }
  }

  /** To the next run of a container that does not run. */
  later(entry: Entry): ProcessStreams {
    const { spec } = entry.record
    const { id } = spec
    const w: Waiting = {
      stdout: new PassThrough(), stderr: new PassThrough(), ...(spec.stdin === true ? { stdin: new PassThrough() } : {}),
      exit: Promise.withResolvers(), closed: false,
    }
    const set = this.#waiting.get(id) ?? new Set()
    this.#waiting.set(id, set.add(w))
    return {
      ...(w.stdin === undefined ? {} : { stdin: w.stdin }),
      stdout: w.stdout,
      ...(spec.tty === true ? {} : { stderr: w.stderr }),
      resize: (columns, rows) => this.#client.tasks.resize(id, '', columns, rows),
      exit: w.exit.promise,
      close: () => {
        w.closed = true
        set.delete(w)
        w.stdin?.destroy()
        w.output?.close()
        w.stdout.end()
        w.stderr.end()
      },
    }
  }

  /** Joins those who wait to the output that is drained now, but not written yet. */
  async connect(id: string): Promise<void> {
    const set = this.#waiting.get(id)
    if (set === undefined) return
    await Promise.all([...set].map(async (w) => {
      const output = await this.#logs.attach(id)
      w.output = output
      if (w.closed) { output.close(); return }
      join(output.stdout, w.stdout)
      join(output.stderr, w.stderr)
    }))
  }

  /** Once the shim reads: what clients have written by now goes first. */
  openStdin(entry: Entry, path: string): void {
    const { spec } = entry.record
    for (const { stdin } of this.#waiting.get(spec.id) ?? []) {
      if (stdin === undefined || stdin.destroyed) continue
      const fifo = openStdin(this.#client, spec.id, '', path, closesStdin(spec))
      if (fifo === undefined) stdin.resume()
      else {
        stdin.pipe(fifo)
        // A client that goes without an end leaves the process's stdin as it is.
        stdin.once('close', () => { if (!stdin.readableEnded) fifo.destroy() })
        fifo.once('close', () => { stdin.resume() })
      }
    }
  }

  /** It runs: those who waited have the exit of this run. */
  started(entry: Entry): void {
    const { id } = entry.record.spec
    for (const w of this.#waiting.get(id) ?? []) entry.exit.promise.then(w.exit.resolve, () => undefined)
    this.#waiting.delete(id)
  }

  /** It could not be started, or is gone. */
  ended(id: string, exitCode: number): void {
    for (const w of this.#waiting.get(id) ?? []) {
      w.output?.close()
      w.stdout.end()
      w.stderr.end()
      w.stdin?.destroy()
      w.exit.resolve(exitCode)
    }
    this.#waiting.delete(id)
  }
}

/** Whether the end of a client's input is the process's. A terminal has no such end. */
function closesStdin(spec: ContainerSpec): boolean { return spec.stdinOnce !== false && spec.tty !== true }

function endedOutput(): OutputCopy {
  const [stdout, stderr] = [new PassThrough().end(), new PassThrough().end()]
  return { stdout, stderr, close: () => { stdout.destroy(); stderr.destroy() } }
}

function join(from: Readable, to: PassThrough): void {
  from.pipe(to)
  from.once('error', () => { to.end() })
}
