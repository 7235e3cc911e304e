/** `/api/v1beta1/…`: the Kubernetes API as it was in 2014. Namespaces by `?namespace=`, no PATCH, numbers for resourceVersion. */
import type { ServerResponse } from 'node:http'
import type { Client } from '../../core/client.ts'
import { clone } from '../../core/clone.ts'
import { ApiError, badRequest } from '../../core/errors.ts'
import { endpoints, events, nodes, pods, replicationControllers, services, type Kind } from '../../core/kinds.ts'
import { labelsMatch, parseLabelSelector } from '../../core/selectors.ts'
import { parseBody } from '../../core/schema/decode.ts'
import type { ApiObject, Service } from '../../core/types/index.ts'
import type { Context, Response, ServerHost } from '../../server/host.ts'
import { readBody } from '../../server/rest/body.ts'
import { oldController, oldEndpoints, oldEvent, oldMinion, oldPod, oldService, oldStatus, type Old } from './back.ts'
import { controllerOf, endpointsOf, nameOf, nodeOf, podOf, serviceOf, UNSTATED_PORT } from './convert.ts'
import type { OldObject } from './shapes.ts'

export const PREFIX = '/api/v1beta1'
/** Of a watch whose client does not read. */
const MAX_WAITING_BYTES = 8 << 20

interface Resource { kind: Kind; list: string; toOld(o: ApiObject): Old; fromOld?: (o: OldObject) => ApiObject }

/** The types of each line belong together; the table itself cannot say so. */
function resource<T extends ApiObject>(kind: Kind<T>, list: string, toOld: (o: T) => Old, fromOld?: (o: OldObject) => T): Resource {
  return { kind, list, toOld: toOld as (o: ApiObject) => Old, ...(fromOld && { fromOld }) } as Resource
}

const minions = resource(nodes, 'MinionList', oldMinion, nodeOf)
const RESOURCES: Record<string, Resource> = {
  pods: resource(pods, 'PodList', oldPod, podOf),
  replicationcontrollers: resource(replicationControllers, 'ReplicationControllerList', oldController, controllerOf),
  services: resource(services, 'ServiceList', oldService, serviceOf),
  endpoints: resource(endpoints, 'EndpointsList', oldEndpoints, endpointsOf),
  events: resource(events, 'EventList', oldEvent),
  minions, nodes: minions,
}

export function mountFront(host: ServerHost): void {
  host.handle(PREFIX, async (context, res) => {
    try {
      await answer(host, context, res)
    } catch (e) {
      const error = e instanceof ApiError ? e : new ApiError('InternalError', 'an internal error occurred')
      if (!(e instanceof ApiError)) host.log.error('v1beta1 request failed', { path: context.info.path, error: String(e) })
      if (!res.headersSent) host.reply(res, error.code, oldStatus(error))
      else res.end()
    }
  })
}

async function answer(host: ServerHost, context: Context, res: Response): Promise<void> {
  const segments = context.info.path.slice(PREFIX.length).split('/').filter((s) => s !== '').map(decode)
  const watching = segments[0] === 'watch' || context.query.get('watch') === 'true'
  if (segments[0] === 'watch') segments.shift()
  const method = context.req.method ?? 'GET'
  if (segments[0]?.toLowerCase() === 'bindings' && method === 'POST') return bind(host, context, res)
  const r = RESOURCES[segments[0]?.toLowerCase() ?? '']
  if (r === undefined || segments.length > 2) throw new ApiError('NotFound', `the server could not find the requested resource ${context.info.path}`)
  const id = segments[1]
  const namespace = r.kind.namespaced ? namespaceOf(context) : undefined
  const name = id === undefined ? undefined : nameOf(id)
  const allow = (verb: string) => authorize(host, context, r.kind, verb, namespace, name)
  if (watching && method === 'GET') return allow('watch'), watch(host, context, res, r, namespace, name)
  if (name === undefined) {
    if (method === 'GET') return allow('list'), list(host, context, res, r, namespace)
    if (method === 'POST') return allow('create'), create(host, context, res, r, namespace)
  } else {
    if (method === 'GET') return allow('get'), host.reply(res, 200, r.toOld(await host.client.get(r.kind, { namespace, name })))
    if (method === 'PUT') return allow('update'), replace(host, context, res, r, namespace, name)
    if (method === 'DELETE') {
      allow('delete')
      await host.registry.delete(r.kind, { namespace, name }, {}, { user: context.user })
      return host.reply(res, 200, { kind: 'Status', creationTimestamp: null, apiVersion: 'v1beta1', status: 'Success' })
    }
  }
  throw new ApiError('MethodNotAllowed', `${method} is not allowed on ${context.info.path}`)
}

