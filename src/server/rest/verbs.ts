/** The generic verbs of every kind, and the sub-resources that are plain writes. */
import { ApiError, badRequest, notFound } from '../../core/errors.ts'
import type { DeleteOptions, PatchType } from '../../core/client.ts'
import { clone } from '../../core/clone.ts'
import { flat } from '../../core/flat.ts'
import type { Kind } from '../../core/kinds.ts'
import { applyPatch } from '../../core/patch/patch.ts'
import { parseBody, validateShape } from '../../core/schema/decode.ts'
import type { FieldValidation } from '../../core/schema/decode.ts'
import type { ApiObject } from '../../core/types/index.ts'
import type { Cached } from '../cached.ts'
import type { Context, Response } from '../host.ts'
import type { Lister } from '../listing.ts'
import type { Registry, WriteContext } from '../registry.ts'
import { formOf } from './accept.ts'
import { readBody } from './body.ts'
import { includeObjectOf, partialOf, tableOf } from './forms.ts'
import { Lists, assemble, listOptions, revisionOf } from './list.ts'
import { sendJson } from './respond.ts'
import { scaleKind, scaleOf, withScale } from './scale.ts'
import type { Scale } from './scale.ts'
import { Watches } from './watch.ts'

const PATCH_TYPES: Record<string, PatchType> = {
  'application/json-patch+json': 'json', 'application/merge-patch+json': 'merge', 'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
}
/** Kinds whose DELETE answers with the object instead of a Status. */
const DELETE_RETURNS_OBJECT = new Set(['Pod', 'Namespace', 'PersistentVolume', 'PersistentVolumeClaim', 'Service', 'ServiceAccount', 'ResourceQuota', 'PodTemplate'])
const MANAGER_MAX = 128
/** Deletes of one deletecollection that run at a time. */
const DELETE_BATCH = 200

export class Verbs {
  readonly #registry: Registry
  readonly lists: Lists
  readonly watches: Watches
  readonly #lister: Lister

  constructor(registry: Registry, lister: Lister) {
    this.#registry = registry
    this.#lister = lister
    this.lists = new Lists(registry.cache, lister)
    this.watches = new Watches(registry.cache)
  }

  /** Answers the request, or returns false: the method or sub-resource is not one of the generic ones. */
  async serve(context: Context, kind: Kind, res: Response): Promise<boolean> {
    const { info } = context
    if (info.rest !== '') return false
    switch (info.subresource) {
      case '': break
      case 'status':
      case 'finalize':
        if (kind.subresources?.includes(info.subresource) !== true) return false
        break
      case 'scale': return kind.subresources?.includes('scale') === true && this.#scale(context, kind, res)
      case 'binding': return info.verb === 'create' && kind.plural === 'pods' && this.#binding(context, res)
      case 'eviction': return info.verb === 'create' && kind.plural === 'pods' && this.#eviction(context, kind, res)
      default: return false
    }
    switch (info.verb) {
      case 'get': await this.#get(context, kind, res); break
      case 'list': await this.lists.serve(context, kind, res); break
      case 'watch': await this.watches.serve(context, kind, res); break
      case 'create':
        if (info.name !== '') return false
        await this.#create(context, kind, res)
        break
      case 'update':
        if (info.name === '') return false
        await this.#update(context, kind, res)
        break
      case 'patch':
        if (info.name === '') return false
        await this.#patch(context, kind, res)
        break
      case 'delete':
        if (info.subresource !== '') return false
        await this.#delete(context, kind, res)
        break
      case 'deletecollection': await this.#deleteCollection(context, kind, res); break
      default: return false
    }
    return true
  }

