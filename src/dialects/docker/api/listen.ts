/** Where the API is heard: a unix socket, or TCP with certificates on both sides. */
import { chmodSync, chownSync, lstatSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, type Socket } from 'node:net'
import type { DockerApi } from './index.ts'
import { isUpgradable } from './upgradable.ts'

/** PEM files: `ca` verifies clients. */
export interface TlsFiles { ca: string; cert: string; key: string }
export type Listen = { unix: string } | { host: string; port: number; tls: TlsFiles }

export class ListenError extends Error {}

export interface Listener {
  /** As DOCKER_HOST takes it. */
  address: string
  /** Stops listening and closes all connections, attached ones too. */
  close(): Promise<void>
}

const HEADERS_TIMEOUT_MS = 60_000
/** Longer than clients keep idle connections (docker-py, Go: 90 s at most). */
const KEEP_ALIVE_MS = 120_000
const SOCKET_MODE = 0o660
const NOBODY_ELSE = 0o177
/** Whose members may use the socket: the first of these that exists. */
const SOCKET_GROUPS = ['gantry', 'docker']

const shouldUpgradeCallback = (req: IncomingMessage): boolean => isUpgradable(req.url)

/** Rejects with ListenError if another daemon serves there or the address cannot be used. */
export async function listen(api: DockerApi, where: Listen): Promise<Listener> {
  return 'unix' in where ? listenUnix(api, where.unix) : listenTls(api, where)
}

async function listenUnix(api: DockerApi, path: string): Promise<Listener> {
  await removeStale(path)
  const server = createServer({ shouldUpgradeCallback })
  const close = prepare(api, server, 'connection')
  const before = process.umask(NOBODY_ELSE)
  const listening = once(server, `unix://${path}`)
  try {
    // The file is made within this call.
    server.listen(path)
  } finally {
    process.umask(before)
  }
  await listening
  // Anybody else may give the file to nobody.
  if (process.getuid?.() === 0) chownSync(path, 0, socketGroup())
  chmodSync(path, SOCKET_MODE)
  return { address: `unix://${path}`, close }
}

async function listenTls(api: DockerApi, where: { host: string; port: number; tls: TlsFiles }): Promise<Listener> {
  const pem = (file: string): string => {
    try {
      return readFileSync(file, 'utf8')
    } catch (e) {
      throw new ListenError(`reading ${file}: ${(e as Error).message}`, { cause: e })
    }
  }
  let server: Server
  try {
    server = createTlsServer({
      ca: pem(where.tls.ca), cert: pem(where.tls.cert), key: pem(where.tls.key), requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2',
      allowHalfOpen: true, shouldUpgradeCallback,
    })
  } catch (e) {
    if (e instanceof ListenError) throw e
    throw new ListenError(`the certificates for tcp://${where.host}:${where.port}: ${(e as Error).message}`, { cause: e })
  }
  const close = prepare(api, server, 'secureConnection')
  const listening = once(server, `tcp://${where.host}:${where.port}`)
  server.listen(where.port, where.host)
  await listening
  const { port } = server.address() as { port: number }
  return { address: `tcp://${where.host}:${port}`, close }
}

/** Gives the server its handlers; answers what ends it with all its connections. */
function prepare(api: DockerApi, server: Server, connectionEvent: 'connection' | 'secureConnection'): () => Promise<void> {
  server.headersTimeout = HEADERS_TIMEOUT_MS
  // Uploads last as long as they do: `body.ts` ends those that stand still.
  server.requestTimeout = 0
  server.keepAliveTimeout = KEEP_ALIVE_MS
  server.on('request', api.handle)
  server.on('upgrade', api.upgrade)
  server.on('clientError', (_e, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request')
    else socket.destroy()
  })
  // Hijacked connections are no longer the HTTP server's: to close all, they have to be known.
  const sockets = new Set<Socket>()
  server.on(connectionEvent, (socket: Socket) => {
    socket.setNoDelay(true)
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return async () => {
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    for (const socket of sockets) socket.destroy()
    await closed
  }
}

function once(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('listening', resolve)
    server.once('error', e => reject(new ListenError(`listening at ${address}: ${e.message}`, { cause: e })))
  })
}

/** A socket file that nobody serves any more is removed. */
async function removeStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket()) throw new ListenError(`${path} is there and is no socket: remove it, or listen elsewhere`)
  const served = await new Promise<boolean>(resolve => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', e => resolve((e as NodeJS.ErrnoException).code !== 'ECONNREFUSED'))
  })
  if (served) throw new ListenError(`another daemon serves ${path}: stop it, or listen elsewhere`)
  rmSync(path, { force: true })
}

/** Number of the group that may use the socket; root's if there is none. */
function socketGroup(): number {
  const lines = readFileSync('/etc/group', 'utf8').split('\n').map(l => l.split(':'))
  for (const name of SOCKET_GROUPS) {
    const found = lines.find(l => l[0] === name)
    if (found !== undefined) return Number(found[2])
  }
  return 0
}
