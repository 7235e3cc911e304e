/**
 * `/gantry/v1/nodes/NAME/…`: the node's own interface (see core/node-api.ts) for whoever may use `nodes/proxy`. Nodes may
 * besides read images from each other, which is what makes an image on one node available on all.
 */
import type { IncomingMessage } from 'node:http'
import { badRequest, notFound } from '../../core/errors.ts'
import { nodes } from '../../core/kinds.ts'
import { nodeOf } from '../auth/node-restriction.ts'
import { forbidden } from '../auth/forbidden.ts'
import type { ServerHost, User } from '../host.ts'
import type { Tunnels } from '../tunnel/tunnels.ts'
import { endToEnd, goneSignal, relay } from './relay.ts'

const PREFIX = '/gantry/v1/nodes'
const VERBS: Record<string, string> = { GET: 'get', HEAD: 'get', POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }
const BODILESS = new Set(['GET', 'HEAD'])
/** What the caller proves to this server is not for the node. */
const OWN_HEADERS = ['authorization', 'cookie']

export function mountNodeProxy(host: ServerHost, tunnels: Tunnels): void {
  host.handle(PREFIX, async (context, res) => {
    const { req, info, user } = context
    const [, name = '', rest = ''] = /^\/([^/]+)(\/.*)?$/.exec(info.path.slice(PREFIX.length)) ?? []
    const node = decode(name)
    if (node === '' || rest === '') throw badRequest(`expected ${PREFIX}/NAME/PATH`)
    const method = req.method ?? 'GET'
    authorize(host, user, node, method, rest)
    if (!tunnels.connected(node)) await requireNode(host, node)
    const headers = endToEnd(req.headers)
    for (const name of OWN_HEADERS) delete headers[name]
    const answer = await tunnels.request(node, method, info.search === '' ? rest : `${rest}?${info.search}`, {
      headers, signal: goneSignal(res), timeoutMs: 0,
      ...(!BODILESS.has(method) && { body: req as IncomingMessage }),
    })
    await relay(answer, res, answer.status, endToEnd(answer.headers))
  })
}

function authorize(host: ServerHost, user: User, node: string, method: string, path: string): void {
  if (BODILESS.has(method) && (path === '/v2' || path.startsWith('/v2/')) && nodeOf(user) !== undefined) return
  const attributes = { verb: VERBS[method] ?? method.toLowerCase(), group: '', version: 'v1', resource: 'nodes', subresource: 'proxy', name: node }
  const decision = host.authorize(user, attributes)
  if (!decision.allowed) throw forbidden(user, attributes, decision.reason)
}

/** A name that is no node's is NotFound, not a node that is away. */
async function requireNode(host: ServerHost, node: string): Promise<void> {
  await host.client.get(nodes, { name: node })
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw notFound(nodes, text)
  }
}
