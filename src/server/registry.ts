/**
 * Every write of every kind: Kubernetes' rules over the cache and the store. The REST front, the in-process client and the
 * dialects all end here.
 */
import { randomInt, randomUUID } from 'node:crypto'
import type { DeleteOptions, Key, PatchType } from '../core/client.ts'
import { equal } from '../core/clone.ts'
import { ApiError, alreadyExists, badRequest, conflict, notFound } from '../core/errors.ts'
import { flat } from '../core/flat.ts'
import { machines, namespaces, nodes, pods, services } from '../core/kinds.ts'
import type { Kind, KindTable } from '../core/kinds.ts'
import { serverSideApply } from '../core/patch/apply.ts'
import { trackUpdate } from '../core/patch/managed.ts'
import { applyPatch } from '../core/patch/patch.ts'
import { prepareBinding, prepareCreate, prepareStatusUpdate, prepareUpdate } from '../core/prepare.ts'
import { validateShape } from '../core/schema/decode.ts'
import type { FieldValidation } from '../core/schema/decode.ts'
import type { ApiObject, Machine, Namespace, Node, Pod, Service } from '../core/types/index.ts'
import { PreconditionFailed } from '../store/store.ts'
import { admitNamespace, admitNamespaceObject, admitNode, admitPod, lacksServiceAccount } from './admission.ts'
import { boundText } from './bound-text.ts'
import type { Cache, KindCache } from './cache.ts'
import { Cached } from './cached.ts'
import { storeKey } from './codec.ts'
import { isFinished, planDeletion } from './deletion.ts'
import type { User } from './host.ts'
import type { Ipam } from './ipam.ts'

const GENERATE_NAME_TRIES = 8
/** Another server may have written in between. */
const CONFLICT_TRIES = 5
/** Kinds that a PUT may create (Kubernetes' AllowCreateOnUpdate). */
const CREATED_BY_UPDATE = new Set([
  'v1/Endpoints', 'v1/Event', 'v1/Service', 'coordination.k8s.io/v1/Lease', 'rbac.authorization.k8s.io/v1/Role', 'rbac.authorization.k8s.io/v1/RoleBinding',
  'rbac.authorization.k8s.io/v1/ClusterRole', 'rbac.authorization.k8s.io/v1/ClusterRoleBinding',
])
/** Kinds whose update must say which revision it changes. */
const NEEDS_REVISION = new Set(['coordination.k8s.io/v1/Lease'])

/** On whose behalf a write is made, and how. */
export interface WriteContext {
  /** Undefined: the server itself. */
  user?: User
  /** Owner of the fields in managedFields; undefined: they are not tracked. */
  manager?: string
  dryRun?: boolean
  subresource?: string
  /** For patches: what to do with unknown fields. */
  validation?: FieldValidation
  /** Collects what the client should be told. */
  warnings?: string[]
  /** Of server-side apply. */
  force?: boolean
}

/** Judges an object as it would be stored; throws Forbidden. */
export type Admit = (user: User, kind: Kind, object: ApiObject, old: ApiObject | undefined) => void

export interface Deleted {
  /** The last state, or the one that waits for its finalizers or grace. */
  cached: Cached
  gone: boolean
}

const noCaller: WriteContext = {}
const kindId = (kind: Kind): string => `${kind.apiVersion}/${kind.kind}`
const isKind = (kind: Kind, other: Kind): boolean => kind.plural === other.plural && kind.group === other.group
const uuid = (): string => flat(randomUUID())
const localKey = (kind: Kind, key: Key): string => kind.namespaced ? `${key.namespace}/${key.name}` : key.name

export class Registry {
  readonly cache: Cache
  readonly kinds: KindTable
  readonly #ipam: Ipam
  /** Makes what every namespace needs before its first Pod. */
  readonly #furnish: (namespace: string) => Promise<void>
  /** Set when authorisation has been built on top of this registry. */
  admit: Admit | undefined
  /** Tail of the queue of writers of a key. */
  readonly #locks = new Map<string, Promise<unknown>>()

  constructor(cache: Cache, kinds: KindTable, ipam: Ipam, furnish: (registry: Registry, namespace: string) => Promise<void>) {
    this.cache = cache
    this.kinds = kinds
    this.#ipam = ipam
    this.#furnish = namespace => furnish(this, namespace)
  }

