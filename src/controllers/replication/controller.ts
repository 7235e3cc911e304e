/** Keeps the wanted number of Pods: one implementation for ReplicaSets and ReplicationControllers. */
import { keyOf } from '../../core/client.ts'
import { clone, equal } from '../../core/clone.ts'
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import { pods, replicaSets } from '../../core/kinds.ts'
import { formatTime } from '../../core/time.ts'
import type { Condition, Pod, ReplicaStatus } from '../../core/types/index.ts'
import { claim } from '../claim.ts'
import { controllerOf, controllerReference, eachLimited, errorLog, type Context, type Running } from '../context.ts'
import { isActive, isFinished, isReady, untilAvailableMs } from '../pod-state.ts'
import type { Replicated, ReplicationAdapter } from './adapters.ts'
import { Expectations } from './expectations.ts'
import { byLossOrder } from './ranking.ts'

/** Most Pods created or deleted in one go. */
const BURST = 500
const WORKERS = 8

export class ReplicationLoop<T extends Replicated> implements Running {
  readonly #context: Context
  readonly #adapter: ReplicationAdapter<T>
  readonly #events: EventRecorder
  readonly #expectations: Expectations
  readonly #controller: Controller

  constructor(context: Context, adapter: ReplicationAdapter<T>) {
    this.#context = context
    this.#adapter = adapter
    this.#events = context.recorder(adapter.component)
    this.#expectations = new Expectations(() => context.clock.now())
    this.#controller = new Controller({
      name: adapter.component,
      sources: [
        watch(context.informers.of(adapter.kind), (object, _, type) => {
          if (type === 'DELETED') this.#expectations.forget(object.metadata.uid!)
          return [keyOf(object)]
        }),
        watch(context.informers.of(pods), (pod, old, type) => this.#ownersOf(pod, old, type === 'DELETED')),
      ],
      reconcile: (key) => this.#reconcile(key),
      workers: WORKERS,
      maxDelayMs: 10_000,
      onError: errorLog(context.logger, adapter.component),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  /** Takes note of expected news, and names the objects a Pod's change matters to. */
  #ownersOf(pod: Pod, old: Pod | undefined, deleted: boolean): string[] {
    const keys: string[] = []
    for (const p of old === undefined ? [pod] : [pod, old]) {
      const ref = controllerOf(p)
      if (ref === undefined || ref.kind !== this.#adapter.kind.kind || ref.apiVersion !== this.#adapter.kind.apiVersion) continue
      const key = keyOf({ metadata: { namespace: p.metadata.namespace!, name: ref.name } })
      if (!keys.includes(key)) keys.push(key)
      if (p !== pod) continue
      if (old === undefined && !deleted) this.#expectations.created(ref.uid)
      if (deleted || pod.metadata.deletionTimestamp !== undefined) this.#expectations.deleted(ref.uid, pod.metadata.uid!)
    }
    if (keys.length === 0 && !deleted && controllerOf(pod) === undefined) {
      for (const o of this.#context.informers.of(this.#adapter.kind).byIndex('namespace', pod.metadata.namespace ?? '')) {
        if (this.#adapter.selector(o)(pod.metadata.labels)) keys.push(keyOf(o))
      }
    }
    return keys
  }

  async #reconcile(key: string): Promise<void> {
    const object = this.#context.informers.of(this.#adapter.kind).get(key)
    if (object === undefined) return
    const uid = object.metadata.uid!
    const waitMs = this.#expectations.pendingMs(uid)
    const owned = await claim(this.#context, {
      ownerKind: this.#adapter.kind, owner: object, childKind: pods, matches: this.#adapter.selector(object), adoptable: (p) => !isFinished(p),
    })
    const active = owned.filter(isActive)
    let failure: Condition | undefined
    if (waitMs > 0) this.#controller.enqueueAfter(key, waitMs)
    else if (object.metadata.deletionTimestamp === undefined) failure = await this.#manage(object, active)
    else this.#expectations.forget(uid)
    await this.#writeStatus(key, object, active, waitMs > 0 ? undefined : { failure })
    if (failure !== undefined) throw new Error(`${key}: ${failure.message}`)
  }

  /** Creates or deletes Pods. Returns the condition that tells of a failure. */
  async #manage(object: T, active: Pod[]): Promise<Condition | undefined> {
    const missing = (object.spec.replicas ?? 1) - active.length
    try {
      if (missing > 0) await this.#create(object, Math.min(missing, BURST))
      if (missing < 0) await this.#delete(object, active, Math.min(-missing, BURST))
      return undefined
    } catch (e) {
      const reason = missing > 0 ? 'FailedCreate' : 'FailedDelete'
      const message = e instanceof Error ? e.message : String(e)
      // In a namespace that is going no Pod can be made, and nobody needs to be told.
      if (isReason(e, 'Forbidden') && message.includes('being terminated')) return undefined
      this.#events.record(object, 'Warning', reason, `Error ${missing > 0 ? 'creating' : 'deleting'}: ${message}`)
      return { type: 'ReplicaFailure', status: 'True', reason, message }
    }
  }

