/** Deployments: a ReplicaSet for each template, and Pods moved from the old ones to the current one within bounds. */
import { keyOf } from '../../core/client.ts'
import { equal } from '../../core/clone.ts'
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import { scaledValue } from '../../core/int-or-string.ts'
import { deployments, pods, replicaSets } from '../../core/kinds.ts'
import { labelSelectorOf } from '../../core/selectors.ts'
import { formatTime } from '../../core/time.ts'
import type { Condition, Deployment, Pod, ReplicaSet } from '../../core/types/index.ts'
import { claim } from '../claim.ts'
import { controllerOf, eachLimited, errorLog, type Context, type Running } from '../context.ts'
import { isFinished } from '../pod-state.ts'
import {
  annotationsFor, byAge, currentOf, DESIRED_REPLICAS, MAX_REPLICAS, newReplicaSet, nextRevision, replicasOf, REVISION, revisionOf,
} from './revisions.ts'
import { proportionalStep, rollingStep, type Bounds } from './rolling.ts'
import { deadlineMs, isComplete, statusOf } from './status.ts'

const COMPONENT = 'deployment-controller'
const WORKERS = 4

interface Pass {
  d: Deployment
  fresh: ReplicaSet | undefined
  /** Oldest first, without the fresh one. */
  old: ReplicaSet[]
  bounds: Bounds
  news: Pick<Condition, 'reason' | 'message'> | undefined
}

/** maxSurge rounds up, maxUnavailable down; where both come to nothing one Pod may be missing. */
export function boundsOf(d: Deployment): Bounds {
  const replicas = replicasOf(d)
  if (d.spec.strategy?.type === 'Recreate') return { replicas, maxSurge: 0, maxUnavailable: replicas }
  const r = d.spec.strategy?.rollingUpdate
  const maxSurge = scaledValue(r?.maxSurge ?? '25%', replicas, 'up')
  let maxUnavailable = Math.min(replicas, scaledValue(r?.maxUnavailable ?? '25%', replicas, 'down'))
  if (maxSurge === 0 && maxUnavailable === 0) maxUnavailable = 1
  return { replicas, maxSurge, maxUnavailable }
}

export class DeploymentLoop implements Running {
  readonly #context: Context
  readonly #events: EventRecorder
  readonly #controller: Controller

  constructor(context: Context) {
    this.#context = context
    this.#events = context.recorder(COMPONENT)
    this.#controller = new Controller({
      name: COMPONENT,
      sources: [
        watch(context.informers.of(deployments)),
        watch(context.informers.of(replicaSets), (rs, old) => this.#ownersOf(rs, old)),
        // Recreate waits for the last old Pod; no other strategy looks at Pods.
        watch(context.informers.of(pods), (pod, old, type) => {
          const ended = type === 'DELETED' || old !== undefined && isFinished(pod) && !isFinished(old)
          return ended ? this.#ownerOfPod(pod) : []
        }),
      ],
      reconcile: (key) => this.#reconcile(key),
      workers: WORKERS,
      maxDelayMs: 10_000,
      onError: errorLog(context.logger, COMPONENT),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  #ownersOf(rs: ReplicaSet, old: ReplicaSet | undefined): Set<string> {
    const keys = new Set<string>()
    for (const x of [rs, old]) {
      const ref = x === undefined ? undefined : controllerOf(x)
      if (ref?.kind === deployments.kind) keys.add(keyOf({ metadata: { namespace: rs.metadata.namespace!, name: ref.name } }))
    }
    if (keys.size === 0) {
      for (const d of this.#context.informers.of(deployments).byIndex('namespace', rs.metadata.namespace ?? '')) {
        if (labelSelectorOf(d.spec.selector)(rs.metadata.labels)) keys.add(keyOf(d))
      }
    }
    return keys
  }

  #ownerOfPod(pod: Pod): string[] {
    const ref = controllerOf(pod)
    if (ref?.kind !== replicaSets.kind) return []
    const rs = this.#context.informers.of(replicaSets).get(`${pod.metadata.namespace}/${ref.name}`)
    const owner = rs === undefined ? undefined : controllerOf(rs)
    const d = owner === undefined ? undefined : this.#context.informers.of(deployments).get(`${pod.metadata.namespace}/${owner.name}`)
    return d?.spec.strategy?.type === 'Recreate' ? [keyOf(d)] : []
  }

