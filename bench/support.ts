/** What the benchmarks share: medians, rows of the table, and a server in a process of its own. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { connect } from 'node:tls'
import type { TLSSocket } from 'node:tls'

/** One line of the table. Without `met` it is only told, not judged. */
export interface Row { work: string; measured: string; target?: string; met?: boolean }

/** Under `bench/all.ts` a row goes to the one table, alone it is printed. */
export function row(work: string, measured: string, target?: string, met?: boolean): void {
  const r: Row = { work, measured, ...(target !== undefined && { target }), ...(met !== undefined && { met }) }
  if (process.send !== undefined) process.send(r)
  else printRow(r)
}

export function printRow({ work, measured, target = '', met }: Row): void {
  console.log(`${met === undefined ? '    ' : met ? 'yes ' : 'NO  '} ${work.padEnd(66)} ${measured.padEnd(54)} ${target}`)
}

export function printMachine(): void {
  console.log(`${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, load ${loadavg().map(l => l.toFixed(1)).join(' ')}, Node ${process.version}`)
}

export function median(values: readonly number[]): number { return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN }

/** `12.3 ms (11.0 – 14.2)` */
export function spread(values: readonly number[], digits = 0): string {
  return `${median(values).toFixed(digits)} ms (${Math.min(...values).toFixed(digits)} – ${Math.max(...values).toFixed(digits)})`
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

export const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

/** Milliseconds of processor time that a process has used: its main thread, and all its threads that still run. */
export function cpuMs(pid: number): { main: number; all: number } {
  const of = (tid: string): number => Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
  return { main: of(String(pid)), all: readdirSync(`/proc/${pid}/task`).reduce((sum, tid) => sum + of(tid), 0) }
}

interface Pems { ca: string; cert: string; key: string }
export interface ServerProcess { pid: number; port: number; admin: Pems; stop(): Promise<void> }

/** A server with its store in a temporary directory, which ends with its parent. `lead`: with scheduler and controllers. */
export async function startServer(lead: boolean): Promise<ServerProcess> {
  const child: ChildProcess = fork(fileURLToPath(new URL('server-process.ts', import.meta.url)), [String(lead)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    // As a cluster's supervisor starts it.
    execArgv: ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=4'],
  })
  const { port, admin } = await new Promise<{ port: number; admin: Pems }>((resolve, reject) => {
    child.once('message', resolve as never)
    child.once('exit', code => reject(new Error(`the server ended with ${code}`)))
  })
  return {
    pid: child.pid!, port, admin,
    stop: () => new Promise(resolve => {
      child.once('exit', () => resolve())
      child.send('stop')
    }),
  }
}

export interface HttpAnswer { status: number; body: Buffer }

/** One keep-alive HTTP/1.1 connection over TLS, one request at a time: a client that costs little beside what it measures. */
export class Connection {
  readonly #socket: TLSSocket
  #buffer: Buffer[] = []
  #size = 0
  #need = -1
  #status = 0
  #done: ((r: HttpAnswer) => void) | undefined

  private constructor(socket: TLSSocket) {
    this.#socket = socket
    socket.on('data', (c: Buffer) => this.#onData(c))
  }

  static open(port: number, pems: Pems): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const s = connect({ host: '127.0.0.1', port, ...pems, ALPNProtocols: ['http/1.1'] }, () => resolve(new Connection(s)))
      s.setNoDelay(true)
      s.on('error', reject)
    })
  }

  #onData(chunk: Buffer): void {
    this.#buffer.push(chunk)
    this.#size += chunk.length
    if (this.#need === -1) {
      const all = this.#buffer.length === 1 ? chunk : Buffer.concat(this.#buffer)
      const end = all.indexOf('\r\n\r\n')
      if (end === -1) return
      const head = all.toString('latin1', 0, end)
      this.#status = Number(head.slice(9, 12))
      this.#need = end + 4 + Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)
      this.#buffer = [all]
    }
    if (this.#size < this.#need) return
    const body = Buffer.concat(this.#buffer)
    this.#buffer = []
    this.#size = 0
    this.#need = -1
    this.#done!({ status: this.#status, body })
  }

  call(method: string, path: string, body = ''): Promise<HttpAnswer> {
    return new Promise(resolve => {
      this.#done = resolve
      this.#socket.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nUser-Agent: bench/1\r\nContent-Type: application/json\r\n`
        + `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
    })
  }

  /** The bytes of a watch, headers and chunk marks included, as they come; the connection is of no other use from then on. */
  watch(path: string, onData: (bytes: Buffer) => void): void {
    this.#socket.removeAllListeners('data')
    this.#socket.on('data', onData)
    this.#socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nUser-Agent: bench/1\r\n\r\n`)
  }

  close(): void { this.#socket.destroy() }
}

/** Runs `count` calls over all connections; a call that fails ends the run. Milliseconds of p50 and p99, calls a second. */
export async function load(
  connections: readonly Connection[], count: number, call: (c: Connection, i: number) => Promise<HttpAnswer>, expected: number,
): Promise<{ perS: number; p50: number; p99: number }> {
  const times: number[] = []
  let next = 0
  const seconds = await timed(() => Promise.all(connections.map(async c => {
    for (let i = next++; i < count; i = next++) {
      const t = performance.now()
      const { status, body } = await call(c, i)
      if (status !== expected) throw new Error(`status ${status}, expected ${expected}: ${body.toString().slice(-500)}`)
      times.push(performance.now() - t)
    }
  }))) / 1000
  times.sort((a, b) => a - b)
  return { perS: count / seconds, p50: times[times.length >> 1]!, p99: times[Math.floor(times.length * 0.99)]! }
}
