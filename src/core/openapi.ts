/**
 * OpenAPI v3, one document per group and version, with what kubectl reads in it: the PATCH operations (which decide on
 * server-side validation and strategic merge), the kinds' schemas, and the patch and list extensions.
 */
import type { Kind, KindTable } from './kinds.ts'
import { typeOf } from './schema/registry.ts'
import type { Field, Message, Scalar } from './schema/registry.ts'

type Schema = Record<string, unknown>

function pathOf(k: { group: string; version: string }): string {
  return k.group === '' ? `api/${k.version}` : `apis/${k.group}/${k.version}`
}

/** `api/v1`, `apis/apps/v1`, …: what follows `/openapi/v3/`. */
export function openApiGroupVersions(kinds: KindTable): string[] { return [...new Set(kinds.all().map(pathOf))] }

/** The document of one of {@link openApiGroupVersions}; undefined for others. */
export function openApiDocument(kinds: KindTable, groupVersionPath: string): object | undefined {
  const served = kinds.all().filter(k => pathOf(k) === groupVersionPath)
  if (served.length === 0) return undefined
  const schemas = new Map<string, Schema>()
  const paths: Record<string, unknown> = {}
  for (const kind of served) {
    const ref = kindSchema(kind, schemas)
    addPaths(paths, `/${groupVersionPath}`, kind, ref, schemas)
  }
  for (const name of ['DeleteOptions', 'Status']) refTo(typeOf('v1', name) as Message, schemas)
  return {
    openapi: '3.0.0', info: { title: 'Gantry', version: 'v1' }, paths,
    components: { schemas: Object.fromEntries([...schemas].sort(([a], [b]) => a < b ? -1 : 1)) },
  }
}

const KUBERNETES_SECTIONS = new Set(['core', 'apps', 'discovery', 'coordination', 'rbac', 'autoscaling', 'policy',
  'authentication', 'authorization'])

function schemaName(message: Message): string {
  if (message.section === 'meta') return `io.k8s.apimachinery.pkg.apis.meta.v1.${message.name}`
  if (KUBERNETES_SECTIONS.has(message.section)) return `io.k8s.api.${message.section}.v1.${message.name}`
  return `dev.gantry.${message.section}.v1.${message.name}`
}

function kindSchema(kind: Kind, schemas: Map<string, Schema>): Schema {
  const message = typeOf(kind.apiVersion, kind.kind)
  if (message) return refTo(message, schemas)
  const name = `dev.gantry.${kind.group || 'core'}.${kind.version}.${kind.kind}`
  schemas.set(name, {
    type: 'object',
    properties: { apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: refTo(typeOfMeta(), schemas) },
    'x-kubernetes-preserve-unknown-fields': true,
    'x-kubernetes-group-version-kind': [{ group: kind.group, version: kind.version, kind: kind.kind }],
  })
  return { $ref: `#/components/schemas/${name}` }
}

function typeOfMeta(): Message { return (typeOf('v1', 'ConfigMap') as Message).fields.get('metadata')?.message as Message }

function refTo(message: Message, schemas: Map<string, Schema>): Schema {
  const name = schemaName(message)
  if (!schemas.has(name)) {
    const schema: Schema = { type: 'object' }
    schemas.set(name, schema)
    fill(schema, message, schemas)
  }
  return { $ref: `#/components/schemas/${name}` }
}

function fill(schema: Schema, message: Message, schemas: Map<string, Schema>): void {
  const properties: Record<string, Schema> = {}
  const required: string[] = []
  if (message.apiVersion !== undefined) {
    properties['apiVersion'] = { type: 'string' }
    properties['kind'] = { type: 'string' }
    const [version = '', group = ''] = message.apiVersion.split('/').reverse()
    schema['x-kubernetes-group-version-kind'] = [{ group, version, kind: message.name }]
  }
  for (const field of message.fields.values()) {
    properties[field.name] = fieldSchema(field, schemas)
    if (field.required) required.push(field.name)
  }
  if (Object.keys(properties).length > 0) schema['properties'] = properties
  if (required.length > 0) schema['required'] = required
}

const SCALARS: Record<Scalar, Schema> = {
  string: { type: 'string' },
  bool: { type: 'boolean' },
  int32: { type: 'integer', format: 'int32' },
  int64: { type: 'integer', format: 'int64' },
  double: { type: 'number', format: 'double' },
  bytes: { type: 'string', format: 'byte' },
  Quantity: { oneOf: [{ type: 'string' }, { type: 'number' }] },
  Time: { type: 'string', format: 'date-time' },
  MicroTime: { type: 'string', format: 'date-time' },
  Duration: { type: 'string' },
  IntOrString: { format: 'int-or-string', oneOf: [{ type: 'integer' }, { type: 'string' }] },
  RawExtension: { type: 'object' },
  FieldsV1: { type: 'object' },
  ExtraValue: { type: 'array', items: { type: 'string' } },
}