  get(kind: Kind, key: Key): Cached {
    const cached = this.cache.of(kind).get(localKey(kind, key))
    if (cached === undefined) throw notFound(kind, key.name)
    return cached
  }

  /** Takes `object` over. */
  async create(kind: Kind, object: ApiObject, w: WriteContext = noCaller): Promise<Cached> {
    const cache = this.cache.of(kind)
    const generated = !object.metadata?.name && object.metadata?.generateName !== undefined
    for (let tries = 1; ; tries++) {
      prepareCreate(kind, object, { now: new Date(), uuid, random: randomInt })
      const { namespace, name } = object.metadata
      if (kind.namespaced) admitNamespace(this.cache, kind, object)
      const existing = cache.get(localKey(kind, object.metadata))
      try {
        if (existing !== undefined) throw this.#exists(kind, existing)
        if (isKind(kind, namespaces)) admitNamespaceObject(object as Namespace)
        // What admission adds (a Pod's token volume, a Service's address) belongs to nobody, as in Kubernetes.
        if (w.manager !== undefined) trackUpdate(undefined, object, w.manager, '', new Date())
        await this.#admitNew(kind, object, w)
        return await this.#store(cache, storeKey(kind, namespace, name), object, undefined, w)
      } catch (e) {
        this.#giveBack(kind, object)
        const taken = e instanceof PreconditionFailed || (e instanceof ApiError && e.reason === 'AlreadyExists')
        if (!taken) throw e
        if (!generated) throw e instanceof ApiError ? e : alreadyExists(kind, name)
        if (tries === GENERATE_NAME_TRIES) {
          throw new ApiError('AlreadyExists', `${alreadyExists(kind, name).message}, the server was not able to generate a unique name for the object`, {
            name, kind: kind.plural, retryAfterSeconds: 1,
          })
        }
        object.metadata.name = ''
        object.metadata.resourceVersion = undefined as unknown as string
      }
    }
  }

