/**
 * How controllers, the agent, the router, dialects and the CLI read and write objects. Two implementations pass the same
 * test: the server's in-process one (`server/local-client.ts`) and the HTTPS one (`client/`).
 */
import type { Kind } from './kinds.ts'
import type { ApiObject, ObjectList } from './types/index.ts'

/** Where an object is. `namespace` is left out for cluster-scoped kinds. */
export interface Key { namespace?: string | undefined; name: string }

export interface ListOptions {
  /** All namespaces when left out. */
  namespace?: string | undefined
  /** Kubernetes' selector text, e.g. `app=web,tier!=db`. */
  labelSelector?: string | undefined
  fieldSelector?: string | undefined
  limit?: number | undefined
  continue?: string | undefined
}

export interface DeleteOptions {
  gracePeriodSeconds?: number
  propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'
  preconditions?: { uid?: string; resourceVersion?: string }
}

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply'

export interface WriteOptions {
  fieldManager?: string
  dryRun?: boolean
  /** Sub-resource written to, e.g. `status`, `scale`. */
  subresource?: string
  /** Only with `apply`: take fields from other managers. */
  force?: boolean
}

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED'

/**
 * Every method rejects with ApiError. Objects handed out are shared and must not be changed: copy first
 * (`structuredClone`), which is what keeps a read free of cost.
 */
export interface Client {
  get<T extends ApiObject>(kind: Kind<T>, key: Key): Promise<T>
  list<T extends ApiObject>(kind: Kind<T>, options?: ListOptions): Promise<ObjectList<T>>
  create<T extends ApiObject>(kind: Kind<T>, object: T, options?: WriteOptions): Promise<T>
  /** Replaces the object; `metadata.resourceVersion`, if set, must still be current (else `Conflict`). */
  update<T extends ApiObject>(kind: Kind<T>, object: T, options?: WriteOptions): Promise<T>
  /** `update` of the `status` sub-resource. */
  updateStatus<T extends ApiObject>(kind: Kind<T>, object: T): Promise<T>
  patch<T extends ApiObject>(kind: Kind<T>, key: Key, type: PatchType, body: unknown, options?: WriteOptions): Promise<T>
  delete<T extends ApiObject>(kind: Kind<T>, key: Key, options?: DeleteOptions): Promise<void>
  /** Binds a Pod to a node (`pods/binding`). Rejects with `Conflict` if it is bound already or its uid differs. */
  bind(pod: { namespace: string; name: string; uid?: string }, nodeName: string): Promise<void>
  /** A live, self-healing cache of the kind: it lists, watches, reconnects and relists by itself. */
  informer<T extends ApiObject>(kind: Kind<T>, options?: InformerOptions<T>): Informer<T>
}

export interface InformerOptions<T> {
  namespace?: string
  labelSelector?: string
  fieldSelector?: string
  /** Named indexes; each function gives the values under which an object is found. */
  indexes?: Record<string, (object: T) => string[]>
}

export interface InformerHandler<T> {
  /** `old` is undefined for ADDED. For DELETED `object` is the last known state. Called in order; must not throw. */
  (type: WatchEventType, object: T, old: T | undefined): void
}

export interface Informer<T extends ApiObject> {
  /** Resolves when the first list has been applied. */
  readonly synced: Promise<void>
  /** `namespace/name`, or `name` for cluster-scoped kinds; see {@link keyOf}. */
  get(key: string): T | undefined
  list(): Iterable<T>
  readonly size: number
  byIndex(index: string, value: string): Iterable<T>
  /** Existing objects are replayed to the handler as ADDED. Returns a function that removes it. */
  on(handler: InformerHandler<T>): () => void
  /**
   * Remote informers only: called with false when the server has been out of reach for a failed attempt, and with true when
   * the watch stands again. The cache keeps its last state meanwhile.
   */
  onConnection?(handler: (connected: boolean) => void): void
  stop(): void
}

/** The key informers and work queues use: `namespace/name` or `name`. */
export function keyOf(o: { metadata: { namespace?: string; name: string } }): string {
  return o.metadata.namespace === undefined ? o.metadata.name : `${o.metadata.namespace}/${o.metadata.name}`
}

/** The inverse of {@link keyOf}. */
export function parseKey(key: string): { namespace?: string; name: string } {
  const slash = key.indexOf('/')
  return slash === -1 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}