function fieldSchema(field: Field, schemas: Map<string, Schema>): Schema {
  // A bare $ref may have no siblings, hence allOf.
  const one: Schema = field.message ? { allOf: [refTo(field.message, schemas)] } : { ...SCALARS[field.scalar as Scalar] }
  const schema: Schema = field.shape === 'list' ? { type: 'array', items: one }
    : field.shape === 'map' ? { type: 'object', additionalProperties: one } : one
  if (field.default !== undefined) schema['default'] = field.default
  const strategy = [field.merge && 'merge', field.retainKeys && 'retainKeys'].filter(Boolean).join(',')
  if (strategy !== '') schema['x-kubernetes-patch-strategy'] = strategy
  if (field.merge?.mergeKey !== undefined) schema['x-kubernetes-patch-merge-key'] = field.merge.mergeKey
  if (field.shape === 'list' && field.ownership) schema['x-kubernetes-list-type'] = field.ownership
  if (field.ownership === 'map') schema['x-kubernetes-list-map-keys'] = field.mapKeys
  if (field.shape !== 'list' && field.ownership === 'atomic') schema['x-kubernetes-map-type'] = 'atomic'
  return schema
}

const query = (name: string, type = 'string'): Schema => ({ name, in: 'query', schema: { type, uniqueItems: true } })
const inPath = (name: string): Schema => ({ name, in: 'path', required: true, schema: { type: 'string', uniqueItems: true } })
// kubectl follows references to parameters of OpenAPI v2 only: they are written out.
const WRITE_QUERY = [query('dryRun'), query('fieldManager'), query('fieldValidation')]
const DELETE_QUERY = [query('dryRun'), query('gracePeriodSeconds', 'integer'), query('propagationPolicy')]
const LIST_QUERY = [
  query('allowWatchBookmarks', 'boolean'), query('continue'), query('fieldSelector'), query('labelSelector'),
  query('limit', 'integer'), query('resourceVersion'), query('resourceVersionMatch'), query('sendInitialEvents', 'boolean'),
  query('timeoutSeconds', 'integer'),
  query('watch', 'boolean'),
]

function addPaths(paths: Record<string, unknown>, base: string, kind: Kind, ref: Schema, schemas: Map<string, Schema>): void {
  const gvk = { group: kind.group, version: kind.version, kind: kind.kind }
  const collection = kind.namespaced ? `${base}/namespaces/{namespace}/${kind.plural}` : `${base}/${kind.plural}`
  const namespace = kind.namespaced ? [inPath('namespace')] : []
  const name = [...namespace, inPath('name')]
  const suffix = `${kind.namespaced ? 'Namespaced' : ''}${kind.kind}`
  const prefix = base.replace(/[^a-zA-Z0-9]+(.)/g, (_, c: string) => c.toUpperCase())
  const content = { 'application/json': { schema: ref }, 'application/yaml': { schema: ref } }
  const operation = (action: string, verb: string, parameters: Schema[], body?: Schema): Schema => ({
    operationId: `${verb}${prefix}${suffix}`,
    parameters,
    ...(body && { requestBody: { content: body, required: true } }),
    responses: { '200': { description: 'OK', content } },
    'x-kubernetes-action': action,
    'x-kubernetes-group-version-kind': gvk,
  })
  paths[collection] = {
    get: operation('list', 'list', [...namespace, ...LIST_QUERY]),
    post: operation('post', 'create', [...namespace, ...WRITE_QUERY], content),
    delete: operation('deletecollection', 'deletecollection', [...namespace, ...LIST_QUERY, query('dryRun')]),
  }
  paths[`${collection}/{name}`] = {
    get: operation('get', 'read', name),
    put: operation('put', 'replace', [...name, ...WRITE_QUERY], content),
    patch: operation('patch', 'patch', [...name, ...WRITE_QUERY, query('force', 'boolean')], patchContent(kind)),
    delete: operation('delete', 'delete', [...name, ...DELETE_QUERY]),
  }
  if (kind.subresources?.includes('status')) {
    paths[`${collection}/{name}/status`] = {
      get: operation('get', 'readStatus', name),
      put: operation('put', 'replaceStatus', [...name, ...WRITE_QUERY], content),
      patch: operation('patch', 'patchStatus', [...name, ...WRITE_QUERY, query('force', 'boolean')], patchContent(kind)),
    }
  }
  if (kind.subresources?.includes('scale')) refTo(typeOf('autoscaling/v1', 'Scale') as Message, schemas)
  if (kind.subresources?.includes('eviction')) refTo(typeOf('policy/v1', 'Eviction') as Message, schemas)
  if (kind.namespaced) paths[`${base}/${kind.plural}`] = { get: operation('list', 'listAll', LIST_QUERY) }
}

function patchContent(kind: Kind): Schema {
  const any = { schema: { type: 'object' } }
  return {
    'application/json-patch+json': any,
    'application/merge-patch+json': any,
    ...(typeOf(kind.apiVersion, kind.kind) && { 'application/strategic-merge-patch+json': any }),
    'application/apply-patch+yaml': any,
  }
}