async function list(host: ServerHost, context: Context, res: Response, r: Resource, namespace: string | undefined): Promise<void> {
  const labelSelector = context.query.get('labels') ?? undefined
  const found = await host.client.list(r.kind, { namespace, labelSelector, fieldSelector: fieldsOf(context) })
  const items = found.items.map((o) => r.toOld(o))
  host.reply(res, 200, {
    kind: r.list, apiVersion: 'v1beta1', creationTimestamp: null, selfLink: `${PREFIX}/${context.info.path.slice(PREFIX.length + 1)}`,
    resourceVersion: Number(found.metadata.resourceVersion), items, ...(r === minions && { minions: items }),
  })
}

async function create(host: ServerHost, context: Context, res: Response, r: Resource, namespace: string | undefined): Promise<void> {
  const object = await read(context, r, namespace)
  delete object.metadata.resourceVersion
  delete object.metadata.uid
  host.reply(res, 201, r.toOld((await host.registry.create(r.kind, clone(await completed(host.client, object)), { user: context.user })).object))
}

/** What v1beta1 cannot express stays as it is. */
async function replace(host: ServerHost, context: Context, res: Response, r: Resource, namespace: string | undefined, name: string): Promise<void> {
  const sent = await completed(host.client, await read(context, r, namespace)) as ApiObject & { spec?: object; subsets?: unknown }
  if (sent.metadata.name !== name) throw badRequest(`the id of the object (${sent.metadata.name}) is not that of the path (${name})`)
  const live = clone(await host.client.get(r.kind, { namespace, name })) as ApiObject & { spec?: object; subsets?: unknown }
  live.metadata = {
    ...live.metadata, labels: sent.metadata.labels ?? {}, annotations: { ...live.metadata.annotations, ...sent.metadata.annotations },
    ...(sent.metadata.resourceVersion !== undefined && { resourceVersion: sent.metadata.resourceVersion }),
  }
  if (sent.spec !== undefined) live.spec = { ...live.spec, ...sent.spec }
  if (sent.subsets !== undefined) live.subsets = sent.subsets
  host.reply(res, 200, r.toOld((await host.registry.update(r.kind, live as ApiObject, { user: context.user })).cached.object))
}

/** One JSON object a line, from the informer's state on; what is older than the asked revision is left out. */
async function watch(host: ServerHost, context: Context, res: Response, r: Resource, namespace: string | undefined, name: string | undefined): Promise<void> {
  const since = Number(context.query.get('resourceVersion') ?? 0) || 0
  const matches = parseLabelSelector(context.query.get('labels') ?? '')
  const informer = host.client.informer(r.kind, namespace === undefined ? {} : { namespace })
  await informer.synced
  // Both kinds of response write and close alike; only their types have no common call.
  const out = res as ServerResponse
  out.writeHead(200, { 'content-type': 'application/json' })
  const off = informer.on((type, object, old) => {
    if (name !== undefined && object.metadata.name !== name) return
    if (type === 'ADDED' && Number(object.metadata.resourceVersion) <= since) return
    const now = type !== 'DELETED' && matches(object.metadata.labels)
    const before = old !== undefined && matches(old.metadata.labels)
    if (!now && !before) return
    // An object that begins or ceases to match appears and vanishes for this watcher.
    const seen = now ? (before ? 'MODIFIED' : 'ADDED') : 'DELETED'
    // A client that does not read is cut off; it comes back with the newest revision it has seen.
    if (out.writableLength > MAX_WAITING_BYTES) out.destroy()
    else out.write(`${JSON.stringify({ type: seen, object: r.toOld(object) })}\n`)
  })
  out.on('close', () => {
    off()
    informer.stop()
  })
}

