/**
 * Pods leave nodes they may not stay on: NoExecute taints with Kubernetes' tolerations, and dead nodes.
 *
 * Kubernetes gives every Pod a toleration of 300 s for `unreachable`, so that a dead node's Pods are replaced after more than
 * five minutes. Gantry replaces them at once when three things hold: the node is dead (heartbeat and tunnel both gone), a
 * controller that makes replacements owns the Pod, and the toleration is exactly the one the server adds by itself. Whoever
 * wants a Pod to wait writes a toleration of his own, of any other length. Kinds whose Pods must never run twice wait too.
 */
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import { nodes, pods } from '../../core/kinds.ts'
import type { Pod, Taint, Toleration } from '../../core/types/index.ts'
import { controllerOf, eachLimited, errorLog, type Context, type Running } from '../context.ts'
import { isFinished } from '../pod-state.ts'
import type { Heartbeats } from './heartbeats.ts'
import { readyOf, UNREACHABLE } from './lifecycle.ts'

/** What admission adds to Pods that say nothing (DefaultTolerationSeconds). */
const DEFAULT_TOLERATION_S = 300
const NEVER_TWICE = new Set(['StatefulSet', 'DaemonSet'])
const WRITES_AT_A_TIME = 64

export class Eviction implements Running {
  readonly #context: Context
  readonly #events: EventRecorder
  readonly #controller: Controller
  readonly #heartbeats: () => Heartbeats

  constructor(context: Context, heartbeats: () => Heartbeats) {
    this.#context = context
    this.#heartbeats = heartbeats
    this.#events = context.recorder('taint-eviction-controller')
    const { informers } = context
    this.#controller = new Controller({
      name: 'eviction',
      sources: [
        watch(informers.of(nodes)),
        watch(informers.of(pods), (pod, old, type) => {
          const name = pod.spec.nodeName
          const isNew = type !== 'DELETED' && name !== undefined && (old?.spec.nodeName === undefined || old.spec.tolerations !== pod.spec.tolerations)
          return isNew ? [name] : []
        }),
      ],
      reconcile: (key) => this.#reconcile(key),
      workers: 4,
      maxDelayMs: 1_000,
      onError: errorLog(context.logger, 'eviction'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }
  enqueue(node: string): void { this.#controller.enqueue(node) }

  async #reconcile(name: string): Promise<void> {
    const node = this.#context.informers.of(nodes).get(name)
    if (node === undefined) return
    const heartbeats = this.#heartbeats()
    const dead = readyOf(node)?.status === 'Unknown' && heartbeats.isDead(name) && !heartbeats.allSilent()
    const taints = (node.spec.taints ?? []).filter((t) => t.effect === 'NoExecute')
    if (!dead && taints.length === 0) return
    const now = this.#context.clock.now()
    const due: { pod: Pod; force: boolean }[] = []
    let nextMs = Infinity
    for (const pod of this.#context.informers.of(pods).byIndex('node', name)) {
      if (isFinished(pod)) continue
      const force = dead && isReplacedAtOnce(pod)
      if (pod.metadata.deletionTimestamp !== undefined && !force) continue
      const atMs = force ? now : evictionMs(pod, taints, now)
      if (atMs <= now) due.push({ pod, force })
      else nextMs = Math.min(nextMs, atMs)
    }
    if (nextMs !== Infinity) this.#controller.enqueueAfter(name, nextMs - now)
    await eachLimited(due, WRITES_AT_A_TIME, ({ pod, force }) => this.#evict(pod, force, dead))
  }

  async #evict(pod: Pod, force: boolean, dead: boolean): Promise<void> {
    const { namespace, name, uid } = pod.metadata
    const { client } = this.#context
    try {
      if (dead && !force) {
        await client.patch(pods, pod.metadata, 'merge', {
          metadata: { uid },
          status: { reason: 'NodeLost', message: `Node ${pod.spec.nodeName} which was running pod ${name} is unresponsive` },
        }, { subresource: 'status' })
      }
      // The agent of a dead node cannot say that the Pod has ended; it removes what is left when it is back.
      await client.delete(pods, { namespace, name }, { preconditions: { uid: uid! }, ...(force && { gracePeriodSeconds: 0 }) })
      this.#events.record(pod, 'Normal', force ? 'NodeLost' : 'TaintManagerEviction', force
        ? `Node ${pod.spec.nodeName} is lost: pod ${namespace}/${name} is replaced`
        : `Marking for deletion Pod ${namespace}/${name}`)
    } catch (e) {
      if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) throw e
    }
  }
}

/** When the Pod has to leave, in ms since the epoch: `nowMs` if a taint is not tolerated at all, Infinity if all are for ever. */
export function evictionMs(pod: Pod, taints: readonly Taint[], nowMs: number): number {
  let atMs = Infinity
  for (const taint of taints) {
    const matching = (pod.spec.tolerations ?? []).filter((t) => toleratesExecution(t, taint))
    if (matching.length === 0) return nowMs
    for (const { tolerationSeconds } of matching) {
      if (tolerationSeconds !== undefined) atMs = Math.min(atMs, (Date.parse(taint.timeAdded ?? '') || nowMs) + Math.max(0, tolerationSeconds) * 1000)
    }
  }
  return atMs
}

function toleratesExecution(t: Toleration, taint: Taint): boolean {
  if (t.effect !== undefined && t.effect !== taint.effect) return false
  const anyKey = t.key === undefined || t.key === ''
  if (!anyKey && t.key !== taint.key) return false
  return t.operator === 'Exists' || !anyKey && (t.value ?? '') === (taint.value ?? '')
}

export function isReplacedAtOnce(pod: Pod): boolean {
  const owner = controllerOf(pod)
  if (owner === undefined || NEVER_TWICE.has(owner.kind)) return false
  const own = (pod.spec.tolerations ?? []).filter((t) => toleratesExecution(t, { key: UNREACHABLE, effect: 'NoExecute' }))
  return own.every((t) => t.key === UNREACHABLE && t.operator === 'Exists' && t.tolerationSeconds === DEFAULT_TOLERATION_S)
}
