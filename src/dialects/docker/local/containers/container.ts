/** A container as this process holds it: its record, what it does now, and who waits for it. */
import type { ContainerSummary, StringMap } from '../../model.ts'
import { statusOf } from '../../shared/status-text.ts'
import type { StateFacts } from '../../shared/status-text.ts'
import type { HealthMonitor } from './health.ts'
import type { ContainerRecord } from './records.ts'
import { RestartManager } from './restart.ts'

/** Output somebody follows: an exit waits a moment for it to be read. */
export interface Attachment { drained: Promise<unknown>; end(): void }

export interface ExitFact { code: number; error?: string }

export class Container {
  readonly record: ContainerRecord
  running = false
  paused = false
  restarting = false
  removing = false
  dead = false
  pid = 0
  /** A removal or a restart by hand is under way: an exit is neither followed by a restart nor by the automatic removal. */
  keepAfterExit = false
  /** Between `restart` and its start the policy has no say. */
  readonly restartManager: RestartManager
  restartTimer: NodeJS.Timeout | undefined
  health: HealthMonitor | undefined
  readonly attachments = new Set<Attachment>()
  /** Ids of execs that run, as `inspect` lists them. */
  readonly execIds = new Set<string>()
  /** Settles with the next exit, also one that is followed by a restart. */
  exit = Promise.withResolvers<ExitFact>()
  readonly removed = Promise.withResolvers<ExitFact>()
  /** Prepared row of `ps`; undefined after each change. */
  row: ContainerSummary | undefined
  #tail: Promise<unknown> = Promise.resolve()

  constructor(record: ContainerRecord) {
    this.record = record
    this.restartManager = new RestartManager(record.hostConfig.RestartPolicy, record.restartCount)
  }

  get id(): string { return this.record.id }
  get name(): string { return this.record.name }

  get facts(): StateFacts {
    const { exitCode, startedAtMs, finishedAtMs } = this.record
    const { running, paused, restarting, removing, dead } = this
    return {
      running, paused, restarting, removing, dead, exitCode, startedAtMs, finishedAtMs,
      ...(this.health === undefined ? {} : { health: this.health.status }),
    }
  }

  get status(): ReturnType<typeof statusOf> { return statusOf(this.facts) }

  /** A process of it exists. */
  get alive(): boolean { return this.running && !this.restarting }

  /** Attributes of its events. */
  attributes(extra?: StringMap): StringMap {
    return { ...this.record.config.Labels, ...extra, image: this.record.config.Image ?? '', name: this.record.name }
  }

  /** One after another. */
  locked<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work)
    this.#tail = result.catch(() => undefined)
    return result
  }

  changed(): void { this.row = undefined }

  tellExit(fact: ExitFact): void {
    const { resolve } = this.exit
    this.exit = Promise.withResolvers()
    resolve(fact)
  }
}
