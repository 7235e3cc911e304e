/**
 * Durable revisions of objects. The store knows keys, revisions and bytes, nothing of kinds; the watch cache above it
 * serves every read. Implementations: `sqlite.ts`, `etcd.ts`; `conformance.ts` is the test both pass.
 */

/** One durable state of one key. */
export interface Entry {
  /** `GROUP/PLURAL/NAMESPACE/NAME`, or `GROUP/PLURAL//NAME` for cluster-scoped kinds; core group: `core`. */
  key: string
  /** Revision of this state: one counter for the whole store, strictly increasing, never reused. */
  revision: number
  /** The object's JSON, without `metadata.resourceVersion` (it is `revision`). */
  value: Uint8Array
}

/** A change in revision order. `value` of a DELETE is the last state before it. */
export interface Change extends Entry {
  type: 'PUT' | 'DELETE'
  /** Revision of the state that was replaced; 0 for a creation. */
  previousRevision: number
}

/** What a write expects to find. */
export type Precondition = { exists: false } | { revision: number } | undefined

export class PreconditionFailed extends Error {
  /** The key's revision now; 0 if there is none. */
  readonly currentRevision: number
  constructor(key: string, currentRevision: number) {
    super(`precondition failed for ${key}: it is at revision ${currentRevision}`)
    this.currentRevision = currentRevision
  }
}

/** Everything as of one revision. */
export interface Snapshot {
  revision: number
  /** In key order. */
  entries: AsyncIterable<Entry>
}

export interface Store {
  /** Every live entry as of one revision; {@link subscribe} from that revision misses nothing. */
  load(): Promise<Snapshot>
  /** The newest durable revision this store has seen. */
  revision(): number
  /**
   * Writes, resolving with the new revision once it is durable (fsync, or an etcd commit). Writes are committed in groups;
   * two writes to one key never share a revision. `PreconditionFailed` if `expect` does not hold; for {revision} of a
   * missing key too. Errors of the disk (full, read-only) reject every write of the group and leave the store usable.
   * `value` is kept, not copied: do not change it afterwards. Own changes reach the subscriber with this very `value`,
   * where the store can (SQLite).
   */
  put(key: string, value: Uint8Array, expect: Precondition): Promise<number>
  /** Like {@link put}; a delete has a revision of its own. Deleting a missing key without `expect` is `PreconditionFailed` too. */
  delete(key: string, expect: Precondition): Promise<number>
  /**
   * Every change after `revision`, in order, each exactly once; called after it is durable and, for own writes, before the
   * write's promise resolves. With another writer (etcd) its changes come too. Only one subscriber is needed: the cache.
   * `onBroken` is called when the stream cannot go on (compacted): the cache then loads again.
   */
  subscribe(revision: number, onChanges: (changes: Change[]) => void, onBroken: (e: Error) => void): () => void
  /** Forgets history up to `revision`; live entries stay. */
  compact(revision: number): Promise<void>
  /**
   * Mutual exclusion among servers: resolves with true if `holder` holds `name` until `ttlMs` from now (taken, renewed, or
   * free). SQLite always says true: there is one server.
   */
  lease(name: string, holder: string, ttlMs: number): Promise<boolean>
  /** Why the last write, or what comes of others' writes, failed (a full disk, no etcd); undefined while all is well. */
  failing(): string | undefined
  close(): Promise<void>
}
