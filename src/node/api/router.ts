/** What the server asks through the tunnel (core/node-api.ts): finds the handler, and answers what it throws. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { notFound } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { NodeStats } from '../../core/node-api.ts'
import type { Engine } from '../../engine/engine.ts'
import type { Pods } from '../pods.ts'
import { serveAttach, serveExec } from './exec.ts'
import { serveBuild, serveDistribution, serveImages } from './images.ts'
import { serveLogs } from './logs.ts'
import { servePortForward } from './portforward.ts'
import { apiError, sendError, sendJson } from './respond.ts'

export interface NodeApi {
  engine: Engine
  pods: Pick<Pods, 'byName'>
  stats(): Promise<NodeStats>
  logger: Logger
}

export function serveStream(api: NodeApi, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  stream.on('error', () => {})
  route(api, stream, headers).catch((e: unknown) => {
    const error = apiError(e)
    if (error.code >= 500) api.logger.warn(`${headers[':method']} ${headers[':path']}: ${error.message}`)
    sendError(stream, error)
  })
}

async function route({ engine, pods, stats }: NodeApi, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
  const method = String(headers[':method'])
  const url = String(headers[':path'])
  const at = url.indexOf('?')
  const path = at === -1 ? url : url.slice(0, at)
  const q = new URLSearchParams(at === -1 ? '' : url.slice(at + 1))
  if (path === '/v2' || path.startsWith('/v2/')) return serveDistribution(stream, method, url, headers, engine)
  if (path === '/images' || path.startsWith('/images/')) return serveImages(stream, method, path, q, headers, engine)
  switch (`${method} ${path}`) {
    case 'GET /logs': return serveLogs(stream, q, pods, engine.containers)
    case 'POST /exec': return serveExec(stream, q, pods, engine.containers)
    case 'POST /attach': return serveAttach(stream, q, pods, engine.containers)
    case 'POST /portforward': return servePortForward(stream, q, pods)
    case 'GET /stats': return sendJson(stream, await stats())
    case 'POST /build': return serveBuild(stream, q, engine)
    default: throw notFound({ plural: 'paths', group: '' }, `${method} ${path}`)
  }
}
