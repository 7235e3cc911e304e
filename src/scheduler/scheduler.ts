/**
 * The loop around the placer: informers fill the snapshot and the queue, Pods are placed one after the other, bindings go out
 * many at a time. A placed Pod counts on its node at once (assumed) and is taken off again if its binding fails.
 */
import type { Client, WatchEventType } from '../core/client.ts'
import { equal } from '../core/clone.ts'
import { isReason } from '../core/errors.ts'
import { namespaces, nodes, pods } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import type { Node, Pod } from '../core/types/index.ts'
import type { Clock } from '../core/workqueue.ts'
import { Placer } from './placer.ts'
import type { PodClass } from './pod-class.ts'
import { findPreemption } from './preemption.ts'
import type { Profile } from './profile.ts'
import { SchedulingQueue, type Waiting } from './queue.ts'
import { Reporter } from './reporter.ts'
import { Snapshot, type NodeInfo } from './snapshot.ts'

/** Bindings under way at most: enough to fill the store's group commits, few enough to stop soon. */
const BINDINGS_IN_FLIGHT = 256
/** Longest run without letting the process do other things. */
const SLICE_MS = 5
const NAMES = new Set(['', 'default-scheduler', 'gantry'])

export interface SchedulerParts { client: Client; profile: Profile; logger: Logger; clock: Clock; random: () => number }

export class Scheduler {
  readonly #client: Client
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #snapshot: Snapshot
  readonly #placer: Placer
  readonly #queue = new SchedulingQueue()
  readonly #reporter: Reporter
  /** Node name → Pods that wait there for their victims to go. */
  readonly #nominated = new Map<string, Waiting[]>()
  readonly #informers: { stop(): void }[] = []
  #binding = 0
  #ready = false
  #scheduled: NodeJS.Immediate | undefined
  #timer: { handle: unknown; atMs: number } | undefined
  #stopped = false
  #releasesSeen = 0

  constructor({ client, profile, logger, clock, random }: SchedulerParts) {
    this.#client = client
    this.#logger = logger
    this.#clock = clock
    const spaces = client.informer(namespaces)
    this.#snapshot = new Snapshot({ get: (name) => spaces.get(name)?.metadata.labels })
    this.#placer = new Placer(this.#snapshot, profile, random)
    this.#reporter = new Reporter(client, logger, clock)
    const nodeInformer = client.informer(nodes)
    const podInformer = client.informer(pods)
    this.#informers.push(spaces, nodeInformer, podInformer)
    nodeInformer.on((type, node) => this.#onNode(type, node))
    podInformer.on((type, pod) => this.#onPod(type, pod))
    // Before both lists are complete nodes would look emptier than they are.
    void Promise.all([spaces.synced, nodeInformer.synced, podInformer.synced]).then(() => {
      this.#ready = true
      this.#wake()
    })
  }

  stop(): void {
    this.#stopped = true
    for (const i of this.#informers) i.stop()
    this.#reporter.stop()
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled)
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer.handle)
  }

  #onNode(type: WatchEventType, node: Node): void {
    if (type === 'DELETED') this.#snapshot.removeNode(node.metadata.name)
    else this.#snapshot.setNode(node)
    this.#afterChange()
  }

