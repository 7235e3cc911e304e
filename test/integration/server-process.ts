/** A real API server in a process of its own, for tests that kill it. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { connect } from '../../src/client/client.ts'
import type { RemoteClient } from '../../src/client/client.ts'
import { replaceFileDurably } from '../../src/files/replace.ts'
import { createCA, issueCert, kubeconfig, writeIdentity } from '../../src/machines/pki.ts'
import type { CertificateAuthority, IssuedIdentity } from '../../src/machines/pki.ts'
import type { ServerConfig } from '../../src/machines/layout.ts'

const CHILD = fileURLToPath(new URL('server-child.ts', import.meta.url))

export class ServerProcess {
  readonly dir: string
  readonly ca: CertificateAuthority
  readonly url: string
  readonly #config: string
  readonly #clients: RemoteClient[] = []
  #child: ChildProcess | undefined

  constructor(dir: string, ca: CertificateAuthority, url: string, config: string) {
    this.dir = dir
    this.ca = ca
    this.url = url
    this.#config = config
  }

  /** Resolves when the server answers that it is ready. */
  async start(): Promise<void> {
    this.#child = spawn(process.execPath, [CHILD, this.#config], { stdio: ['ignore', 'ignore', 'pipe'] })
    let output = ''
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => { output = (output + text).slice(-4000) })
    const probe = connect({ servers: [this.url], tls: { ca: this.ca.cert } })
    for (const end = Date.now() + 15_000; ;) {
      const ready = await probe.request('GET', '/readyz').then((a) => a.status === 200, () => false)
      if (ready) break
      if (this.#child.exitCode !== null || Date.now() > end) throw new Error(`the server did not start: ${output}`)
      await delay(25)
    }
    probe.close()
  }

  /** As a crash: SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  identity(commonName: string, ...organizations: string[]): Promise<IssuedIdentity> {
    return issueCert(this.ca, { commonName, organizations, client: true })
  }

  async client(commonName = 'admin', ...organizations: string[]): Promise<RemoteClient> {
    const groups = organizations.length === 0 && commonName === 'admin' ? ['system:masters'] : organizations
    const client = connect({ servers: [this.url], tls: await this.identity(commonName, ...groups) })
    this.#clients.push(client)
    return client
  }

  /** Path of a kubeconfig of the administrator. */
  async kubeconfig(): Promise<string> {
    const path = join(this.dir, 'kubeconfig')
    await replaceFileDurably(path, kubeconfig({ server: this.url, ...await this.identity('admin', 'system:masters') }))
    return path
  }

  async cleanUp(): Promise<void> {
    for (const client of this.#clients) client.close()
    await this.kill()
    await rm(this.dir, { recursive: true, force: true })
  }
}

export async function startServerProcess(tokens?: { token: string; user: string; groups: string[] }[]): Promise<ServerProcess> {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-server-'))
  const ca = await createCA('gantry-test')
  const tls = await writeIdentity(join(dir, 'pki'), await issueCert(ca, { commonName: 'server', server: true, client: true, dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] }))
  const caKey = join(dir, 'pki', 'ca.key')
  await replaceFileDurably(caKey, ca.key)
  const secretsKey = join(dir, 'secrets.key')
  await replaceFileDurably(secretsKey, randomBytes(32).toString('base64'))
  const tokensFile = join(dir, 'tokens.json')
  if (tokens !== undefined) await writeFile(tokensFile, JSON.stringify(tokens))
  const port = await freePort()
  const url = `https://127.0.0.1:${port}`
  await mkdir(join(dir, 'data'))
  const config: ServerConfig = {
    cluster: { name: 'test', instance: 'test', clusterCIDR: '10.42.0.0/16', serviceCIDR: '10.43.0.0/16', clusterDomain: 'cluster.local' },
    dataDir: join(dir, 'data'), listen: { host: '127.0.0.1', port }, tls, caKey, secretsKey, ...(tokens !== undefined && { tokens: tokensFile }),
    store: { type: 'sqlite', path: join(dir, 'data', 'state.db') }, advertise: url,
  }
  const configFile = join(dir, 'server.json')
  await writeFile(configFile, JSON.stringify(config))
  const server = new ServerProcess(dir, ca, url, configFile)
  try {
    await server.start()
  } catch (e) {
    await server.cleanUp()
    throw e
  }
  return server
}

async function freePort(): Promise<number> {
  const listener = createServer()
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  listener.close()
  await once(listener, 'close')
  return port
}

