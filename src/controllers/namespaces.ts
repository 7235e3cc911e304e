/** Namespaces that are going: empties them, and lets them go when nothing is left. */
import { equal } from '../core/clone.ts'
import { Controller, watch, type Source } from '../core/controller.ts'
import { isReason } from '../core/errors.ts'
import { events, namespaces, type Kind } from '../core/kinds.ts'
import { formatTime } from '../core/time.ts'
import type { ApiObject, Condition, Namespace } from '../core/types/index.ts'
import { eachLimited, errorLog, type Context, type Running } from './context.ts'

const FINALIZER = 'kubernetes'
const DELETES_AT_A_TIME = 32

export class NamespaceLoop implements Running {
  readonly #context: Context
  readonly #kinds: readonly Kind[]
  readonly #controller: Controller

  /** `kinds`: all that are served; those without a namespace are left out. */
  constructor(context: Context, kinds: readonly Kind[]) {
    this.#context = context
    // Events last: what happens while the rest is deleted writes more of them.
    this.#kinds = kinds.filter((k) => k.namespaced).sort((a, b) => Number(a === events) - Number(b === events))
    this.#controller = new Controller({
      name: 'namespaces',
      sources: [watch(context.informers.of(namespaces)), ...this.#kinds.map((k) => this.#leaving(k))],
      reconcile: (key) => this.#reconcile(key),
      workers: 4,
      maxDelayMs: 5_000,
      onError: errorLog(context.logger, 'namespaces'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  /** Objects that leave (or still come) tell the namespace they are in, if that is going. */
  #leaving(kind: Kind): Source {
    return watch(this.#context.informers.of(kind), (o, _, type) => {
      if (type === 'MODIFIED') return []
      const namespace = this.#context.informers.of(namespaces).get(o.metadata.namespace!)
      return namespace?.metadata.deletionTimestamp === undefined ? [] : [o.metadata.namespace!]
    })
  }

  async #reconcile(key: string): Promise<void> {
    const namespace = this.#context.informers.of(namespaces).get(key)
    if (namespace?.metadata.deletionTimestamp === undefined) return
    if (namespace.spec?.finalizers?.includes(FINALIZER) !== true) return
    const left: { kind: Kind; objects: ApiObject[] }[] = []
    for (const kind of this.#kinds) {
      const objects = [...this.#context.informers.of(kind).byIndex('namespace', key)]
      // What is not on its way out yet is sent; what stays has finalizers, or is a Pod within its grace.
      await eachLimited(objects.filter((o) => o.metadata.deletionTimestamp === undefined), DELETES_AT_A_TIME, (o) => this.#delete(kind, o))
      if (objects.length > 0) left.push({ kind, objects })
    }
    if (left.length > 0) return this.#report(namespace, left)
    // The caches may lag behind a write that was accepted just before the namespace began to go.
    for (const kind of this.#kinds) {
      const { items } = await this.#context.client.list(kind, { namespace: key })
      await eachLimited(items, DELETES_AT_A_TIME, (o) => this.#delete(kind, o))
      if (items.length > 0) return this.#controller.enqueueAfter(key, 100)
    }
    const finalizers = namespace.spec.finalizers.filter((f) => f !== FINALIZER)
    await this.#context.client.update(namespaces, { ...namespace, spec: { ...namespace.spec, finalizers } }, { subresource: 'finalize' })
  }

  async #delete(kind: Kind, o: ApiObject): Promise<void> {
    const options = { propagationPolicy: 'Background' as const, preconditions: { uid: o.metadata.uid! } }
    try {
      await this.#context.client.delete(kind, o.metadata, options)
    } catch (e) {
      if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) throw e
    }
  }

  async #report(namespace: Namespace, left: { kind: Kind; objects: ApiObject[] }[]): Promise<void> {
    const counts = left.map(({ kind, objects }) => `${kind.plural}.${kind.group} has ${objects.length} resource instances`.replace('. has', ' has'))
    const finalizers = new Map<string, number>()
    for (const { objects } of left) {
      for (const o of objects) for (const f of o.metadata.finalizers ?? []) finalizers.set(f, (finalizers.get(f) ?? 0) + 1)
    }
    const now = formatTime(this.#context.clock.now())
    const conditions: Condition[] = [
      { type: 'NamespaceContentRemaining', status: 'True', reason: 'SomeResourcesRemain', message: `Some resources are remaining: ${counts.join(', ')}` },
      finalizers.size > 0
        ? {
            type: 'NamespaceFinalizersRemaining', status: 'True', reason: 'SomeFinalizersRemain',
            message: `Some content in the namespace has finalizers remaining: ${[...finalizers].map(([f, n]) => `${f} in ${n} resource instances`).join(', ')}`,
          }
        : { type: 'NamespaceFinalizersRemaining', status: 'False', reason: 'ContentHasNoFinalizers', message: 'All content-preserving finalizers finished' },
    ]
    const old = namespace.status?.conditions ?? []
    const next = conditions.map((c) => {
      const before = old.find((o) => o.type === c.type)
      return { ...c, lastTransitionTime: before?.status === c.status ? before.lastTransitionTime ?? now : now }
    })
    if (equal(old, next)) return
    await this.#context.client.updateStatus(namespaces, { ...namespace, status: { ...namespace.status, phase: 'Terminating', conditions: next } })
  }
}
