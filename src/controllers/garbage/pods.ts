/** Pods nobody looks after any more: those of nodes that were removed, and finished ones beyond a number. */
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import { nodes, pods } from '../../core/kinds.ts'
import type { Pod } from '../../core/types/index.ts'
import { eachLimited, errorLog, type Context, type Running } from '../context.ts'
import { isFinished } from '../pod-state.ts'

/** A Node object that was deleted may come back: its agent registers anew. */
const NODE_GONE_MS = 10_000
/** Finished Pods that are kept; the oldest go first. */
const MAX_FINISHED = 12_500
const FINISHED = '*finished*'

export class PodCollector implements Running {
  readonly #context: Context
  readonly #controller: Controller
  /** Node name → when it was first found missing. */
  readonly #missing = new Map<string, number>()
  readonly #finished = new Set<string>()

  constructor(context: Context) {
    this.#context = context
    const { informers } = context
    this.#controller = new Controller({
      name: 'pod-collector',
      sources: [
        watch(informers.of(nodes), (n, _, type) => type === 'MODIFIED' ? [] : [n.metadata.name]),
        watch(informers.of(pods), (pod, old, type) => [...this.#countFinished(pod, type === 'DELETED'), ...onNewNode(pod, old)]),
      ],
      reconcile: (key) => key === FINISHED ? this.#trim() : this.#collect(key),
      onError: errorLog(context.logger, 'pod-collector'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  async #collect(node: string): Promise<void> {
    const { informers, clock } = this.#context
    if (informers.of(nodes).get(node) !== undefined) {
      this.#missing.delete(node)
      return
    }
    const left = [...informers.of(pods).byIndex('node', node)]
    if (left.length === 0) {
      this.#missing.delete(node)
      return
    }
    const since = this.#missing.get(node) ?? clock.now()
    this.#missing.set(node, since)
    const waitMs = since + NODE_GONE_MS - clock.now()
    if (waitMs > 0) return this.#controller.enqueueAfter(node, waitMs)
    await eachLimited(left, 16, (p) => this.#remove(p))
  }

  #countFinished(pod: Pod, deleted: boolean): string[] {
    const uid = pod.metadata.uid!
    if (deleted || !isFinished(pod)) this.#finished.delete(uid)
    else this.#finished.add(uid)
    return this.#finished.size > MAX_FINISHED ? [FINISHED] : []
  }

  async #trim(): Promise<void> {
    const surplus = this.#finished.size - MAX_FINISHED
    if (surplus <= 0) return
    const finished = [...this.#context.informers.of(pods).list()].filter(isFinished)
    finished.sort((a, b) => (a.metadata.creationTimestamp ?? '') < (b.metadata.creationTimestamp ?? '') ? -1 : 1)
    await eachLimited(finished.slice(0, surplus), 16, (p) => this.#remove(p))
  }

  async #remove(pod: Pod): Promise<void> {
    try {
      await this.#context.client.delete(pods, pod.metadata, { gracePeriodSeconds: 0, preconditions: { uid: pod.metadata.uid! } })
    } catch (e) {
      if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) throw e
    }
  }
}

function onNewNode(pod: Pod, old: Pod | undefined): string[] {
  const name = pod.spec.nodeName
  return name === undefined || old?.spec.nodeName === name ? [] : [name]
}
