/**
 * The in-process Client: reads and informers see the cache's own frozen objects at once; writes go through the registry as
 * the server itself, with every right.
 */
import type {
  Client, DeleteOptions, Informer, InformerOptions, Key, ListOptions, PatchType, WriteOptions,
} from '../core/client.ts'
import { clone } from '../core/clone.ts'
import { InformerCache } from '../core/informer-cache.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, ObjectList } from '../core/types/index.ts'
import type { Cache, CacheEvent } from './cache.ts'
import { Lister, matcherOf } from './listing.ts'
import type { Registry, WriteContext } from './registry.ts'

function contextOf(o: WriteOptions): WriteContext {
  return {
    ...(o.fieldManager !== undefined && { manager: o.fieldManager }), ...(o.dryRun === true && { dryRun: true }),
    ...(o.subresource !== undefined && { subresource: o.subresource }), ...(o.force === true && { force: true }),
  }
}

export class LocalClient implements Client {
  readonly #cache: Cache
  readonly #registry: Registry
  readonly #lister: Lister

  constructor(registry: Registry, lister = new Lister(registry.cache)) {
    this.#cache = registry.cache
    this.#registry = registry
    this.#lister = lister
  }

  async get<T extends ApiObject>(kind: Kind<T>, key: Key): Promise<T> { return this.#registry.get(kind, key).object as T }

  async list<T extends ApiObject>(kind: Kind<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const page = this.#lister.list(kind, options)
    return {
      apiVersion: kind.apiVersion, kind: `${kind.kind}List`,
      metadata: {
        resourceVersion: String(page.revision), ...(page.continue !== undefined && { continue: page.continue }),
        ...(page.remaining !== undefined && { remainingItemCount: page.remaining }),
      },
      items: page.items.map(c => c.object as T),
    }
  }

  async create<T extends ApiObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const copy = clone(object)
    delete copy.metadata.resourceVersion
    return (await this.#registry.create(kind, copy, contextOf(options))).object as T
  }

  async update<T extends ApiObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): Promise<T> {
    return (await this.#registry.update(kind, clone(object), contextOf(options))).cached.object as T
  }

  updateStatus<T extends ApiObject>(kind: Kind<T>, object: T): Promise<T> { return this.update(kind, object, { subresource: 'status' }) }

  async patch<T extends ApiObject>(kind: Kind<T>, key: Key, type: PatchType, body: unknown, options: WriteOptions = {}): Promise<T> {
    return (await this.#registry.patch(kind, key, type, body, contextOf(options))).cached.object as T
  }

  async delete<T extends ApiObject>(kind: Kind<T>, key: Key, options: DeleteOptions = {}): Promise<void> {
    await this.#registry.delete(kind, key, options)
  }

  async bind(pod: { namespace: string; name: string; uid?: string }, nodeName: string): Promise<void> {
    await this.#registry.bind(pod, nodeName)
  }

  /** Synced before it returns; handlers are called within the turn in which a change became durable. */
  informer<T extends ApiObject>(kind: Kind<T>, options: InformerOptions<T> = {}): Informer<T> {
    const informer = new LocalInformer<T>(options.indexes)
    const kindCache = this.#cache.of(kind)
    const matches = matcherOf(kind, options) ?? (() => true)
    const { namespace } = options
    const chosen = (o: ApiObject): boolean => (namespace === undefined || o.metadata.namespace === namespace) && matches(o)
    for (const c of kindCache.list(namespace)) if (chosen(c.object)) informer.apply('ADDED', c.object as T)
    const stop = kindCache.watch(this.#cache.revision(), (events: readonly CacheEvent[]) => {
      for (const e of events) {
        const object = e.current.object as T
        if (e.type === 'DELETED') {
          informer.apply('DELETED', object, e.key)
        } else if (chosen(object)) {
          informer.apply(e.type, object, e.key)
        } else informer.apply('DELETED', object, e.key)
      }
    })
    informer.onStop(stop)
    return informer
  }
}

class LocalInformer<T extends ApiObject> extends InformerCache<T> implements Informer<T> {
  readonly synced = Promise.resolve()
  #stop = (): void => {}

  onStop(stop: () => void): void { this.#stop = stop }
  stop(): void { this.#stop() }
}
