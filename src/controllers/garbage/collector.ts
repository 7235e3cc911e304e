/**
 * Deletes what has lost its owners, and carries out the propagation a deletion asked for (finalizers `foregroundDeletion` and
 * `orphan`). Works on an index of owners by uid, fed by the informers of all kinds; nothing is polled.
 */
import type { Client } from '../../core/client.ts'
import { Controller, type Source } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ApiObject, OwnerReference } from '../../core/types/index.ts'
import { eachLimited, errorLog, type Context, type Running } from '../context.ts'

const WORKERS = 16
const FOREGROUND = 'foregroundDeletion'
const ORPHAN = 'orphan'
/** Kinds that neither own nor are owned in numbers worth an index. */
const LEFT_OUT = new Set(['v1/Event'])

interface Item { kind: Kind; object: ApiObject }

export class GarbageCollector implements Running {
  readonly #context: Context
  readonly #events: EventRecorder
  readonly #kinds: Map<string, Kind>
  readonly #items = new Map<string, Item>()
  /** Owner uid → uids of its dependents. */
  readonly #dependents = new Map<string, Set<string>>()
  readonly #controller: Controller

  constructor(context: Context, kinds: readonly Kind[]) {
    this.#context = context
    this.#events = context.recorder('garbage-collector-controller')
    const watched = kinds.filter((k) => !LEFT_OUT.has(idOf(k)))
    this.#kinds = new Map(watched.map((k) => [idOf(k), k]))
    this.#controller = new Controller({
      name: 'garbage-collector',
      sources: watched.map((k) => this.#source(k)),
      reconcile: (uid) => this.#reconcile(uid),
      workers: WORKERS,
      maxDelayMs: 30_000,
      onError: errorLog(context.logger, 'garbage-collector'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  #source(kind: Kind): Source {
    const informer = this.#context.informers.of(kind)
    return {
      synced: informer.synced,
      start: (enqueue) => informer.on((type, object, old) => {
        const uid = object.metadata.uid!
        if (old !== undefined) this.#unlink(old)
        if (type === 'DELETED') {
          this.#items.delete(uid)
          // Its dependents may be garbage now, and its owners may have waited for it.
          for (const d of this.#dependents.get(uid) ?? []) enqueue(d)
          for (const r of object.metadata.ownerReferences ?? []) enqueue(r.uid)
          return
        }
        this.#items.set(uid, { kind, object })
        for (const r of object.metadata.ownerReferences ?? []) {
          let set = this.#dependents.get(r.uid)
          if (set === undefined) this.#dependents.set(r.uid, set = new Set())
          set.add(uid)
        }
        if (this.#mayBeWork(object, old)) enqueue(uid)
        for (const r of old?.metadata.ownerReferences ?? []) if (isWaiting(this.#items.get(r.uid)?.object)) enqueue(r.uid)
      }),
    }
  }

  #unlink(object: ApiObject): void {
    for (const r of object.metadata.ownerReferences ?? []) {
      const set = this.#dependents.get(r.uid)
      if (set?.delete(object.metadata.uid!) && set.size === 0) this.#dependents.delete(r.uid)
    }
  }

  /** Most changes touch neither owners nor deletion. */
  #mayBeWork({ metadata }: ApiObject, old: ApiObject | undefined): boolean {
    if (metadata.deletionTimestamp !== undefined && metadata.finalizers?.some((f) => f === FOREGROUND || f === ORPHAN)) return true
    const owners = metadata.ownerReferences
    if (owners === undefined || owners.length === 0) return false
    return old?.metadata.ownerReferences?.length !== owners.length || owners.some((r) => !this.#stands(r, metadata.namespace))
  }

  async #reconcile(uid: string): Promise<void> {
    const item = this.#items.get(uid)
    if (item === undefined) return
    const { finalizers = [], deletionTimestamp } = item.object.metadata
    if (deletionTimestamp !== undefined) {
      if (finalizers.includes(ORPHAN)) await this.#orphan(item)
      else if (finalizers.includes(FOREGROUND)) await this.#deleteDependents(item)
      return
    }
    if ((item.object.metadata.ownerReferences?.length ?? 0) > 0) await this.#collect(item)
  }

  async #collect({ kind, object }: Item): Promise<void> {
    const { client } = this.#context
    const { namespace, ownerReferences = [], uid } = object.metadata
    const solid: OwnerReference[] = []
    const waiting: OwnerReference[] = []
    const gone: OwnerReference[] = []
    for (const r of ownerReferences) {
      const owner = await this.#ownerOf(r, object)
      if (owner === 'unknown') return
      if (owner === undefined) gone.push(r)
      else if (isForeground(owner)) waiting.push(r)
      else solid.push(r)
    }
    if (solid.length > 0) {
      const lost = new Set([...gone, ...waiting])
      if (lost.size > 0) await this.#writeOwners(kind, object, ownerReferences.filter((r) => !lost.has(r)))
      return
    }
    // Below an owner that waits, those which block their own owners have to wait too.
    const blocked = [...this.#dependents.get(uid!) ?? []].some((d) => blocks(this.#items.get(d)?.object, uid!))
    const propagationPolicy = waiting.length > 0 && blocked ? 'Foreground' : object.metadata.finalizers?.includes(ORPHAN) === true ? 'Orphan' : 'Background'
    await ignoreGone(client.delete(kind, { namespace, name: object.metadata.name }, { propagationPolicy, preconditions: { uid: uid! } }))
  }

  async #deleteDependents(owner: Item): Promise<void> {
    const uid = owner.object.metadata.uid!
    const dependents = this.#dependentsOf(uid)
    await eachLimited(dependents, 16, async (d) => { if (d.object.metadata.deletionTimestamp === undefined) await this.#collect(d) })
    if (!this.#dependentsOf(uid).some((d) => blocks(d.object, uid))) await removeFinalizer(this.#context.client, owner, FOREGROUND)
  }

  async #orphan(owner: Item): Promise<void> {
    const uid = owner.object.metadata.uid!
    await eachLimited(this.#dependentsOf(uid), 16, ({ kind, object }) =>
      this.#writeOwners(kind, object, (object.metadata.ownerReferences ?? []).filter((r) => r.uid !== uid)))
    await removeFinalizer(this.#context.client, owner, ORPHAN)
  }

  #dependentsOf(uid: string): Item[] {
    return [...this.#dependents.get(uid) ?? []].map((d) => this.#items.get(d)).filter((i) => i !== undefined)
  }

  async #writeOwners(kind: Kind, object: ApiObject, ownerReferences: OwnerReference[]): Promise<void> {
    const { uid, resourceVersion } = object.metadata
    try {
      await this.#context.client.patch(kind, object.metadata, 'merge', { metadata: { uid, resourceVersion, ownerReferences } })
    } catch (e) {
      if (!isReason(e, 'NotFound')) throw e
    }
  }

  #stands(r: OwnerReference, namespace: string | undefined): boolean {
    const owner = this.#items.get(r.uid)
    if (owner === undefined || isForeground(owner.object)) return false
    return owner.object.metadata.name === r.name && (!owner.kind.namespaced || owner.object.metadata.namespace === namespace)
  }

  /** The owner itself, undefined if there is none, `unknown` if that cannot be found out. Asks the API before it says undefined. */
  async #ownerOf(r: OwnerReference, dependent: ApiObject): Promise<ApiObject | 'unknown' | undefined> {
    const { namespace } = dependent.metadata
    const known = this.#items.get(r.uid)
    if (known !== undefined && known.object.metadata.name === r.name && (!known.kind.namespaced || known.object.metadata.namespace === namespace)) {
      return known.object
    }
    const kind = this.#kinds.get(`${r.apiVersion}/${r.kind}`)
    if (kind === undefined) return 'unknown'
    if (kind.namespaced && namespace === undefined || known !== undefined && known.object.metadata.namespace !== namespace) {
      this.#events.record(dependent, 'Warning', 'OwnerRefInvalidNamespace',
        `ownerRef [${r.apiVersion}/${r.kind}, name: ${r.name}, uid: ${r.uid}] does not exist in namespace "${namespace ?? ''}"`)
      // A cluster-scoped object cannot have an owner in a namespace; it is left alone.
      if (namespace === undefined) return 'unknown'
    }
    try {
      const live = await this.#context.client.get(kind, kind.namespaced ? { namespace, name: r.name } : { name: r.name })
      return live.metadata.uid === r.uid ? live : undefined
    } catch (e) {
      if (isReason(e, 'NotFound')) return undefined
      throw e
    }
  }
}

async function removeFinalizer(client: Client, { kind, object }: Item, finalizer: string): Promise<void> {
  const { uid, resourceVersion, finalizers = [] } = object.metadata
  await ignoreGone(client.patch(kind, object.metadata, 'merge', {
    metadata: { uid, resourceVersion, finalizers: finalizers.filter((f) => f !== finalizer) },
  }))
}

async function ignoreGone(work: Promise<unknown>): Promise<void> {
  await work.catch((e: unknown) => { if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) throw e })
}

function isForeground(o: ApiObject): boolean {
  return o.metadata.deletionTimestamp !== undefined && o.metadata.finalizers?.includes(FOREGROUND) === true
}

function isWaiting(o: ApiObject | undefined): boolean { return o !== undefined && isForeground(o) }

function blocks(o: ApiObject | undefined, ownerUid: string): boolean {
  return o?.metadata.ownerReferences?.some((r) => r.uid === ownerUid && r.blockOwnerDeletion === true) === true
}

function idOf(k: Kind): string { return `${k.apiVersion}/${k.kind}` }