  async #get(context: Context, kind: Kind, res: Response): Promise<void> {
    if (context.info.search !== '') {
      const wanted = revisionOf(context.query)
      if (wanted !== undefined) await this.#registry.cache.waitFor(wanted)
    }
    this.#send(context, kind, res, 200, this.#registry.get(kind, context.info))
  }

  #send(context: Context, kind: Kind, res: Response, code: number, cached: Cached, warnings: readonly string[] = []): void {
    const form = formOf(context.req.headers['accept'])
    const headers = warningHeaders(warnings)
    if (form.as === 'object') sendJson(res, code, cached.bytes, headers)
    else {
      const body = form.as === 'table'
        ? tableOf(kind, [cached], form, includeObjectOf(context.query), { resourceVersion: String(cached.revision) })
        : partialOf(cached.object, form)
      sendJson(res, code, JSON.stringify(body), headers)
    }
  }

  /** The body as an object of the kind, which path and name agree with. */
  async #object(context: Context, kind: Kind, w: WriteContext): Promise<ApiObject> {
    const { req, info } = context
    const bytes = await readBody(req)
    const { value, duplicates } = parseBody(bytes, req.headers['content-type'])
    const { object, warnings } = validateShape(kind, value, w.validation!, duplicates)
    w.warnings!.push(...warnings)
    object.metadata ??= {} as ApiObject['metadata']
    const { metadata } = object
    if (kind.namespaced) {
      if (info.namespace === '') throw badRequest(`a ${kind.kind} needs a namespace: POST to /namespaces/NAME/${kind.plural}`)
      if (metadata.namespace && metadata.namespace !== info.namespace) {
        throw badRequest(`the namespace of the provided object does not match the namespace sent on the request (${metadata.namespace} != ${info.namespace})`)
      }
      metadata.namespace ||= flat(info.namespace)
    } else if (metadata.namespace) throw badRequest('namespace is not allowed on this type')
    if (info.name !== '') {
      if (metadata.name && metadata.name !== info.name) {
        throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${info.name})`)
      }
      metadata.name ||= flat(info.name)
    }
    return object
  }

  async #create(context: Context, kind: Kind, res: Response): Promise<void> {
    const w = writeContext(context)
    const object = await this.#object(context, kind, w)
    this.#send(context, kind, res, 201, await this.#registry.create(kind, object, w), w.warnings)
  }

  async #update(context: Context, kind: Kind, res: Response): Promise<void> {
    const w = writeContext(context)
    const object = await this.#object(context, kind, w)
    const { cached, created } = await this.#registry.update(kind, object, w)
    this.#send(context, kind, res, created ? 201 : 200, cached, w.warnings)
  }

  async #patch(context: Context, kind: Kind, res: Response): Promise<void> {
    const { req, query } = context
    const type = patchType(req.headers['content-type'])
    const w = writeContext(context)
    if (type === 'apply') {
      if (!query.get('fieldManager')) {
        throw new ApiError('Invalid', 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch', {
          group: 'meta.k8s.io', kind: 'PatchOptions', causes: [{ reason: 'FieldValueRequired', message: 'Required value: is required for apply patch', field: 'fieldManager' }],
        })
      }
      w.force = query.get('force') === 'true'
    }
    const { value } = parseBody(await readBody(req), req.headers['content-type'])
    const { cached, created } = await this.#registry.patch(kind, keyOf(context, kind), type, value, w)
    this.#send(context, kind, res, created ? 201 : 200, cached, w.warnings)
  }

  async #delete(context: Context, kind: Kind, res: Response): Promise<void> {
    const { options, dryRun } = await deleteOptions(context)
    const { cached, gone } = await this.#registry.delete(kind, keyOf(context, kind), options, { user: context.user, dryRun })
    if (!gone || DELETE_RETURNS_OBJECT.has(kind.kind)) return this.#send(context, kind, res, 200, cached)
    const { name, uid } = cached.object.metadata
    sendJson(res, 200, JSON.stringify({
      kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details: { name, ...(kind.group !== '' && { group: kind.group }), kind: kind.plural, uid },
    }))
  }

  async #deleteCollection(context: Context, kind: Kind, res: Response): Promise<void> {
    const { options, dryRun } = await deleteOptions(context)
    const page = this.#lister.list(kind, listOptions(context))
    const deleted: Cached[] = []
    for (let i = 0; i < page.items.length; i += DELETE_BATCH) {
      const results = await Promise.all(page.items.slice(i, i + DELETE_BATCH).map(async c => {
        try {
          return (await this.#registry.delete(kind, c.object.metadata, options, { user: context.user, dryRun })).cached
        } catch (e) {
          // Someone else was faster.
          if (e instanceof ApiError && e.reason === 'NotFound') return undefined
          throw e
        }
      }))
      deleted.push(...results.filter(c => c !== undefined))
    }
    sendJson(res, 200, assemble(kind, { items: deleted, revision: this.#registry.cache.revision() }))
  }

  async #scale(context: Context, kind: Kind, res: Response): Promise<boolean> {
    const { info, req } = context
    const key = keyOf(context, kind)
    const w = writeContext(context)
    delete w.subresource
    let cached: Cached
    if (info.verb === 'get') cached = this.#registry.get(kind, key)
    else if (info.verb === 'update') {
      const { value, duplicates } = parseBody(await readBody(req), req.headers['content-type'])
      const { object } = validateShape(scaleKind, value, w.validation!, duplicates)
      cached = await this.#registry.modify(kind, key, old => withScale(old, object as Scale), w)
    } else if (info.verb === 'patch') {
      const type = patchType(req.headers['content-type'])
      if (type === 'apply') throw new ApiError('UnsupportedMediaType', 'server-side apply of scale is not supported; use a merge patch')
      const { value } = parseBody(await readBody(req), req.headers['content-type'])
      cached = await this.#registry.modify(kind, key, old => {
        const patched = applyPatch(scaleKind, type === 'strategic' ? 'merge' : type, scaleOf(kind, old), value)
        return withScale(old, validateShape(scaleKind, patched, w.validation!).object as Scale)
      }, w)
    } else return false
    sendJson(res, 200, JSON.stringify(scaleOf(kind, cached.object)), warningHeaders(w.warnings!))
    return true
  }

  async #binding(context: Context, res: Response): Promise<boolean> {
    const { info, req, user } = context
    const { value } = parseBody(await readBody(req), req.headers['content-type'])
    const { target, metadata } = (value ?? {}) as { target?: { name?: string; kind?: string }; metadata?: { uid?: string } }
    if (!target?.name) throw badRequest('a Binding needs target.name: the node')
    await this.#registry.bind({ ...info, ...(metadata?.uid && { uid: metadata.uid }) }, target.name, { user, dryRun: isDryRun(context) })
    sendJson(res, 201, SUCCESS)
    return true
  }

  async #eviction(context: Context, kind: Kind, res: Response): Promise<boolean> {
    const { req, user } = context
    const { value } = parseBody(await readBody(req), req.headers['content-type'])
    const asked = ((value ?? {}) as { deleteOptions?: RawDeleteOptions }).deleteOptions ?? {}
    const { options, dryRun } = readDeleteOptions(asked)
    await this.#registry.delete(kind, keyOf(context, kind), options, { user, dryRun: dryRun || isDryRun(context) })
    sendJson(res, 201, SUCCESS)
    return true
  }
}

const SUCCESS = JSON.stringify({ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 })

function keyOf({ info }: Context, kind: Kind): { namespace?: string; name: string } {
  if (!kind.namespaced) return { name: info.name }
  if (info.namespace === '') throw notFound(kind, info.name)
  return { namespace: info.namespace, name: info.name }
}

function isDryRun({ query }: Context): boolean {
  const asked = query.getAll('dryRun').filter(v => v !== '')
  if (asked.some(v => v !== 'All')) throw badRequest(`dryRun: Unsupported value: ${JSON.stringify(asked[0])}: supported values: "All"`)
  return asked.length > 0
}

function writeContext(context: Context): WriteContext {
  const { query, user, info, req } = context
  const validation = query.get('fieldValidation') || 'Warn'
  if (validation !== 'Strict' && validation !== 'Warn' && validation !== 'Ignore') {
    throw badRequest(`fieldValidation: Unsupported value: ${JSON.stringify(validation)}: supported values: "Ignore", "Strict", "Warn"`)
  }
  const asked = query.get('fieldManager') ?? ''
  if (asked.length > MANAGER_MAX || /[^\x20-\x7e\u00a0-\uffff]/.test(asked)) throw badRequest(`fieldManager: must be at most ${MANAGER_MAX} printable characters`)
  const agent = String(req.headers['user-agent'] ?? '')
  const manager = asked || agent.slice(0, (agent.indexOf('/') + agent.length + 1) % (agent.length + 1)).slice(0, MANAGER_MAX) || 'unknown'
  return {
    user, manager: flat(manager), validation: validation as FieldValidation, warnings: [],
    ...(info.subresource !== '' && { subresource: info.subresource }), ...(isDryRun(context) && { dryRun: true }),
  }
}

/** `Warning: 299 - "text"`, one a warning. */
function warningHeaders(warnings: readonly string[]): Record<string, string[]> | undefined {
  if (warnings.length === 0) return undefined
  return { Warning: warnings.map(w => `299 - "${w.replace(/[^\x20-\x7e]/g, '?').replace(/[\\"]/g, '\\$&')}"`) }
}