async function bind(host: ServerHost, context: Context, res: Response): Promise<void> {
  const body = objectOf(await readBody(context.req), context) as OldObject & { podID?: string; host?: string }
  if (typeof body.podID !== 'string' || typeof body.host !== 'string') throw badRequest('a Binding needs podID and host')
  const namespace = namespaceOf(context) ?? 'default'
  authorize(host, context, pods, 'create', namespace, nameOf(body.podID), 'binding')
  await host.client.bind({ namespace, name: nameOf(body.podID) }, nameOf(body.host))
  host.reply(res, 201, { kind: 'Status', creationTimestamp: null, apiVersion: 'v1beta1', status: 'Success' })
}

async function read(context: Context, r: Resource, namespace: string | undefined): Promise<ApiObject> {
  if (r.fromOld === undefined) throw new ApiError('MethodNotAllowed', `${r.kind.plural} cannot be written by v1beta1`)
  const old = objectOf(await readBody(context.req), context)
  const sent = old.namespace
  if (namespace !== undefined) {
    if (sent !== undefined && sent !== '' && context.query.has('namespace') && nameOf(sent) !== namespace) {
      throw badRequest(`the namespace of the object (${sent}) is not that of the request (${namespace})`)
    }
    if (sent === undefined || sent === '') old.namespace = namespace
  }
  const object = r.fromOld(old)
  if (namespace !== undefined && object.metadata.namespace !== namespace) {
    throw badRequest(`the namespace of the object (${object.metadata.namespace}) has to be given as ?namespace= too`)
  }
  return object
}

function objectOf(bytes: Buffer, context: Context): OldObject {
  const { value } = parseBody(bytes, context.req.headers['content-type'])
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw badRequest('the body has to be an object')
  return value as OldObject
}

/** A port left out meant the first port of the Pods' first container; today it would mean the Service's own. */
async function completed(client: Client, object: ApiObject): Promise<ApiObject> {
  const unstated = object.metadata.annotations?.[UNSTATED_PORT]
  if (unstated === undefined) return object
  const service = object as Service
  const { items } = await client.list(pods, { namespace: service.metadata.namespace })
  const first = items.find((p) => labelsMatch(service.spec.selector, p.metadata.labels))?.spec.containers[0]?.ports?.[0]?.containerPort
  if (first === undefined) return object
  const ports = service.spec.ports?.map((p) => p.targetPort === undefined ? { ...p, targetPort: first } : p)
  return { ...service, spec: { ...service.spec, ...(ports && { ports }) } } as ApiObject
}

/** Names of fields of the time, where they differ. */
function fieldsOf(context: Context): string | undefined {
  const text = context.query.get('fields')
  if (text === null || text === '') return undefined
  return text.replace(/DesiredState\.Host|currentState\.host/g, 'spec.nodeName').replace(/DesiredState\.Status|currentState\.status/g, 'status.phase')
    .replace(/(^|,)\s*id\b/g, '$1metadata.name')
}

function namespaceOf(context: Context): string | undefined {
  const n = context.query.get('namespace')
  return n === null || n === '' ? 'default' : nameOf(n)
}

function authorize(
  host: ServerHost, context: Context, kind: Kind, verb: string, namespace: string | undefined, name: string | undefined, subresource?: string,
): void {
  const decision = host.authorize(context.user, {
    verb, group: kind.group, version: kind.version, resource: kind.plural, ...(subresource !== undefined && { subresource }),
    ...(namespace !== undefined && { namespace }), ...(name !== undefined && { name }),
  })
  if (decision.allowed) return
  throw new ApiError('Forbidden', `${kind.plural} ${JSON.stringify(name ?? '')} is forbidden: User ${JSON.stringify(context.user.name)} cannot ${verb} `
    + `resource ${JSON.stringify(kind.plural)}${namespace === undefined ? '' : ` in the namespace ${JSON.stringify(namespace)}`}`)
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw badRequest('the path is not percent-encoded text')
  }
}