  async #reconcile(key: string): Promise<void> {
    const d = this.#context.informers.of(deployments).get(key)
    if (d === undefined) return
    const sets = await claim(this.#context, {
      ownerKind: deployments, owner: d, childKind: replicaSets, matches: labelSelectorOf(d.spec.selector), adoptable: () => true,
    })
    const live = sets.filter((rs) => rs.metadata.deletionTimestamp === undefined)
    const fresh = currentOf(d, live)
    const pass: Pass = { d, fresh, old: live.filter((rs) => rs !== fresh).sort(byAge), bounds: boundsOf(d), news: undefined }
    if (d.metadata.deletionTimestamp === undefined) await this.#advance(pass)
    await this.#writeStatus(key, pass)
  }

  async #advance(p: Pass): Promise<void> {
    const paused = p.d.spec.paused === true
    if (p.fresh !== undefined && !paused) await this.#bringForward(p)
    if (paused || this.#wasScaled(p)) {
      await this.#scale(p)
    } else if (p.d.spec.strategy?.type === 'Recreate') {
      await this.#recreate(p)
    } else {
      if (p.fresh === undefined) await this.#createFresh(p)
      if (p.fresh !== undefined) await this.#roll(p as Pass & { fresh: ReplicaSet })
    }
    await this.#cleanUp(p)
  }

  async #roll(p: Pass & { fresh: ReplicaSet }): Promise<void> {
    const counts = (rs: ReplicaSet) => ({ replicas: replicasOf(rs), available: rs.status?.availableReplicas ?? 0 })
    const plan = rollingStep(p.bounds, counts(p.fresh), p.old.map(counts))
    p.fresh = await this.#resize(p, p.fresh, plan.fresh)
    for (const [i, rs] of p.old.entries()) p.old[i] = await this.#resize(p, rs, plan.old[i]!)
  }

  /** All old Pods have to be gone before the first new one is made. */
  async #recreate(p: Pass): Promise<void> {
    for (const [i, rs] of p.old.entries()) p.old[i] = await this.#resize(p, rs, 0)
    const podInformer = this.#context.informers.of(pods)
    for (const rs of p.old) {
      if ((rs.status?.replicas ?? 0) > 0) return
      for (const pod of podInformer.byIndex('controller', rs.metadata.uid!)) if (!isFinished(pod)) return
    }
    if (p.fresh === undefined) await this.#createFresh(p)
    else p.fresh = await this.#resize(p, p.fresh, p.bounds.replicas)
  }

  /** A changed `replicas` shows in ReplicaSets that were sized for another number. */
  #wasScaled({ d, fresh, old }: Pass): boolean {
    return [...old, ...fresh === undefined ? [] : [fresh]].some((rs) => {
      const desired = rs.metadata.annotations?.[DESIRED_REPLICAS]
      return replicasOf(rs) > 0 && desired !== undefined && desired !== String(replicasOf(d))
    })
  }

  async #scale(p: Pass): Promise<void> {
    const sets = [...p.fresh === undefined ? [] : [p.fresh], ...[...p.old].reverse()]
    const active = sets.filter((rs) => replicasOf(rs) > 0)
    const resized = new Map<ReplicaSet, ReplicaSet>()
    if (active.length <= 1) {
      const only = active[0] ?? sets[0]
      if (only !== undefined) resized.set(only, await this.#resize(p, only, p.bounds.replicas))
    } else {
      const plan = proportionalStep(p.bounds, active.map((rs) => ({
        replicas: replicasOf(rs),
        maxReplicas: Number(rs.metadata.annotations?.[MAX_REPLICAS] ?? 0) || p.bounds.replicas + p.bounds.maxSurge,
      })))
      for (const [i, rs] of active.entries()) resized.set(rs, await this.#resize(p, rs, plan[i]!))
    }
    if (p.fresh !== undefined) p.fresh = resized.get(p.fresh) ?? p.fresh
    p.old = p.old.map((rs) => resized.get(rs) ?? rs)
  }

  async #createFresh(p: Pass): Promise<void> {
    const { d, bounds } = p
    const revision = nextRevision(undefined, p.old)
    const first = rollingStep(bounds, { replicas: 0, available: 0 }, p.old.map((rs) => ({ replicas: replicasOf(rs), available: 0 }))).fresh
    const wanted = newReplicaSet(d, first, bounds.replicas + bounds.maxSurge, revision)
    try {
      p.fresh = await this.#context.client.create(replicaSets, wanted)
    } catch (e) {
      if (!isReason(e, 'AlreadyExists')) throw e
      const there = await this.#context.client.get(replicaSets, wanted.metadata)
      if (controllerOf(there)?.uid === d.metadata.uid && currentOf(d, [there]) !== undefined) {
        p.fresh = there
        return
      }
      // Another template has this hash: the count goes into the next one.
      await this.#context.client.updateStatus(deployments, { ...d, status: { ...d.status, collisionCount: (d.status?.collisionCount ?? 0) + 1 } })
      throw e
    }
    p.news = { reason: 'NewReplicaSetCreated', message: `Created new replica set "${wanted.metadata.name}"` }
    if (first > 0) this.#events.record(d, 'Normal', 'ScalingReplicaSet', `Scaled up replica set ${wanted.metadata.name} from 0 to ${first}`)
    await this.#writeRevision(d, revision)
  }

  /** The current ReplicaSet bears the highest revision, also after an undo made an old one current. */
  async #bringForward(p: Pass): Promise<void> {
    const rs = p.fresh!
    const revision = nextRevision(rs, p.old)
    const annotations = annotationsFor(p.d, rs, revision, p.bounds.replicas + p.bounds.maxSurge)
    annotations[DESIRED_REPLICAS] = rs.metadata.annotations?.[DESIRED_REPLICAS] ?? annotations[DESIRED_REPLICAS]!
    annotations[MAX_REPLICAS] = rs.metadata.annotations?.[MAX_REPLICAS] ?? annotations[MAX_REPLICAS]!
    const minReadySeconds = p.d.spec.minReadySeconds ?? 0
    if (!equal(annotations, rs.metadata.annotations) || (rs.spec.minReadySeconds ?? 0) !== minReadySeconds) {
      if (revisionOf(rs) !== revision) p.news = { reason: 'FoundNewReplicaSet', message: `Found new replica set "${rs.metadata.name}"` }
      p.fresh = await this.#context.client.update(replicaSets, {
        ...rs, metadata: { ...rs.metadata, annotations }, spec: { ...rs.spec, minReadySeconds },
      })
    }
    await this.#writeRevision(p.d, revision)
  }

  async #writeRevision(d: Deployment, revision: number): Promise<void> {
    if (d.metadata.annotations?.[REVISION] === String(revision)) return
    await this.#context.client.patch(deployments, d.metadata, 'merge', {
      metadata: { uid: d.metadata.uid, annotations: { [REVISION]: String(revision) } },
    })
  }

  async #resize(p: Pass, rs: ReplicaSet, replicas: number): Promise<ReplicaSet> {
    const before = replicasOf(rs)
    const annotations = {
      ...rs.metadata.annotations,
      [DESIRED_REPLICAS]: String(p.bounds.replicas), [MAX_REPLICAS]: String(p.bounds.replicas + p.bounds.maxSurge),
    }
    // An empty old set is left alone: its annotations matter only while it has Pods.
    if (before === replicas && (replicas === 0 || equal(annotations, rs.metadata.annotations))) return rs
    const updated = await this.#context.client.update(replicaSets, {
      ...rs, metadata: { ...rs.metadata, annotations }, spec: { ...rs.spec, replicas },
    })
    if (before !== replicas) {
      const way = replicas > before ? 'up' : 'down'
      this.#events.record(p.d, 'Normal', 'ScalingReplicaSet', `Scaled ${way} replica set ${rs.metadata.name} from ${before} to ${replicas}`)
    }
    return updated
  }

  /** Old ReplicaSets beyond revisionHistoryLimit go once the rollout is complete. */
  async #cleanUp({ d, fresh, old }: Pass): Promise<void> {
    const limit = d.spec.revisionHistoryLimit ?? 10
    if (fresh === undefined || d.status === undefined || !isComplete(d, d.status)) return
    const isObserved = (rs: ReplicaSet) => (rs.status?.observedGeneration ?? 0) >= (rs.metadata.generation ?? 0)
    const empty = old.filter((rs) => replicasOf(rs) === 0 && (rs.status?.replicas ?? 0) === 0 && isObserved(rs))
    const surplus = empty.sort((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, empty.length - limit))
    await eachLimited(surplus, 4, async (rs) => {
      await this.#context.client.delete(replicaSets, rs.metadata, { preconditions: { uid: rs.metadata.uid! }, propagationPolicy: 'Background' })
        .catch((e: unknown) => { if (!isReason(e, 'NotFound')) throw e })
    })
  }

  async #writeStatus(key: string, { d, fresh, old, bounds, news }: Pass): Promise<void> {
    const nowMs = this.#context.clock.now()
    const sets = fresh === undefined ? old : [...old, fresh]
    const status = statusOf({ deployment: d, fresh, sets, maxUnavailable: bounds.maxUnavailable, now: formatTime(nowMs), news })
    if (!equal(status, d.status)) {
      // Without a revision: this loop alone writes the status, and it may just have written the object's annotation.
      const { resourceVersion: _, ...metadata } = d.metadata
      await this.#context.client.updateStatus(deployments, { ...d, metadata, status })
    }
    const deadline = deadlineMs(d, status)
    if (deadline !== undefined) this.#controller.enqueueAfter(key, Math.max(1, deadline - nowMs + 1000))
  }
}
