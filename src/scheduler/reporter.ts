/** Tells users why a Pod waits: its PodScheduled condition and an event, written in the background, a few at a time. */
import type { Client } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import { EventRecorder } from '../core/event-recorder.ts'
import { pods } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import { formatTime } from '../core/time.ts'
import type { Condition, Pod } from '../core/types/index.ts'
import type { Clock } from '../core/workqueue.ts'

const IN_FLIGHT = 16

interface Report { pod: Pod; condition: Condition; nominatedNodeName: string | undefined }

export class Reporter {
  readonly events: EventRecorder
  readonly #client: Client
  readonly #logger: Logger
  readonly #clock: Clock
  /** By uid: only the latest report of a Pod is worth writing. */
  readonly #waiting = new Map<string, Report>()
  #inFlight = 0
  #stopped = false

  constructor(client: Client, logger: Logger, clock: Clock) {
    this.#client = client
    this.#logger = logger
    this.#clock = clock
    this.events = new EventRecorder(client, { component: 'default-scheduler', clock })
  }

  unschedulable(pod: Pod, message: string, nominatedNodeName?: string): void {
    this.events.record(pod, 'Warning', 'FailedScheduling', message)
    this.#report(pod, { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }, nominatedNodeName)
  }

  gated(pod: Pod): void {
    const message = 'Scheduling is blocked due to non-empty scheduling gates'
    this.#report(pod, { type: 'PodScheduled', status: 'False', reason: 'SchedulingGated', message }, undefined)
  }

  forget(uid: string): void { this.#waiting.delete(uid) }

  stop(): void {
    this.#stopped = true
    this.#waiting.clear()
    this.events.stop()
  }

  #report(pod: Pod, condition: Condition, nominatedNodeName: string | undefined): void {
    const old = pod.status?.conditions?.find((c) => c.type === condition.type)
    const same = old?.status === condition.status && old.reason === condition.reason && old.message === condition.message
    if (same && (nominatedNodeName === undefined || pod.status?.nominatedNodeName === nominatedNodeName)) return
    const since = old?.status === condition.status ? old.lastTransitionTime : undefined
    condition.lastTransitionTime = since ?? formatTime(this.#clock.now())
    this.#waiting.set(pod.metadata.uid!, { pod, condition, nominatedNodeName })
    this.#pump()
  }

  #pump(): void {
    for (const [uid, report] of this.#waiting) {
      if (this.#inFlight >= IN_FLIGHT) return
      this.#waiting.delete(uid)
      this.#inFlight++
      void this.#write(report).finally(() => {
        this.#inFlight--
        if (!this.#stopped) this.#pump()
      })
    }
  }

  async #write({ pod, condition, nominatedNodeName }: Report): Promise<void> {
    const { namespace, name, uid } = pod.metadata
    const conditions = [...(pod.status?.conditions ?? []).filter((c) => c.type !== condition.type), condition]
    try {
      // The uid makes it a conflict if another Pod has taken the name.
      await this.#client.patch(pods, { namespace, name }, 'merge', {
        metadata: { uid }, status: { conditions, ...(nominatedNodeName !== undefined && { nominatedNodeName }) },
      }, { subresource: 'status' })
    } catch (e) {
      if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) {
        this.#logger.warn('cannot report why a pod waits', { pod: `${namespace}/${name}`, error: (e as Error).message })
      }
    }
  }
}
