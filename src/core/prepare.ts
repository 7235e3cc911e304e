/**
 * The rules every write goes through between decoding and storing: server-owned metadata, defaults, validation. Each
 * function owns the object it is given (changes and returns it) and never touches `old`.
 */
import { equal } from './clone.ts'
import { badRequest, conflict } from './errors.ts'
import type { Kind } from './kinds.ts'
import { generateName } from './names.ts'
import { qosClassOf } from './qos.ts'
import { rulesOf } from './rules.ts'
import { formatTime } from './time.ts'
import type { ApiObject, Condition, ObjectMeta, Pod, Secret, Service } from './types/index.ts'
import { FieldErrors } from './validate/field-errors.ts'
import { validateMetadata, validateMetadataUpdate } from './validate/metadata.ts'

/** Time and chance, given from outside: core has neither. */
export interface PrepareContext {
  now: Date
  uuid(): string
  /** An integer in 0…n−1. */
  random(n: number): number
}

type WithStatus = ApiObject & { status?: unknown; spec?: unknown }

function hasStatus(kind: Kind): boolean { return kind.subresources?.includes('status') === true }

/**
 * A new object, complete but for its resourceVersion. `metadata.namespace` must be set before for namespaced kinds. With
 * `generateName` and no name a name is made; after AlreadyExists the caller may delete the name and prepare again.
 * Throws BadRequest or Invalid.
 */
