/** What every controller is given: one client, one clock, and informers that all of them share. */
import type { Client, Informer } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import type { EventRecorder } from '../core/event-recorder.ts'
import { pods, type Kind } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import type { ApiObject, OwnerReference, Pod } from '../core/types/index.ts'
import type { Clock } from '../core/workqueue.ts'

export interface Context {
  client: Client
  clock: Clock
  logger: Logger
  informers: SharedInformers
  /** Records events as this component, e.g. `replicaset-controller`. */
  recorder(component: string): EventRecorder
}

/** A part that runs until it is stopped. */
export interface Running { start(): Promise<void>; stop(): Promise<void> }

/**
 * One informer a kind. Indexes of all: `namespace`; `controller` (uid of the controlling owner); `orphans` (namespace of
 * objects without a controlling owner). Pods also: `node`.
 */
export class SharedInformers {
  readonly #client: Client
  readonly #informers = new Map<string, Informer<ApiObject>>()

  constructor(client: Client) { this.#client = client }

  of<T extends ApiObject>(kind: Kind<T>): Informer<T> {
    const id = `${kind.apiVersion}/${kind.kind}`
    let informer = this.#informers.get(id)
    if (informer === undefined) {
      informer = this.#client.informer(kind as Kind, {
        indexes: {
          namespace: (o) => [o.metadata.namespace ?? ''],
          controller: (o) => [controllerOf(o)?.uid ?? ''],
          orphans: (o) => controllerOf(o) === undefined ? [o.metadata.namespace ?? ''] : [],
          ...(kind.kind === pods.kind && kind.group === '' && { node: (o: ApiObject) => [(o as Pod).spec.nodeName ?? ''] }),
        },
      })
      this.#informers.set(id, informer)
    }
    return informer as unknown as Informer<T>
  }

  stop(): void { for (const i of this.#informers.values()) i.stop() }
}

/** The owner reference with `controller: true`. */
export function controllerOf(o: ApiObject): OwnerReference | undefined {
  return o.metadata.ownerReferences?.find((r) => r.controller === true)
}

export function controllerReference(kind: Kind, owner: ApiObject): OwnerReference {
  const { name, uid } = owner.metadata
  return { apiVersion: kind.apiVersion, kind: kind.kind, name, uid: uid!, controller: true, blockOwnerDeletion: true }
}

/**
 * How a controller tells of failed attempts. A conflict, or an object that went meanwhile, is the ordinary course of things:
 * the next attempt works on newer state.
 */
export function errorLog(logger: Logger, controller: string): (error: unknown, key: string) => void {
  return (error, key) => {
    if (isReason(error, 'Conflict') || isReason(error, 'NotFound')) return
    logger.warn(`${controller}: will try again`, { key, error: error instanceof Error ? error.message : String(error) })
  }
}

/** `work` on each item, at most `limit` at a time; the first error is thrown after all have ended. */
export async function eachLimited<T>(items: Iterable<T>, limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items[Symbol.iterator]()
  const errors: unknown[] = []
  const worker = async (): Promise<void> => {
    for (let next = waiting.next(); next.done !== true; next = waiting.next()) await work(next.value).catch((e: unknown) => { errors.push(e) })
  }
  await Promise.all(Array.from({ length: limit }, worker))
  if (errors.length > 0) throw errors[0]
}
