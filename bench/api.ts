/**
 * The API server under load, over TLS: `node bench/api.ts [creates]`. The server runs in a process of its own with its store in
 * a temporary directory; this process is the client, on raw TLS connections so that it costs little.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connect } from 'node:tls'
import type { TLSSocket } from 'node:tls'

const CLIENTS = 20
const creates = Number(process.argv[2] ?? 10_000)

async function serve(): Promise<void> {
  const { runServer } = await import('../src/server/main.ts')
  const config = JSON.parse(readFileSync(process.argv[3]!, 'utf8'))
  const server = await runServer(config, { log: { info() {}, warn: console.error, error: console.error } })
  process.stdout.write(`${server.port}\n`)
  // A bench that dies takes its server along.
  process.stdin.on('end', () => process.exit(1)).resume()
  process.once('SIGTERM', () => void server.close().then(() => process.exit(0)))
}

/** One keep-alive HTTP/1.1 connection, one request at a time. */
class Connection {
  #socket: TLSSocket
  #buffer: Buffer[] = []
  #size = 0
  #need = -1
  #status = 0
  #done: ((r: { status: number; body: Buffer }) => void) | undefined

  constructor(socket: TLSSocket) {
    this.#socket = socket
    socket.on('data', (c: Buffer) => this.#onData(c))
  }

  static open(port: number, pems: { ca: string; cert: string; key: string }): Promise<Connection> {
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

  call(method: string, path: string, body = ''): Promise<{ status: number; body: Buffer }> {
    return new Promise(resolve => {
      this.#done = resolve
      this.#socket.write(`${method} ${path} HTTP/1.1\r\nHost: x\r\nUser-Agent: bench/1\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
    })
  }

  close(): void { this.#socket.destroy() }
}

/** Runs `count` calls over all connections. */
async function load(
  connections: Connection[], count: number, call: (c: Connection, i: number) => Promise<{ status: number }>, expected: number,
): Promise<{ perS: number; p50: number; p99: number }> {
  const times: number[] = []
  let next = 0
  const startMs = performance.now()
  await Promise.all(connections.map(async c => {
    for (let i = next++; i < count; i = next++) {
      const t = performance.now()
      const { status } = await call(c, i)
      if (status !== expected) throw new Error(`status ${status}, expected ${expected}`)
      times.push(performance.now() - t)
    }
  }))
  const seconds = (performance.now() - startMs) / 1000
  times.sort((a, b) => a - b)
  return { perS: count / seconds, p50: times[times.length >> 1]!, p99: times[Math.floor(times.length * 0.99)]! }
}

function rssMB(pid: number): number { return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024 }

function row(what: string, value: string, target: string): void { console.log(`${what.padEnd(62)} ${value.padEnd(34)} ${target}`) }

const pod = (name: string): string => JSON.stringify({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: 'bench' } },
  spec: { containers: [{ name: 'c', image: 'example/app:1', env: [{ name: 'PORT', value: '8080' }], ports: [{ containerPort: 8080 }], resources: { limits: { cpu: '100m', memory: '64Mi' } } }], nodeSelector: { none: 'x' } },
})

async function bench(): Promise<void> {
  const { testConfig } = await import('../src/server/testing/start.ts')
  const dir = mkdtempSync(join(tmpdir(), 'gantry-bench-'))
  let server: ChildProcess | undefined
  try {
    const { config, admin } = await testConfig(dir)
    writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
    const start = async (): Promise<{ port: number; ms: number }> => {
      const t = performance.now()
      server = spawn(process.execPath, [fileURLToPath(import.meta.url), 'serve', join(dir, 'config.json')], {
        // As the launcher does: compiled code is kept, so that a later start neither strips types nor parses.
        stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, NODE_COMPILE_CACHE: join(dir, 'compiled') },
      })
      const port = await new Promise<number>((resolve, reject) => {
        server!.stdout!.once('data', (c: Buffer) => resolve(Number(c.toString())))
        server!.once('exit', code => reject(new Error(`the server exited with ${code}`)))
      })
      return { port, ms: performance.now() - t }
    }
    const stop = async (): Promise<void> => {
      const gone = new Promise(resolve => server!.once('exit', resolve))
      server!.kill('SIGTERM')
      await gone
    }
    row('process start to ready, empty store, nothing compiled', `${(await start()).ms.toFixed(0)} ms`, '')
    await new Promise(resolve => setTimeout(resolve, 1500))
    await stop()
    const { port, ms } = await start()
    row('process start to ready, second start', `${ms.toFixed(0)} ms`, '≤ 300 ms')
    await new Promise(resolve => setTimeout(resolve, 2000))
    row('server memory, idle', `${rssMB(server!.pid!).toFixed(0)} MB`, '≤ 120 MB')

    const connections = await Promise.all(Array.from({ length: CLIENTS }, () => Connection.open(port, admin)))
    const cm = (i: number): string => `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm-${i}"},"data":{"key":"value-${i}","other":"${'x'.repeat(100)}"}}`
    await load(connections, 500, (c, i) => c.call('POST', '/api/v1/namespaces/default/configmaps', cm(1e6 + i)), 201)
    const c = await load(connections, creates, (k, i) => k.call('POST', '/api/v1/namespaces/default/configmaps', cm(i)), 201)
    row(`create ${creates} ConfigMaps, ${CLIENTS} clients, durable`, `${c.perS.toFixed(0)}/s  p50 ${c.p50.toFixed(1)}  p99 ${c.p99.toFixed(1)} ms`, '≥ 3000/s, p99 ≤ 30 ms')

    await load(connections, 1000, (k, i) => k.call('POST', '/api/v1/namespaces/default/pods', pod(`p-${i}`)), 201)
    await load(connections, 2000, k => k.call('GET', '/api/v1/namespaces/default/pods/p-1'), 200)
    const g = await load(connections, 20_000, k => k.call('GET', '/api/v1/namespaces/default/pods/p-1'), 200)
    row(`get one Pod, ${CLIENTS} clients`, `${g.perS.toFixed(0)}/s  p50 ${g.p50.toFixed(1)}  p99 ${g.p99.toFixed(1)} ms`, '≥ 8000/s')

    const first = await load(connections.slice(0, 1), 1, k => k.call('GET', '/api/v1/namespaces/default/pods'), 200)
    const again = await load(connections.slice(0, 1), 100, k => k.call('GET', '/api/v1/namespaces/default/pods'), 200)
    const { body } = await connections[0]!.call('GET', '/api/v1/namespaces/default/pods')
    row(`list 1000 Pods (${(body.length / 1e6).toFixed(1)} MB), first / again`, `${first.p50.toFixed(1)} ms / p50 ${again.p50.toFixed(1)}  p99 ${again.p99.toFixed(1)} ms`, 'p50 ≤ 5 ms')

    const b = await load(connections, 1000, (k, i) => k.call('POST', `/api/v1/namespaces/default/pods/p-${i}/binding`, '{"target":{"kind":"Node","name":"n1"}}'), 201)
    row('bind 1000 Pods over HTTPS', `${b.perS.toFixed(0)}/s  p99 ${b.p99.toFixed(1)} ms`, '')
    row(`server memory with ${creates + 1500} objects`, `${rssMB(server!.pid!).toFixed(0)} MB`, '')
    for (const k of connections) k.close()
    await stop()
  } finally {
    server?.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
}

await (process.argv[2] === 'serve' ? serve() : bench())
