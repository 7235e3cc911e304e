/** A Client over plain memory, for tests of what reads and writes objects: no validation, no defaults. */
import type { Client, Informer, InformerOptions, Key } from '../../core/client.ts'
import { keyOf } from '../../core/client.ts'
import { alreadyExists, notFound } from '../../core/errors.ts'
import { InformerCache } from '../../core/informer-cache.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ApiObject } from '../../core/types/index.ts'

export class MemoryClient {
  readonly #objects = new Map<string, Map<string, ApiObject>>()
  readonly #caches = new Map<string, Set<InformerCache<ApiObject>>>()
  #revision = 0

  /** Creates or replaces. */
  put<T extends ApiObject>(kind: Kind<T>, object: T): T {
    const stored = { ...object, metadata: { uid: `uid-${object.metadata.name}`, ...object.metadata, resourceVersion: String(++this.#revision) } }
    this.#of(kind).set(keyOf(stored), stored)
    for (const cache of this.#caches.get(kind.plural) ?? []) cache.apply('MODIFIED', stored)
    return stored
  }

  remove(kind: Kind, key: Key): void {
    const text = keyOf({ metadata: key as { name: string } })
    const old = this.#of(kind).get(text)
    this.#of(kind).delete(text)
    if (old) for (const cache of this.#caches.get(kind.plural) ?? []) cache.apply('DELETED', old)
  }

  asClient(): Client {
    const client: Pick<Client, 'get' | 'list' | 'create' | 'update' | 'informer'> = {
      get: async <T extends ApiObject>(kind: Kind<T>, key: Key) => {
        const found = this.#of(kind).get(keyOf({ metadata: key as { name: string } }))
        if (!found) throw notFound(kind, key.name)
        return found as T
      },
      list: async <T extends ApiObject>(kind: Kind<T>) => ({
        apiVersion: kind.apiVersion, kind: `${kind.kind}List`, metadata: { resourceVersion: String(this.#revision) },
        items: [...this.#of(kind).values()] as T[],
      }),
      create: async (kind, object) => {
        if (this.#of(kind).has(keyOf(object))) throw alreadyExists(kind, object.metadata.name)
        return this.put(kind, object)
      },
      update: async (kind, object) => this.put(kind, object),
      informer: <T extends ApiObject>(kind: Kind<T>, options: InformerOptions<T> = {}) => {
        const cache = new InformerCache<T>(options.indexes)
        cache.replace(this.#of(kind).values() as Iterable<T>)
        const caches = this.#caches.get(kind.plural) ?? new Set()
        this.#caches.set(kind.plural, caches.add(cache as unknown as InformerCache<ApiObject>))
        const stop = () => caches.delete(cache as unknown as InformerCache<ApiObject>)
        return Object.assign(cache, { synced: Promise.resolve(), stop }) as unknown as Informer<T>
      },
    }
    return client as Client
  }

  #of(kind: Kind): Map<string, ApiObject> {
    let objects = this.#objects.get(kind.plural)
    if (!objects) this.#objects.set(kind.plural, objects = new Map())
    return objects
  }
}
