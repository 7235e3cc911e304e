/**
 * The Docker Engine API over any backend. `handle` and `upgrade` serve one request of any of Node's HTTP servers; who listens where is
 * `listen.ts`'s part.
 */
import { ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { DockerBackend } from '../backend.ts'
import { Call, type ApiOptions, type Handler } from './call.ts'
import { sendError, sendMessage } from './errors-out.ts'
import { Query } from './query.ts'
import { Router } from './router.ts'
import { routes } from './routes/index.ts'
import { MAX_MINOR, newest, requestedVersion, versionText } from './version-number.ts'

export interface DockerApi {
  handle(req: IncomingMessage, res: ServerResponse): void
  /** Only for requests that `isUpgradable` admits; others are answered as if they had not asked for it. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void
}

const router = new Router<Handler>(routes)

export function createDockerApi(backend: DockerBackend, options: ApiOptions): DockerApi {
  const headers = {
    'Api-Version': versionText(MAX_MINOR),
    'Docker-Experimental': String(options.experimental === true),
    'Ostype': 'linux',
    'Server': `Docker/${options.serverVersion} (linux)`,
  }

  function serve(req: IncomingMessage, res: ServerResponse, upgrade?: { socket: Duplex; head: Buffer }): void {
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value)
    // A client that breaks off is seen by the parts that write to it.
    res.on('error', () => { /* see above */ })
    req.on('error', () => { /* likewise */ })
    const { path, query, version } = parseTarget(req.url ?? '/')
    if (req.method === 'OPTIONS') {
      res.writeHead(200, { 'Content-Length': 0 }).end()
      return
    }
    const found = path === undefined ? undefined : router.find(req.method!, path)
    if (found === undefined) return sendMessage(res, req.method, 404, 'page not found', version.plainErrors)
    if (version.refusal !== undefined) return sendMessage(res, req.method, 400, version.refusal, version.plainErrors)
    const call = new Call({
      req, res, backend, options, headers, version: version.minor, query: new Query(query), params: found.params, upgrade,
    })
    void run(call, found.handler)
  }

  return {
    handle: (req, res) => serve(req, res),
    upgrade(req, socket, head) {
      // Until the route takes the connection over it may still answer as HTTP does.
      const res = new ServerResponse(req)
      res.shouldKeepAlive = false
      res.assignSocket(socket as Socket)
      const free = (): void => { res.destroy() }
      socket.on('close', free)
      res.on('finish', () => {
        socket.off('close', free)
        socket.end()
      })
      serve(req, res, { socket, head })
    },
  }
}

async function run(call: Call, handler: Handler): Promise<void> {
  try {
    await handler(call)
  } catch (e) {
    if (call.hijacked) call.options.logger.warn(`${call.req.url?.split('?')[0]}: ${(e as Error).message}`)
    else if (call.res.headersSent) call.res.destroy()
    else if (!call.res.destroyed) sendError(call, e)
  }
}

/** `path` undefined: it cannot be decoded. */
function parseTarget(target: string): { path: string | undefined; query: string; version: typeof newest } {
  const mark = target.indexOf('?')
  const raw = mark === -1 ? target : target.slice(0, mark)
  const query = mark === -1 ? '' : target.slice(mark + 1)
  const m = /^\/v([\d.]+)(\/.*)$/s.exec(raw)
  const version = m === null ? newest : requestedVersion(m[1]!)
  try {
    return { path: decodeURIComponent(m?.[2] ?? raw), query, version }
  } catch {
    return { path: undefined, query, version }
  }
}
