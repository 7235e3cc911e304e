/**
 * The ConfigMaps and Secrets that this node's Pods name: each is watched by itself while a Pod needs it. The last known
 * state is kept in a file below the run directory (memory on most machines, gone at reboot), so that containers can be
 * restarted by a restarted agent while the server is away.
 */
import { join } from 'node:path'
import type { Client, Informer } from '../core/client.ts'
import { configMaps, secrets } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import type { ConfigMap, Secret } from '../core/types/index.ts'
import { JsonFile, readJson } from './atomic-file.ts'

export type RefKind = 'configMap' | 'secret'
export interface Ref { kind: RefKind; namespace: string; name: string }
type Shape<K extends RefKind> = K extends 'secret' ? Secret : ConfigMap

/** How long a caller waits for the server before the last known state must do. */
const SYNC_PATIENCE_MS = 1500

interface Entry { informer: Informer<ConfigMap | Secret>; users: Set<string>; synced: boolean }

export class Refs {
  readonly #client: Client
  readonly #entries = new Map<string, Entry>()
  readonly #file: JsonFile<Record<string, ConfigMap | Secret>>
  readonly #saved: Record<string, ConfigMap | Secret>
  readonly #onChange: (users: string[]) => void

  /** `onChange` gets the uids of the Pods that use an object which changed after it was first read. */
  constructor(client: Client, runDir: string, onChange: (users: string[]) => void) {
    this.#client = client
    this.#onChange = onChange
    const path = join(runDir, 'refs.json')
    this.#saved = readJson(path) ?? {}
    this.#file = new JsonFile(path, 500)
  }

  /** Watches the object for `user` (a Pod's uid) until {@link release}. */
  retain(ref: Ref, user: string): void {
    const key = keyText(ref)
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      const kind = (ref.kind === 'secret' ? secrets : configMaps) as Kind<ConfigMap | Secret>
      const informer = this.#client.informer(kind, { namespace: ref.namespace, fieldSelector: `metadata.name=${ref.name}` })
      const made: Entry = { informer, users: new Set(), synced: false }
      entry = made
      this.#entries.set(key, made)
      informer.on(() => {
        if (!made.synced) return
        this.#save()
        this.#onChange([...made.users])
      })
      void informer.synced.then(() => {
        made.synced = true
        this.#save()
      })
    }
    entry.users.add(user)
  }

  release(user: string): void {
    for (const [key, entry] of this.#entries) {
      if (!entry.users.delete(user) || entry.users.size > 0) continue
      entry.informer.stop()
      this.#entries.delete(key)
      delete this.#saved[key]
      this.#save()
    }
  }

  /** The retained object; undefined if it does not exist. Rejects if neither the server nor the last known state can tell. */
  async get<K extends RefKind>(kind: K, namespace: string, name: string): Promise<Shape<K> | undefined> {
    const key = keyText({ kind, namespace, name })
    const entry = this.#entries.get(key)
    if (entry === undefined) throw new Error(`${key} is read before it is retained`)
    if (!entry.synced) {
      let timer: NodeJS.Timeout | undefined
      await Promise.race([entry.informer.synced, new Promise<void>(r => { timer = setTimeout(r, SYNC_PATIENCE_MS) })])
      clearTimeout(timer)
    }
    const found = entry.informer.get(`${namespace}/${name}`)
    if (found !== undefined || entry.synced) return found as Shape<K> | undefined
    const saved = this.#saved[key]
    if (saved === undefined) throw new Error(`${kind} ${namespace}/${name} cannot be read: the API server is out of reach`)
    return saved as Shape<K>
  }

  close(): Promise<void> {
    for (const e of this.#entries.values()) e.informer.stop()
    return this.#file.flush()
  }

  #save(): void {
    this.#file.save(() => {
      for (const [key, e] of this.#entries) {
        if (!e.synced) continue
        const [object] = e.informer.list()
        if (object === undefined) delete this.#saved[key]
        else this.#saved[key] = object
      }
      return this.#saved
    })
  }
}

function keyText(r: Ref): string { return `${r.kind}/${r.namespace}/${r.name}` }
