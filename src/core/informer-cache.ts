/**
 * The in-memory half of an informer: objects by key, incremental indexes, and handlers called in order. The in-process
 * client feeds it from the server's watch cache, the HTTPS client from a list and a watch.
 */
import { keyOf } from './client.ts'
import type { InformerHandler, InformerOptions, WatchEventType } from './client.ts'
import type { ApiObject } from './types/index.ts'

interface Index<T> {
  values: (object: T) => string[]
  /** Value → keys, in order of arrival. Keys and not objects: a change that moves no object between values costs nothing here. */
  entries: Map<string, Set<string>>
}

export class InformerCache<T extends ApiObject> {
  readonly #objects = new Map<string, T>()
  readonly #indexes = new Map<string, Index<T>>()
  readonly #handlers = new Set<InformerHandler<T>>()

  constructor(indexes: InformerOptions<T>['indexes'] = {}) {
    for (const [name, values] of Object.entries(indexes)) this.#indexes.set(name, { values, entries: new Map() })
  }

  get(key: string): T | undefined { return this.#objects.get(key) }
  list(): Iterable<T> { return this.#objects.values() }
  get size(): number { return this.#objects.size }

  byIndex(index: string, value: string): Iterable<T> {
    const found = this.#indexes.get(index)
    if (!found) throw new Error(`informer has no index ${index}`)
    const keys = found.entries.get(value)
    return keys === undefined ? [] : this.#objectsOf(keys)
  }

  *#objectsOf(keys: Iterable<string>): Iterable<T> {
    for (const key of keys) yield this.#objects.get(key)!
  }

  /** Existing objects are replayed as ADDED before it returns. Returns a function that removes the handler. */
  on(handler: InformerHandler<T>): () => void {
    this.#handlers.add(handler)
    // A copy, so that a handler which writes back into the cache cannot extend the replay.
    for (const object of [...this.#objects.values()]) handler('ADDED', object, undefined)
    return () => { this.#handlers.delete(handler) }
  }

  /**
   * One change of a watch. The cache decides between ADDED and MODIFIED by what it holds, so a replayed event is harmless;
   * a MODIFIED with the revision it holds already and a DELETED of an unknown object are dropped. `key`: the object's, if known.
   */
  apply(type: WatchEventType, object: T, key = keyOf(object)): void {
    const old = this.#objects.get(key)
    if (type === 'DELETED') {
      if (!old) return
      this.#objects.delete(key)
      this.#unindex(key, old)
      this.#emit('DELETED', object, old)
      return
    }
    const revision = object.metadata.resourceVersion
    if (old && revision !== undefined && old.metadata.resourceVersion === revision) return
    this.#objects.set(key, object)
    if (old) this.#reindex(key, old, object)
    else this.#index(key, object)
    this.#emit(old ? 'MODIFIED' : 'ADDED', object, old)
  }

  /** The result of a list: what is not in it is gone. An object that was deleted and made again gives DELETED, then ADDED. */
  replace(objects: Iterable<T>): void {
    const fresh = new Map<string, T>()
    for (const object of objects) fresh.set(keyOf(object), object)
    for (const [key, old] of [...this.#objects]) {
      const now = fresh.get(key)
      if (!now || now.metadata.uid !== old.metadata.uid) this.apply('DELETED', old)
    }
    for (const object of fresh.values()) this.apply('MODIFIED', object)
  }

  #emit(type: WatchEventType, object: T, old: T | undefined): void {
    for (const handler of this.#handlers) handler(type, object, old)
  }

  #index(key: string, object: T): void {
    for (const index of this.#indexes.values()) {
      for (const value of index.values(object)) put(index, value, key)
    }
  }

  #unindex(key: string, object: T): void {
    for (const index of this.#indexes.values()) {
      for (const value of index.values(object)) take(index, value, key)
    }
  }

  #reindex(key: string, old: T, object: T): void {
    for (const index of this.#indexes.values()) {
      const before = index.values(old)
      const after = index.values(object)
      for (const value of before) if (!after.includes(value)) take(index, value, key)
      for (const value of after) if (!before.includes(value)) put(index, value, key)
    }
  }
}

function put<T>(index: Index<T>, value: string, key: string): void {
  let entry = index.entries.get(value)
  if (!entry) index.entries.set(value, entry = new Set())
  entry.add(key)
}

function take<T>(index: Index<T>, value: string, key: string): void {
  const entry = index.entries.get(value)
  if (entry?.delete(key) && entry.size === 0) index.entries.delete(value)
}
