/** Runs a process in a running container, with its streams held by the engine. */
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { ociAny, orAbsent } from '../containerd/index.ts'
import type { ContainerdClient } from '../containerd/index.ts'
import type { ProcessStreams } from '../engine.ts'
import { attachAhead } from './attach-ahead.ts'
import { startFailure, toEngineError } from './failures.ts'
import type { FifoPool } from './fifos.ts'
import type { OciProcess } from './oci-spec.ts'
import type { ExitWaiters } from './processes.ts'
import { signalNumber } from './signals.ts'
import { readFifo, writeFifo } from './stdio.ts'

/** After an exit, how long output may stand still before it is taken as ended: a child may hold the FIFO for ever. */
export const OUTPUT_CAP_MS = 2000

export interface ExecDeps { client: ContainerdClient; fifos: FifoPool; exits: ExitWaiters }

/** A process that could not be started is no rejection: its streams say why, and it exits with 126 or 127, as docker shows it. */
export async function execProcess(d: ExecDeps, container: string, process: OciProcess, wantStdin: boolean): Promise<ProcessStreams> {
  // runc's Go runtime raises a soft limit of files to the hard one as it begins. With the wait, runc sets the wanted limits after that.
  if ((process.rlimits ?? []).length === 0) attachAhead()
  const exec = `exec-${randomBytes(8).toString('hex')}`
  const tty = process.terminal
  const names = [`${exec}-out`, ...(tty ? [] : [`${exec}-err`]), ...(wantStdin ? [`${exec}-in`] : [])]
  const paths = await d.fifos.take(names)
  const stdoutPath = paths[0] as string
  const stderrPath = tty ? undefined : paths[1]
  const stdinPath = wantStdin ? paths.at(-1) : undefined
  const readers = [stdoutPath, ...(stderrPath === undefined ? [] : [stderrPath])].map(readFifo)
  const waiter = d.exits.register(container, exec)
  let pid: number
  try {
    await d.client.tasks.exec({
      containerId: container, execId: exec, spec: ociAny('Process', process), terminal: tty,
      stdin: stdinPath ?? '', stdout: stdoutPath, stderr: stderrPath ?? '',
    })
    pid = await d.client.tasks.start(container, exec)
  } catch (e) {
    waiter.forget()
    for (const r of readers) r.destroy()
    d.fifos.remove(paths)
    await orAbsent(d.client.tasks.deleteProcess(container, exec)).catch(() => undefined)
    const failure = startFailure(e)
    if (failure.exitCode === undefined) throw failure.error
    return failedStreams(tty, failure.error.message, failure.exitCode)
  }
  const delivered = Promise.all(readers.map((r) => r.destroyed ? undefined : new Promise((resolve) => { r.once('close', resolve) })))
  let exited = false
  const exit = waiter.exited.then(async (x) => {
    exited = true
    d.client.tasks.deleteProcess(container, exec).catch(() => undefined)
    for (const r of readers) if (!r.destroyed) capOutput(r as Socket)
    // Who reads has it all by then; who does not is not waited for.
    await Promise.race([delivered, sleep(OUTPUT_CAP_MS, undefined, { ref: false })])
    return x.exitStatus
  })
  const stdin = stdinPath === undefined ? undefined : openStdin(d.client, container, exec, stdinPath, !tty)
  // Everybody who needs them has them open.
  d.fifos.remove(paths)
  return {
    ...(stdin === undefined ? {} : { stdin }),
    stdout: readers[0] as Readable,
    ...(readers[1] === undefined ? {} : { stderr: readers[1] }),
    resize: (columns, rows) => d.client.tasks.resize(container, exec, columns, rows),
    exit,
    pid,
    kill: async (signal) => {
      const n = signalNumber(signal)
      if (!exited) await orAbsent(d.client.tasks.kill(container, n, { execId: exec })).catch((e: unknown) => { throw toEngineError(e) })
    },
    close: () => {
      stdin?.destroy()
      for (const r of readers) r.destroy()
    },
  }
}

/** The writing end of a process's stdin; with `closes` its end is the process's end of file. undefined if the process is gone already. */
export function openStdin(client: ContainerdClient, container: string, exec: string, path: string, closes: boolean): Socket | undefined {
  let stdin: Socket
  try {
    stdin = writeFifo(path) as Socket
  } catch {
    return undefined
  }
  // Our end of the FIFO first, then the one the shim keeps open for those who detach.
  stdin.once('finish', () => {
    stdin.destroy()
    if (closes) client.tasks.closeStdin(container, exec).catch(() => undefined)
  })
  return stdin
}

/** Ends a stream whose process is gone and which neither ends nor moves. A slow consumer is given all the time it needs. */
function capOutput(reader: Socket): void {
  let before = reader.bytesRead
  const timer = setInterval(() => {
    if (reader.readableLength > 0 || reader.bytesRead !== before) { before = reader.bytesRead; return }
    clearInterval(timer)
    reader.push(null)
    reader.destroy()
  }, OUTPUT_CAP_MS)
  reader.once('close', () => { clearInterval(timer) })
}

function failedStreams(tty: boolean, message: string, exitCode: number): ProcessStreams {
  const text = Readable.from([Buffer.from(`${message}\n`)])
  return {
    failure: message,
    stdout: tty ? text : Readable.from([]),
    ...(tty ? {} : { stderr: text }),
    resize: () => Promise.resolve(),
    exit: Promise.resolve(exitCode),
    close: () => { text.destroy() },
  }
}
