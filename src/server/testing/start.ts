/** A whole server in this process over a temporary directory, and a small client for it: for tests and benchmarks. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerConfig } from '../../machines/layout.ts'
import { createCA, issueCert, writeIdentity } from '../../machines/pki.ts'
import { runServer } from '../main.ts'
import type { RunningServer } from '../main.ts'

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
export type Anything = any

export interface Answer { status: number; headers: Record<string, string | string[] | undefined>; text: string; body: Anything }

export interface TestServer {
  config: ServerConfig
  dir: string
  port: number
  /** Sends as the cluster's administrator; objects become JSON. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** PEM texts of the administrator. */
  admin: { ca: string; cert: string; key: string }
  restart(): Promise<void>
  /** Of the running server. */
  lost(): Promise<Error>
  close(): Promise<void>
}

const quiet = { info: () => {}, warn: () => {}, error: (m: string, f?: object) => { process.stderr.write(`${m} ${JSON.stringify(f ?? {})}\n`) } }

/** Files of a server's configuration under `dir`, on a free port of the loopback. */
export async function testConfig(dir: string, store?: ServerConfig['store']): Promise<{ config: ServerConfig; admin: TestServer['admin'] }> {
  const ca = await createCA('gantry test')
  const server = await issueCert(ca, { commonName: 'gantry-server', ipAddresses: ['127.0.0.1'], dnsNames: ['localhost'], server: true })
  const admin = await issueCert(ca, { commonName: 'admin', organizations: ['system:masters'], client: true })
  const tls = await writeIdentity(dir, server, 'server')
  await writeFile(join(dir, 'ca.key'), ca.key, { mode: 0o600 })
  await writeFile(join(dir, 'secrets.key'), randomBytes(32).toString('base64'), { mode: 0o600 })
  return {
    admin,
    config: {
      cluster: { name: 'test', instance: 'test', clusterCIDR: '10.42.0.0/16', serviceCIDR: '10.43.0.0/16', clusterDomain: 'cluster.local' },
      dataDir: dir, listen: { host: '127.0.0.1', port: 0 }, tls, caKey: join(dir, 'ca.key'), secretsKey: join(dir, 'secrets.key'),
      store: store ?? { type: 'sqlite', path: join(dir, 'state.db') }, advertise: 'https://127.0.0.1',
    },
  }
}

export async function startTestServer(options: { lead?: boolean; store?: ServerConfig['store'] } = {}): Promise<TestServer> {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-server-'))
  const { config, admin } = await testConfig(dir, options.store)
  const run = (): Promise<RunningServer> => runServer(config, { log: quiet, lead: options.lead ?? false })
  let server = await run()
  config.listen.port = server.port
  const agent = new Agent({ keepAlive: true, ca: admin.ca, cert: admin.cert, key: admin.key })
  return {
    config, dir, port: server.port, admin,
    call: (method, path, body, headers = {}) => new Promise((resolve, reject) => {
      const data = body === undefined ? undefined : Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body)
      const req = request({
        host: '127.0.0.1', port: server.port, method, path, agent, headers: { ...(data !== undefined && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(data) }), ...headers },
      }, res => {
        const chunks: Buffer[] = []
        res.on('data', (c: Buffer) => chunks.push(c))
        res.on('error', reject)
        res.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          let parsed: unknown
          try { parsed = JSON.parse(text) } catch { parsed = undefined }
          resolve({ status: res.statusCode ?? 0, headers: res.headers, text, body: parsed })
        })
      })
      req.on('error', reject)
      req.end(data)
    }),
    lost: () => server.lost,
    async restart() {
      await server.close()
      server = await run()
    },
    async close() {
      agent.destroy()
      await server.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