  #exists(kind: Kind, existing: Cached): ApiError {
    const { name, deletionTimestamp } = existing.object.metadata
    if (deletionTimestamp === undefined) return alreadyExists(kind, name)
    return new ApiError('AlreadyExists', `object is being deleted: ${alreadyExists(kind, name).message}`, alreadyExists(kind, name).details)
  }

  async #admitNew(kind: Kind, object: ApiObject, w: WriteContext): Promise<void> {
    if (isKind(kind, pods)) {
      const pod = object as Pod
      if (pod.spec.serviceAccountName === 'default' && lacksServiceAccount(this.cache, pod)) await this.#furnish(pod.metadata.namespace!)
      admitPod(this.cache, kind, pod)
    } else if (isKind(kind, nodes)) admitNode(this.cache, object as Node)
    if (w.user !== undefined) this.admit?.(w.user, kind, object, undefined)
    if (isKind(kind, services)) this.#ipam.assign(object as Service, undefined)
    else if (isKind(kind, machines)) this.#ipam.assignSubnet(object as Machine)
  }

  /** After a create that failed, or a dry run. */
  #giveBack(kind: Kind, object: ApiObject): void {
    if (isKind(kind, services)) this.#ipam.release(object as Service)
    else if (isKind(kind, machines)) this.#ipam.releaseSubnet(object as Machine)
  }

  /** Replaces the object, or with `w.subresource` its part. Takes `object` over. `created` if a PUT made it. */
  async update(kind: Kind, object: ApiObject, w: WriteContext = noCaller): Promise<{ cached: Cached; created: boolean }> {
    const { namespace, name, resourceVersion } = object.metadata
    if (!resourceVersion && NEEDS_REVISION.has(kindId(kind)) && this.cache.of(kind).get(localKey(kind, object.metadata)) !== undefined) {
      throw new ApiError('Invalid', `${kind.kind}.${kind.group} "${name}" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`, {
        name, group: kind.group, kind: kind.kind,
        causes: [{ reason: 'FieldValueInvalid', message: 'must be specified for an update', field: 'metadata.resourceVersion' }],
      })
    }
    return this.#locked(storeKey(kind, namespace, name), async () => {
      const old = this.cache.of(kind).get(localKey(kind, object.metadata))
      if (old === undefined) {
        if (w.subresource !== undefined || !CREATED_BY_UPDATE.has(kindId(kind)) || resourceVersion) throw notFound(kind, name)
        return { cached: await this.create(kind, object, w), created: true }
      }
      // An unconditional update wins over whatever was there; `change` gets a fresh copy only if it must run again.
      return { cached: await this.#change(kind, old, () => object, w, resourceVersion ? 1 : CONFLICT_TRIES), created: false }
    })
  }

  /**
   * Changes an object by a function of its present state, under the key's lock; `next` returns a new object and must not touch
   * what it is given.
   */
  async modify(kind: Kind, key: Key, next: (old: ApiObject) => ApiObject, w: WriteContext = noCaller): Promise<Cached> {
    return this.#locked(storeKey(kind, key.namespace, key.name), () => this.#change(kind, this.get(kind, key), next, w, CONFLICT_TRIES))
  }

  async patch(kind: Kind, key: Key, type: PatchType, body: unknown, w: WriteContext = noCaller): Promise<{ cached: Cached; created: boolean }> {
    return this.#locked(storeKey(kind, key.namespace, key.name), async () => {
      const live = this.cache.of(kind).get(localKey(kind, key))
      if (live === undefined) {
        if (type !== 'apply' || w.subresource !== undefined) throw notFound(kind, key.name)
        const applied = this.#applied(kind, undefined, key, body, w)
        // Ownership is settled by the apply itself.
        return { cached: await this.create(kind, applied, { ...w, manager: undefined as unknown as string }), created: true }
      }
      const context = type === 'apply' ? { ...w, manager: undefined as unknown as string } : w
      const next = (old: ApiObject): ApiObject => {
        if (type === 'apply') return this.#applied(kind, old, key, body, w)
        return this.#shaped(kind, applyPatch(kind, type, old, body), w)
      }
      return { cached: await this.#change(kind, live, next, context, CONFLICT_TRIES), created: false }
    })
  }

  #applied(kind: Kind, live: ApiObject | undefined, key: Key, body: unknown, w: WriteContext): ApiObject {
    const object = this.#shaped(kind, structuredClone(body) as ApiObject, w)
    object.metadata ??= { name: key.name }
    if (object.metadata.name !== key.name) throw badRequest(`the name of the object (${object.metadata.name ?? ''}) does not match the name on the URL (${key.name})`)
    if (kind.namespaced) object.metadata.namespace ??= key.namespace!
    return serverSideApply(kind, live, object, {
      manager: w.manager ?? 'unknown', force: w.force === true, now: new Date(), ...(w.subresource !== undefined && { subresource: w.subresource }),
    })
  }

  #shaped(kind: Kind, object: ApiObject, w: WriteContext): ApiObject {
    const { object: shaped, warnings } = validateShape(kind, object, w.validation ?? 'Warn')
    w.warnings?.push(...warnings)
    return shaped
  }

  /** The key's lock is held. */
  async #change(kind: Kind, first: Cached, next: (old: ApiObject) => ApiObject, w: WriteContext, tries: number): Promise<Cached> {
    const cache = this.cache.of(kind)
    for (let old = first; ; tries--) {
      const asked = next(old.object)
      const { resourceVersion } = asked.metadata
      if (resourceVersion && resourceVersion !== old.object.metadata.resourceVersion) throw conflict(kind, old.object.metadata.name)
      const object = this.#prepared(kind, asked, old.object, w)
      object.metadata.resourceVersion = undefined as unknown as string
      object.metadata.managedFields ??= old.object.metadata.managedFields as NonNullable<ApiObject['metadata']['managedFields']>
      if (equal(object, { ...old.object, metadata: { ...old.object.metadata, resourceVersion: undefined } })) return old
      if (w.manager !== undefined) trackUpdate(old.object, object, w.manager, w.subresource ?? '', new Date())
      if (w.user !== undefined) this.admit?.(w.user, kind, object, old.object)
      const service = isKind(kind, services) && w.subresource === undefined ? object as Service : undefined
      const key = storeKey(kind, object.metadata.namespace, object.metadata.name)
      try {
        if (service !== undefined) this.#ipam.assign(service, old.object as Service)
        if (isFinished(kind, object) && w.dryRun !== true) return old.at(await this.cache.delete(key, old.revision))
        return await this.#store(cache, key, object, old, w)
      } catch (e) {
        if (service !== undefined) {
          this.#ipam.release(service)
          this.#ipam.keep(old.object as Service)
        }
        if (!(e instanceof PreconditionFailed)) throw e
        await this.cache.catchUp()
        const now = cache.get(localKey(kind, object.metadata))
        if (now === undefined) throw notFound(kind, object.metadata.name)
        if (tries <= 1) throw conflict(kind, object.metadata.name)
        old = now
      }
    }
  }

  #prepared(kind: Kind, object: ApiObject, old: ApiObject, w: WriteContext): ApiObject {
    if (w.subresource === 'status') return prepareStatusUpdate(kind, object, old)
    if (w.subresource === 'finalize') {
      // Only this sub-resource releases a namespace, and it changes nothing else.
      return { ...old, metadata: { ...old.metadata }, spec: { finalizers: (object as Namespace).spec?.finalizers ?? [] } } as Namespace
    }
    const next = prepareUpdate(kind, object, old, { now: new Date(), uuid, random: randomInt })
    if (isKind(kind, namespaces)) {
      const namespace = next as Namespace
      namespace.spec = { ...namespace.spec, finalizers: (old as Namespace).spec?.finalizers ?? [] }
      namespace.metadata.labels = { ...namespace.metadata.labels, 'kubernetes.io/metadata.name': namespace.metadata.name }
    }
    return next
  }

  /** Writes a prepared object; `plain` is its JSON, if it is known. For a dry run nothing is kept. */
  async #store(cache: KindCache, key: string, object: ApiObject, old: Cached | undefined, w: WriteContext, plain?: Buffer): Promise<Cached> {
    if (w.dryRun === true) {
      if (old === undefined) this.#giveBack(cache.kind, object)
      return new Cached(cache.codec, object, old?.revision ?? 0)
    }
    const cached = await this.cache.put(cache, key, object, old === undefined ? { exists: false } : { revision: old.revision }, plain)
    if (old === undefined && isKind(cache.kind, namespaces)) await this.#furnish(object.metadata.name)
    return cached
  }

  async delete(kind: Kind, key: Key, options: DeleteOptions = {}, w: WriteContext = noCaller): Promise<Deleted> {
    const k = storeKey(kind, key.namespace, key.name)
    return this.#locked(k, async () => {
      for (let tries = CONFLICT_TRIES; ; tries--) {
        const old = this.get(kind, key)
        const plan = planDeletion(kind, old.object, options, Date.now())
        try {
          if (plan.remove) {
            if (w.dryRun === true) return { cached: old, gone: true }
            return { cached: old.at(await this.cache.delete(k, old.revision)), gone: true }
          }
          if (plan.object === undefined) return { cached: old, gone: false }
          return { cached: await this.#store(this.cache.of(kind), k, plan.object, old, w), gone: false }
        } catch (e) {
          if (!(e instanceof PreconditionFailed)) throw e
          if (tries === 1) throw conflict(kind, key.name)
          await this.cache.catchUp()
        }
      }
    })
  }

  /** Binds a Pod to a node: the scheduler's hot path. Conflict if it is bound already or its uid differs. */
  async bind(key: { namespace: string; name: string; uid?: string }, nodeName: string, w: WriteContext = noCaller): Promise<Cached> {
    return this.#locked(storeKey(pods, key.namespace, key.name), async () => {
      const old = this.get(pods, key)
      const object = prepareBinding(pods, old.object as Pod, nodeName, new Date(), key.uid)
      try {
        return await this.#store(this.cache.of(pods), storeKey(pods, key.namespace, key.name), object, old, w, boundText(old, object))
      } catch (e) {
        throw e instanceof PreconditionFailed ? conflict(pods, key.name) : e
      }
    })
  }

  /** One writer of a key at a time: a read and the write that follows from it are never torn apart. */
  #locked<T>(key: string, body: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(key)
    const mine = before === undefined ? body() : before.then(body, body)
    this.#locks.set(key, mine)
    const release = (): void => { if (this.#locks.get(key) === mine) this.#locks.delete(key) }
    mine.then(release, release)
    return mine
  }
}