  /** In batches of 1, 2, 4, …: a Pod that cannot be created is tried once, not five hundred times. */
  async #create(object: T, n: number): Promise<void> {
    const uid = object.metadata.uid!
    this.#expectations.expectCreates(uid, n)
    let left = n
    try {
      for (let batch = 1; left > 0; batch *= 2) {
        const size = Math.min(batch, left)
        left -= size
        await eachLimited(Array.from({ length: size }), size, async () => {
          try {
            const pod = await this.#context.client.create(pods, this.#podOf(object))
            this.#events.record(object, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`)
          } catch (e) {
            this.#expectations.created(uid)
            throw e
          }
        })
      }
    } finally {
      for (; left > 0; left--) this.#expectations.created(uid)
    }
  }

  async #delete(object: T, active: Pod[], n: number): Promise<void> {
    const uid = object.metadata.uid!
    const colocated = this.#colocation(object)
    active.sort(byLossOrder((p) => colocated.get(p.spec.nodeName ?? '') ?? 0, this.#context.clock.now()))
    await eachLimited(active.slice(0, n), n, async (pod) => {
      this.#expectations.expectDelete(uid, pod.metadata.uid!)
      try {
        await this.#context.client.delete(pods, pod.metadata, { preconditions: { uid: pod.metadata.uid! } })
        this.#events.record(object, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`)
      } catch (e) {
        this.#expectations.deleted(uid, pod.metadata.uid!)
        if (!isReason(e, 'NotFound')) throw e
      }
    })
  }

  /** Node → active Pods of the same application there: this object's and its siblings' (the Deployment's other ReplicaSets). */
  #colocation(object: T): Map<string, number> {
    const parent = controllerOf(object)?.uid
    const siblings = parent === undefined ? [object] : this.#context.informers.of(replicaSets).byIndex('controller', parent)
    const out = new Map<string, number>()
    for (const s of siblings) {
      for (const p of this.#context.informers.of(pods).byIndex('controller', s.metadata.uid!)) {
        const node = p.spec.nodeName
        if (node !== undefined && isActive(p)) out.set(node, (out.get(node) ?? 0) + 1)
      }
    }
    return out
  }

  #podOf(object: T): Pod {
    const template = object.spec.template!
    return {
      apiVersion: 'v1', kind: 'Pod',
      metadata: {
        name: '', generateName: `${object.metadata.name}-`, namespace: object.metadata.namespace!,
        ...(template.metadata?.labels && { labels: { ...template.metadata.labels } }),
        ...(template.metadata?.annotations && { annotations: { ...template.metadata.annotations } }),
        ownerReferences: [controllerReference(this.#adapter.kind, object)],
      },
      spec: clone(template.spec),
    }
  }

  /** `outcome` is undefined when nothing was tried: what was said of failure then still holds. */
  async #writeStatus(key: string, object: T, active: Pod[], outcome: { failure: Condition | undefined } | undefined): Promise<void> {
    const now = this.#context.clock.now()
    const minReadySeconds = object.spec.minReadySeconds ?? 0
    const labels = Object.entries(object.spec.template?.metadata?.labels ?? {})
    let available = 0
    let soonestMs = Infinity
    for (const p of active) {
      const ms = untilAvailableMs(p, minReadySeconds, now)
      if (ms === 0) available++
      else if (ms !== undefined) soonestMs = Math.min(soonestMs, ms)
    }
    if (soonestMs !== Infinity) this.#controller.enqueueAfter(key, soonestMs)
    const conditions = conditionsWith(object.status?.conditions, outcome, formatTime(now))
    const status: ReplicaStatus = {
      replicas: active.length,
      fullyLabeledReplicas: active.filter((p) => labels.every(([k, v]) => p.metadata.labels?.[k] === v)).length,
      readyReplicas: active.filter(isReady).length,
      availableReplicas: available,
      observedGeneration: object.metadata.generation ?? 0,
      ...(conditions.length > 0 && { conditions }),
    }
    if (!equal(status, object.status)) await this.#context.client.updateStatus(this.#adapter.kind, { ...object, status })
  }
}

function conditionsWith(old: Condition[] = [], outcome: { failure: Condition | undefined } | undefined, now: string): Condition[] {
  if (outcome === undefined) return old
  const before = old.find((c) => c.type === 'ReplicaFailure')
  const rest = old.filter((c) => c.type !== 'ReplicaFailure')
  if (outcome.failure === undefined) return rest
  const same = before?.reason === outcome.failure.reason
  return [...rest, { ...outcome.failure, lastTransitionTime: same ? before!.lastTransitionTime ?? now : now }]
}
