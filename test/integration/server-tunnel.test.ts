/** Both ends of the node tunnel over real TLS: streams, back-pressure, losses, reconnection. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { createServer, request } from 'node:https'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { createCA, issueCert } from '../../src/machines/pki.ts'
import type { CertificateAuthority, IssuedIdentity } from '../../src/machines/pki.ts'
import { connectTunnel } from '../../src/node/tunnel.ts'
import type { Context, ServerHost, UpgradeHandler } from '../../src/server/host.ts'
import { mountTunnel } from '../../src/server/tunnel/mount.ts'
import { Tunnels } from '../../src/server/tunnel/tunnels.ts'

const log = { info() {}, warn() {}, error() {} }
let ca: CertificateAuthority
let serverPems: IssuedIdentity
let nodePems: IssuedIdentity
const cleanups: (() => void)[] = []

before(async () => {
  ca = await createCA('test')
  serverPems = await issueCert(ca, { commonName: 'server', server: true, ipAddresses: ['127.0.0.1'] })
  nodePems = await issueCert(ca, { commonName: 'system:node:n1', organizations: ['system:nodes'], client: true })
})
after(() => { for (const clean of cleanups) clean() })

/** An API server that knows nothing but tunnels, and `sockets`: the connections that were dialled. */
async function startServer(tunnels: Tunnels, port = 0) {
  let handler: UpgradeHandler | undefined
  mountTunnel({
    onUpgrade: (_prefix: string, h: UpgradeHandler) => { handler = h },
    handle() {},
    refuse: (socket: Duplex, e: Error) => socket.end(`HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n${JSON.stringify({ message: e.message })}`),
  } as unknown as ServerHost, tunnels)
  const server: Server = createServer({ ...serverPems, requestCert: true })
  const sockets = new Set<TLSSocket>()
  server.on('upgrade', (req, socket, head) => {
    sockets.add(socket as TLSSocket)
    socket.on('error', () => {})
    const { subject } = (socket as TLSSocket).getPeerCertificate()
    const user = { name: String(subject.CN), groups: [subject.O].flat().map(String) }
    void handler!({ req, user } as unknown as Context, socket, head)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    tunnels.close()
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  cleanups.push(stop)
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, port: (server.address() as AddressInfo).port, sockets, stop }
}

function serveNode(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const path = headers[':path'] ?? ''
  if (path === '/echo') {
    stream.respond({ ':status': 200 })
    stream.pipe(stream)
  } else if (path === '/hang') {
    stream.resume()
  } else if (path === '/throw') {
    throw new Error('broken handler')
  } else if (path === '/endless') {
    stream.respond({ ':status': 200 })
    new Readable({ read() { this.push(Buffer.alloc(16_384)) } }).on('error', () => {}).pipe(stream)
  } else {
    stream.respond({ ':status': 404 })
    stream.end('none')
  }
}

function startAgent(url: string, tls: IssuedIdentity = nodePems) {
  const states: boolean[] = []
  const warnings: string[] = []
  const agent = connectTunnel({
    servers: [url], tls, name: 'n1', onStream: serveNode, onState: (s) => states.push(s),
    logger: { info() {}, warn: (m, f) => { warnings.push(`${m}: ${String(f?.['error'])}`) } },
  })
  cleanups.push(() => agent.close())
  return { agent, states, warnings }
}

async function until(condition: () => boolean, ms = 5000): Promise<void> {
  const end = Date.now() + ms
  while (!condition()) {
    if (Date.now() > end) assert.fail('condition did not come true in time')
    await delay(10)
  }
}

async function read(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of body) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

test('requests stream both ways and many at once; a throwing handler answers 500', async () => {
  const tunnels = new Tunnels({ log })
  const { url } = await startServer(tunnels)
  startAgent(url)
  await until(() => tunnels.connected('n1'))
  const data = randomBytes(20_000_000)
  const echo = await tunnels.request('n1', 'POST', '/echo', { body: Readable.from([data.subarray(0, 7), data.subarray(7)]) })
  assert.equal(echo.status, 200)
  assert.equal(createHash('sha256').update(await read(echo.body)).digest('hex'), createHash('sha256').update(data).digest('hex'))
  const many = await Promise.all(Array.from({ length: 200 }, async (_, i) => {
    const { body } = await tunnels.request('n1', 'POST', '/echo', { body: `hello ${i}` })
    return (await read(body)).toString()
  }))
  assert.deepEqual(many, Array.from({ length: 200 }, (_, i) => `hello ${i}`))
  const duplex = await tunnels.request('n1', 'POST', '/echo', { duplex: true })
  duplex.body.write('ping')
  assert.equal(String((await once(duplex.body, 'data'))[0]), 'ping')
  duplex.body.end()
  assert.equal((await tunnels.request('n1', 'GET', '/throw')).status, 500)
  assert.equal((await tunnels.request('n1', 'GET', '/nothing')).status, 404)
})

test('a reader that pauses stops the node from sending, and other requests go on', async () => {
  const tunnels = new Tunnels({ log })
  const { url, sockets } = await startServer(tunnels)
  startAgent(url)
  await until(() => tunnels.connected('n1'))
  const endless = await tunnels.request('n1', 'GET', '/endless')
  await delay(300)
  const [socket] = sockets
  const before = socket!.bytesRead
  await delay(300)
  assert.ok(socket!.bytesRead - before < 100_000, 'the node still sends to a reader that does not read')
  assert.ok(before > 500_000 && before < 8_000_000, `${before} bytes were buffered for a reader that does not read`)
  const { body } = await tunnels.request('n1', 'POST', '/echo', { body: 'still alive' })
  assert.equal((await read(body)).toString(), 'still alive')
  endless.body.close()
})

test('a broken connection fails what is under way with 503; the next request waits for the node to come back', async () => {
  const tunnels = new Tunnels({ log })
  const { url, sockets } = await startServer(tunnels)
  const { states } = startAgent(url)
  await until(() => tunnels.connected('n1'))
  const hanging = tunnels.request('n1', 'GET', '/hang')
  const open = await tunnels.request('n1', 'GET', '/endless')
  setTimeout(() => { for (const socket of sockets) socket.destroy() }, 20)
  await assert.rejects(hanging, (e: { code?: number }) => e.code === 503)
  await assert.rejects(read(open.body))
  const { body } = await tunnels.request('n1', 'POST', '/echo', { body: 'again' })
  assert.equal((await read(body)).toString(), 'again')
  assert.deepEqual(states, [true, false, true])
})

/** A node that dials, answers the upgrade and then never reads again. */
async function dialFrozen(url: string): Promise<TLSSocket> {
  const dialling = request(`${url}/gantry/v1/tunnel`, { method: 'POST', ...nodePems, agent: false, headers: { connection: 'Upgrade', upgrade: 'gantry-tunnel' } })
  dialling.end()
  const [, socket] = await once(dialling, 'upgrade') as [unknown, TLSSocket]
  socket.on('error', () => {})
  socket.pause()
  return socket
}

test('a frozen node is noticed within about 3 s', async () => {
  const lost: number[] = []
  const tunnels = new Tunnels({ log, onState: (_node, connected) => { if (!connected) lost.push(Date.now()) }, reconnectWaitMs: 100 })
  const { url } = await startServer(tunnels)
  const socket = await dialFrozen(url)
  const start = Date.now()
  await until(() => lost.length > 0, 4500)
  assert.ok(lost[0]! - start < 3700, `noticed after ${lost[0]! - start} ms`)
  await assert.rejects(tunnels.request('n1', 'GET', '/echo'), /node "n1" is not connected/)
  socket.destroy()
})

test('the newest connection of a node wins, without the node being reported as lost', async () => {
  const states: boolean[] = []
  const tunnels = new Tunnels({ log, onState: (_node, connected) => states.push(connected) })
  const { url } = await startServer(tunnels)
  const old = await dialFrozen(url)
  await until(() => tunnels.connected('n1'))
  startAgent(url)
  await once(old.resume(), 'close')
  const { body } = await tunnels.request('n1', 'POST', '/echo', { body: 'x' })
  assert.equal((await read(body)).toString(), 'x')
  assert.deepEqual(states, [true])
})

test('the agent comes back after the server was gone, and says once why it cannot connect', async () => {
  const first = await startServer(new Tunnels({ log }))
  const { warnings } = startAgent(first.url)
  await delay(200)
  first.stop()
  await delay(600)
  const tunnels = new Tunnels({ log })
  await startServer(tunnels, first.port)
  await until(() => tunnels.connected('n1'))
  assert.equal(warnings.filter((w) => w.includes('ECONNREFUSED')).length, 1)
})

test('who is not a node is refused, and the agent hears why', async () => {
  const tunnels = new Tunnels({ log })
  const { url } = await startServer(tunnels)
  const admin = await issueCert(ca, { commonName: 'admin', organizations: ['system:masters'], client: true })
  const { warnings } = startAgent(url, admin)
  await until(() => warnings.length > 0)
  assert.match(warnings[0]!, /refused the tunnel with 403: only nodes may open a tunnel: "admin"/)
  assert.deepEqual(tunnels.nodes(), [])
})