function patchType(contentType: string | undefined): PatchType {
  const type = PATCH_TYPES[(contentType ?? '').split(';', 1)[0]!.trim().toLowerCase()]
  if (type === undefined) {
    throw new ApiError('UnsupportedMediaType', `the body of the request was in an unknown format - accepted media types include: ${Object.keys(PATCH_TYPES).join(', ')}`)
  }
  return type
}

interface RawDeleteOptions extends Omit<DeleteOptions, 'propagationPolicy'> { propagationPolicy?: string; orphanDependents?: boolean; dryRun?: string[] }

function readDeleteOptions(raw: RawDeleteOptions): { options: DeleteOptions; dryRun: boolean } {
  const { gracePeriodSeconds, propagationPolicy, preconditions, orphanDependents, dryRun = [] } = clone(raw)
  if (gracePeriodSeconds !== undefined && gracePeriodSeconds !== null && !Number.isInteger(gracePeriodSeconds)) throw badRequest('gracePeriodSeconds must be an integer')
  if (propagationPolicy && propagationPolicy !== 'Background' && propagationPolicy !== 'Foreground' && propagationPolicy !== 'Orphan') {
    throw badRequest(`propagationPolicy: Unsupported value: ${JSON.stringify(propagationPolicy)}: supported values: "Background", "Foreground", "Orphan"`)
  }
  const policy = propagationPolicy || (orphanDependents === undefined ? undefined : orphanDependents ? 'Orphan' : 'Background')
  return {
    options: {
      ...(typeof gracePeriodSeconds === 'number' && { gracePeriodSeconds }), ...(policy && { propagationPolicy: policy as 'Background' }),
      ...(preconditions && { preconditions }),
    },
    dryRun: dryRun.includes('All'),
  }
}

/** Of the body, else of the query. */
async function deleteOptions(context: Context): Promise<{ options: DeleteOptions; dryRun: boolean }> {
  const { req, query } = context
  const bytes = await readBody(req)
  if (bytes.length > 0) {
    const value = parseBody(bytes, req.headers['content-type']).value
    if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
      const { options, dryRun } = readDeleteOptions(value as RawDeleteOptions)
      return { options, dryRun: dryRun || isDryRun(context) }
    }
  }
  const grace = query.get('gracePeriodSeconds')
  const orphan = query.get('orphanDependents')
  const { options } = readDeleteOptions({
    ...(grace && { gracePeriodSeconds: Number(grace) }), propagationPolicy: query.get('propagationPolicy') ?? '',
    ...(orphan && { orphanDependents: orphan === 'true' }),
  })
  return { options, dryRun: isDryRun(context) }
}