export function prepareCreate<T extends ApiObject>(kind: Kind<T>, object: T, ctx: PrepareContext): T {
  const meta = object.metadata ??= {} as ObjectMeta
  if (meta.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created')
  if (!meta.name && meta.generateName) meta.name = generateName(meta.generateName, ctx.random)
  meta.uid = ctx.uuid()
  meta.creationTimestamp = formatTime(ctx.now.getTime())
  delete meta.resourceVersion
  delete meta.deletionTimestamp
  delete meta.deletionGracePeriodSeconds
  delete (meta as { selfLink?: string }).selfLink
  if (!kind.namespaced && meta.namespace === '') delete meta.namespace
  if (hasStatus(kind)) meta.generation = 1
  else delete meta.generation

  const rules = rulesOf(kind)
  const o = object as WithStatus
  guarded(() => {
    mergeStringData(kind, object)
    rules.defaults?.(object)
  })
  if (hasStatus(kind) && !rules.keepsStatusOnCreate) {
    const status = rules.initialStatus?.(object)
    if (status === undefined) delete o.status
    else o.status = status
  }
  const errors = new FieldErrors()
  guarded(() => {
    validateMetadata(kind, meta, errors)
    rules.validate?.(object, errors)
  })
  errors.throwIfAny(kind, meta.name || meta.generateName || '')
  if (isPod(kind)) (object as unknown as Pod).status!.qosClass = qosClassOf((object as unknown as Pod).spec)
  return object
}

/**
 * The object's next state. Its status is `old`'s, its server-owned metadata too; the generation grows if anything but metadata
 * and status changed. The caller checks the resourceVersion. Throws Conflict for another uid, or Invalid.
 */
export function prepareUpdate<T extends ApiObject>(kind: Kind<T>, object: T, old: T, _ctx: PrepareContext): T {
  const meta = object.metadata ??= {} as ObjectMeta
  keepServerOwned(kind, meta, old.metadata)
  const o = object as WithStatus
  const was = old as WithStatus
  if (hasStatus(kind)) {
    if (was.status === undefined) delete o.status
    else o.status = was.status
  }
  const rules = rulesOf(kind)
  const errors = new FieldErrors()
  guarded(() => {
    mergeStringData(kind, object)
    rules.defaults?.(object)
    keepAllocated(kind, object, old)
    validateMetadata(kind, meta, errors)
    validateMetadataUpdate(meta, old.metadata, errors)
    rules.validate?.(object, errors)
    if (errors.causes.length === 0) rules.validateUpdate?.(object, old, errors)
  })
  errors.throwIfAny(kind, meta.name)
  if (meta.generation !== undefined && specChanged(object, old)) meta.generation++
  return object
}

/** Only the status is taken from `object`; all else is `old`'s. */
export function prepareStatusUpdate<T extends ApiObject>(kind: Kind<T>, object: T, old: T): T {
  const uid = object.metadata?.uid
  if (uid && uid !== old.metadata.uid) throw wrongUid(kind, old.metadata, uid)
  const managedFields = object.metadata?.managedFields
  const resourceVersion = object.metadata?.resourceVersion
  const metadata: ObjectMeta = { ...old.metadata }
  if (managedFields !== undefined) metadata.managedFields = managedFields
  if (resourceVersion !== undefined) metadata.resourceVersion = resourceVersion
  const next = { ...old, metadata } as WithStatus
  const { status } = object as WithStatus
  if (status === undefined) delete next.status
  else next.status = status
  return next as unknown as T
}

/**
 * A Pod bound to a node (`pods/binding`): nodeName and the condition PodScheduled. Throws Conflict if it is bound, deleted or
 * held by scheduling gates.
 */
export function prepareBinding(kind: Kind<Pod>, pod: Pod, nodeName: string, now: Date, uid?: string): Pod {
  const { metadata, spec } = pod
  if (uid && uid !== metadata.uid) throw wrongUid(kind, metadata, uid)
  const refuse = (why: string): Error => conflict(kind, metadata.name, why)
  if (spec.nodeName) throw refuse(`pod ${metadata.name} is already assigned to node ${JSON.stringify(spec.nodeName)}`)
  if (metadata.deletionTimestamp !== undefined) throw refuse(`pod ${metadata.name} is being deleted, cannot be assigned to a host`)
  if (spec.schedulingGates?.length) throw refuse(`pod ${metadata.name} has non-empty .spec.schedulingGates`)
  const scheduled: Condition = { type: 'PodScheduled', status: 'True', lastTransitionTime: formatTime(now.getTime()) }
  const others = (pod.status?.conditions ?? []).filter(c => c.type !== 'PodScheduled')
  const status = { ...pod.status, conditions: [...others, scheduled] }
  return { ...pod, metadata: { ...metadata }, spec: { ...spec, nodeName }, status }
}

function isPod(kind: Kind): boolean { return kind.kind === 'Pod' && kind.apiVersion === 'v1' }

/** Objects that did not pass validateShape (in-process callers', kinds without a table) may be misshapen: their BadRequest. */
function guarded(work: () => void): void {
  try {
    work()
  } catch (e) {
    if (e instanceof TypeError) throw badRequest(`the object is malformed: ${e.message}`)
    throw e
  }
}

function wrongUid(kind: Kind, old: ObjectMeta, uid: string): Error {
  return conflict(kind, old.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${old.uid}`)
}

const SERVER_OWNED = [
  'uid', 'creationTimestamp', 'generation', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'generateName',
] as const

function keepServerOwned(kind: Kind, meta: ObjectMeta, old: ObjectMeta): void {
  if (meta.uid && meta.uid !== old.uid) throw wrongUid(kind, old, meta.uid)
  if (!meta.name) meta.name = old.name
  if (!meta.namespace && old.namespace !== undefined) meta.namespace = old.namespace
  delete (meta as { selfLink?: string }).selfLink
  for (const field of SERVER_OWNED) {
    if (old[field] === undefined) delete meta[field]
    else (meta as unknown as Record<string, unknown>)[field] = old[field]
  }
}

/** Fields the server chose at creation, which a client that builds the object anew leaves out. */
function keepAllocated(kind: Kind, object: ApiObject, old: ApiObject): void {
  const fields = ALLOCATED[`${kind.apiVersion}/${kind.kind}`]
  if (!fields) return
  if (kind.kind === 'Service') keepNodePorts(object as Service, old as Service)
  const spec = (object as { spec?: Record<string, unknown> }).spec
  const was = (old as { spec?: Record<string, unknown> }).spec
  if (!spec || !was || spec['type'] === 'ExternalName') return
  for (const field of fields) {
    if ((spec[field] === undefined || spec[field] === '') && was[field] !== undefined) spec[field] = was[field]
  }
}

const ALLOCATED: Record<string, string[]> = {
  'v1/Service': ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'],
  'v1/Pod': ['nodeName'],
  'v1/Node': ['podCIDR', 'podCIDRs', 'providerID'],
  'gantry.dev/v1/Machine': ['podCIDR'],
}

/** A Service's node ports stay with their ports when the client leaves them out. */
function keepNodePorts(service: Service, old: Service): void {
  const type = service.spec?.type
  if (type !== 'NodePort' && type !== 'LoadBalancer') return
  const used = new Set(service.spec.ports?.map(p => p.nodePort))
  for (const port of service.spec.ports ?? []) {
    if (port.nodePort) continue
    const was = old.spec.ports?.find(p => p.port === port.port && p.protocol === port.protocol)?.nodePort
    if (was && !used.has(was)) port.nodePort = was
  }
}

function specChanged(object: ApiObject, old: ApiObject): boolean {
  const now = object as unknown as Record<string, unknown>
  const was = old as unknown as Record<string, unknown>
  for (const field in now) {
    if (field !== 'metadata' && field !== 'status' && field !== 'apiVersion' && field !== 'kind'
      && !equal(now[field], was[field])) return true
  }
  for (const field in was) {
    if (field !== 'metadata' && field !== 'status' && was[field] !== undefined && now[field] === undefined) return true
  }
  return false
}

/** Secrets take plain text in stringData; it overrides data and is never stored. */
function mergeStringData(kind: Kind, object: ApiObject): void {
  if (kind.kind !== 'Secret' || kind.apiVersion !== 'v1') return
  const secret = object as Secret
  if (secret.stringData) {
    const data: Record<string, string> = { ...secret.data }
    for (const key in secret.stringData) data[key] = Buffer.from(secret.stringData[key] as string, 'utf8').toString('base64')
    secret.data = data
  }
  delete secret.stringData
}