  #onPod(type: WatchEventType, pod: Pod): void {
    const uid = pod.metadata.uid!
    const finished = pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed'
    // A deleted Pod whose containers have ended is still being cleared away: its node's ports are free when the object is gone.
    const leaving = pod.metadata.deletionTimestamp !== undefined && this.#snapshot.placed(uid) !== undefined
    if (type === 'DELETED' || finished && !leaving) {
      this.#dequeue(uid)
      this.#snapshot.removePod(uid)
    } else if (pod.spec.nodeName !== undefined && pod.spec.nodeName !== '') {
      const isNew = this.#snapshot.placed(uid)?.assumed !== false
      this.#snapshot.setPod(pod, pod.spec.nodeName)
      this.#dequeue(uid)
      if (isNew) this.#queue.released(this.#clock.now(), true)
    } else if (pod.metadata.deletionTimestamp !== undefined || !NAMES.has(pod.spec.schedulerName ?? '')) {
      this.#dequeue(uid)
    } else {
      this.#onWaitingPod(uid, pod)
    }
    this.#afterChange()
  }

  #onWaitingPod(uid: string, pod: Pod): void {
    if ((pod.spec.schedulingGates?.length ?? 0) > 0) {
      this.#dequeue(uid)
      this.#reporter.gated(pod)
      return
    }
    const known = this.#queue.get(uid)
    if (known === undefined) {
      this.#queue.add(pod, this.#snapshot.classes.acquire(pod))
      return
    }
    const before = known.pod
    known.pod = pod
    // Its own status changes are no reason to try again; a new spec is. While its binding is under way neither is.
    if (known.place === 'popped' || equal(before.spec, pod.spec) && equal(before.metadata.labels, pod.metadata.labels)) return
    this.#dequeue(uid)
    this.#queue.add(pod, this.#snapshot.classes.acquire(pod))
  }

  #dequeue(uid: string): void {
    const w = this.#queue.remove(uid)
    if (w === undefined) return
    this.#withdrawNomination(w)
    this.#reporter.forget(uid)
    this.#snapshot.classes.release(w.cls)
  }

  #afterChange(): void {
    if (this.#snapshot.releases !== this.#releasesSeen) {
      this.#releasesSeen = this.#snapshot.releases
      this.#queue.released(this.#clock.now())
    }
    this.#wake()
  }

  #wake(): void {
    if (this.#scheduled !== undefined || !this.#ready || this.#stopped || this.#queue.size === 0) return
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined
      this.#run()
    })
  }

  #run(): void {
    const start = performance.now()
    while (!this.#stopped && this.#binding < BINDINGS_IN_FLIGHT) {
      const w = this.#queue.pop(this.#clock.now())
      if (w === undefined) return this.#sleep()
      this.#scheduleOne(w)
      if (performance.now() - start > SLICE_MS) return this.#wake()
    }
  }

  /** Until the next back-off ends; events wake it earlier. */
  #sleep(): void {
    const atMs = this.#queue.nextDueMs()
    if (atMs === undefined || this.#timer !== undefined && this.#timer.atMs <= atMs) return
    if (this.#timer !== undefined) this.#clock.clearTimeout(this.#timer.handle)
    const handle = this.#clock.setTimeout(() => {
      this.#timer = undefined
      this.#wake()
    }, Math.max(1, atMs - this.#clock.now()))
    this.#timer = { handle, atMs }
  }

  #scheduleOne(w: Waiting): void {
    const placement = this.#placer.place(w.cls, {
      size: this.#nominated.size,
      at: (node) => this.#nominated.get(node.name)?.filter((n) => n !== w).map((n) => n.cls),
    })
    if (placement.node === undefined) this.#refuse(w, placement.message)
    else this.#bind(w, placement.node)
  }

  #bind(w: Waiting, node: NodeInfo): void {
    const { namespace, name, uid } = w.pod.metadata
    this.#snapshot.setPod(w.pod, node.name, true, w.cls)
    this.#withdrawNomination(w)
    this.#binding++
    this.#client.bind({ namespace: namespace ?? 'default', name, ...(uid !== undefined && { uid }) }, node.name).then(
      () => this.#reporter.events.record(w.pod, 'Normal', 'Scheduled', `Successfully assigned ${namespace}/${name} to ${node.name}`),
      (e: unknown) => this.#bindFailed(w, node, e),
    ).finally(() => {
      this.#binding--
      this.#wake()
    })
  }

  #bindFailed(w: Waiting, node: NodeInfo, error: unknown): void {
    if (this.#stopped) return
    if (this.#snapshot.placed(w.uid)?.assumed === true) this.#snapshot.removePod(w.uid)
    // Gone, or bound already by somebody: the informer tells, or has told.
    if (this.#queue.get(w.uid) === w) this.#queue.retry(w, this.#clock.now())
    if (isReason(error, 'NotFound') || isReason(error, 'Conflict')) return
    this.#logger.warn('binding failed', { pod: `${w.pod.metadata.namespace}/${w.pod.metadata.name}`, node: node.name, error: String(error) })
  }

  #refuse(w: Waiting, message: string): void {
    const now = this.#clock.now()
    const preemption = this.#preempt(w)
    if (message !== w.reported || preemption !== undefined) {
      w.reported = message
      this.#reporter.unschedulable(w.pod, message, preemption?.name)
    }
    this.#queue.park(w, now, preemption !== undefined)
  }

  /** Makes Pods of lower priority leave a node for `w`; returns the node. */
  #preempt(w: Waiting): NodeInfo | undefined {
    if (!w.cls.mayPreempt || !this.#snapshot.hasPriorityBelow(w.cls.priority) || this.#victimsAreLeaving(w)) return undefined
    const found = findPreemption(w.cls, this.#snapshot, this.#placer)
    if (found === undefined) return undefined
    this.#withdrawNomination(w)
    w.nominated = found.node.name
    this.#nominated.set(found.node.name, [...this.#nominated.get(found.node.name) ?? [], w])
    for (const { pod } of found.victims) {
      this.#reporter.events.record(pod, 'Normal', 'Preempted', `Preempted by pod ${w.pod.metadata.uid} on node ${found.node.name}`)
      void this.#evict(pod)
    }
    return found.node
  }

  async #evict(pod: Pod): Promise<void> {
    const { namespace, name, uid } = pod.metadata
    const message = 'default-scheduler: preempting to accommodate a higher priority pod'
    const condition = { type: 'DisruptionTarget', status: 'True', reason: 'PreemptionByScheduler', message }
    try {
      await this.#client.patch(pods, { namespace, name }, 'strategic', { metadata: { uid }, status: { conditions: [condition] } }, { subresource: 'status' })
      await this.#client.delete(pods, { namespace, name }, { preconditions: { uid: uid! } })
    } catch (e) {
      if (isReason(e, 'NotFound') || isReason(e, 'Conflict')) return
      this.#logger.warn('cannot preempt', { pod: `${namespace}/${name}`, error: (e as Error).message })
    }
  }

  #victimsAreLeaving(w: Waiting): boolean {
    const node = w.nominated === undefined ? undefined : this.#snapshot.node(w.nominated)
    if (node === undefined) return false
    for (const p of node.pods.values()) if (leavesFor(p.pod, p.cls, w.cls)) return true
    return false
  }

  #withdrawNomination(w: Waiting): void {
    if (w.nominated === undefined) return
    const rest = (this.#nominated.get(w.nominated) ?? []).filter((n) => n !== w)
    if (rest.length > 0) this.#nominated.set(w.nominated, rest)
    else this.#nominated.delete(w.nominated)
    w.nominated = undefined
  }
}

function leavesFor(pod: Pod, cls: PodClass, preemptor: PodClass): boolean {
  if (cls.priority >= preemptor.priority) return false
  return pod.metadata.deletionTimestamp !== undefined
    || pod.status?.conditions?.some((c) => c.type === 'DisruptionTarget' && c.status === 'True') === true
}
