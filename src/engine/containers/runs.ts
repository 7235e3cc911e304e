/** A container's runs as they begin and end: what containerd tells of them, what is recorded, what is told on. */
import { parseProtoAny, timestampMs } from '../containerd/index.ts'
import type { Envelope, Exited } from '../containerd/index.ts'
import type { Attachments } from './attach.ts'
import type { EventHub } from './events.ts'
import { OUTPUT_CAP_MS } from './exec.ts'
import { startFailure } from './failures.ts'
import type { LogClient } from './log-client.ts'
import { cgroupOf } from './model.ts'
import type { Entry } from './model.ts'
import type { ExitWaiters } from './processes.ts'
import type { ContainerRecord } from './records.ts'
import type { SharedMemory } from './shared-memory.ts'
import { oomKills } from './stats.ts'
import { isAlive } from './table.ts'
import type { ContainerTable } from './table.ts'
import { SIGKILL } from './tasks.ts'
import type { Tasks } from './tasks.ts'

/** Exit code of a start that failed for another cause than its program. */
const NOT_STARTED = 128

export interface RunsOptions {
  table: ContainerTable
  tasks: Tasks
  logs: LogClient
  exits: ExitWaiters
  events: EventHub
  attachments: Attachments
  sharedMemory: SharedMemory
  /** Build steps under way. */
  steps: Set<string>
}

export class Runs {
  readonly #o: RunsOptions
  readonly #held: Envelope[] = []
  #holding = 0

  constructor(options: RunsOptions) { this.#o = options }

  began(entry: Entry, pid: number, atMs: number): void {
    const r = entry.record
    Object.assign(r, { state: 'running', pid, startedAtMs: atMs })
    delete r.exitCode
    delete r.finishedAtMs
    delete r.oomKilled
    delete r.error
    entry.exit = Promise.withResolvers()
    entry.runs++
    this.#o.attachments.started(entry)
    this.#o.table.saveSoon(r)
    this.#o.events.emit({ type: 'start', id: r.spec.id, pid, atMs })
  }

  async failed(entry: Entry, e: unknown): Promise<void> {
    const { id } = entry.record.spec
    const failure = startFailure(e)
    entry.record.error = failure.error.message
    if (failure.exitCode !== undefined) entry.record.exitCode = failure.exitCode
    await this.#o.table.records.save(entry.record).catch(() => undefined)
    entry.earlyExits = []
    await this.#o.tasks.delete(id).catch(() => undefined)
    await this.#o.logs.finish(id).catch(() => undefined)
    this.#o.tasks.removeFifos(id)
    await this.#o.sharedMemory.release(id)
    this.#o.attachments.ended(id, failure.exitCode ?? NOT_STARTED)
  }

  /** Exits that came before `start` had written that it runs. */
  settleEarlyExits(entry: Entry): void {
    for (const { pid, exit } of entry.earlyExits.splice(0)) this.onExit(entry, pid, exit)
  }

  /**
   * Keeps events back until `work` is done, which compares records with a list of tasks: an exit after the list was made must not be
   * handled before what the list says, which would take the container for one that runs, for ever.
   */
  async holding(work: () => Promise<void>): Promise<void> {
    this.#holding++
    try {
      await work()
    } finally {
      if (--this.#holding === 0) for (const e of this.#held.splice(0)) this.onEvent(e)
    }
  }

  onEvent(e: Envelope): void {
    if (this.#holding > 0) { this.#held.push(e); return }
    if (e.event === null) return
    if (e.topic === '/tasks/exit') {
      const x = parseProtoAny(e.event) as { containerId: string; id: string; pid: number } & Exited
      if (x.id !== x.containerId) { this.#o.exits.settle(x.containerId, x.id, x); return }
      if (this.#o.steps.has(x.containerId)) { this.#o.exits.settle(x.containerId, '', x); return }
      const entry = this.#o.table.entries.get(x.containerId)
      if (entry === undefined) return
      if (entry.starting === true) entry.earlyExits.push({ pid: x.pid, exit: x })
      else this.onExit(entry, x.pid, x)
    } else if (e.topic === '/tasks/oom') {
      const { containerId } = parseProtoAny(e.event) as { containerId: string }
      const entry = this.#o.table.entries.get(containerId)
      if (entry === undefined || entry.sawOom === true) return
      entry.sawOom = true
      this.#o.events.emit({ type: 'oom', id: containerId, atMs: Date.now() })
    }
  }

  /** Idempotent: an exit told again, or one of an earlier run, changes nothing. `pid` 0 is any. */
  onExit(entry: Entry, pid: number, exit: Exited): void {
    const r = entry.record
    const { id } = r.spec
    if (!isAlive(r) || (pid !== 0 && pid !== r.pid)) return
    // The kernel's own count too: the event may be late, or lost over a restart of containerd.
    const oomKilled = exit.exitStatus === 128 + SIGKILL && (entry.sawOom === true || oomKills(cgroupOf(r.spec)) > 0)
    Object.assign(r, { state: 'exited', exitCode: exit.exitStatus, finishedAtMs: timestampMs(exit.exitedAt) ?? Date.now(), oomKilled })
    delete r.pid
    // containerd's task tells of the exit until it is released.
    entry.cleanup = this.#o.table.records.save(r).catch(() => undefined).then(() => this.release(id))
    if (oomKilled && entry.sawOom !== true) this.#o.events.emit({ type: 'oom', id, atMs: r.finishedAtMs ?? 0 })
    entry.exit.resolve(exit.exitStatus)
    this.emitExit(r)
  }

  /** Never rejects: what stays behind is cleaned by the next start, removal or reconciliation. */
  async release(id: string): Promise<void> {
    await Promise.all([
      this.#o.tasks.delete(id).catch(() => undefined),
      this.#o.logs.wait(id, OUTPUT_CAP_MS).catch(() => undefined),
      this.#o.sharedMemory.release(id),
    ])
    this.#o.tasks.removeFifos(id)
  }

  emitExit(r: ContainerRecord): void {
    this.#o.events.emit({
      type: 'exit', id: r.spec.id, exitCode: r.exitCode ?? 255, oomKilled: r.oomKilled === true, atMs: r.finishedAtMs ?? r.createdAtMs,
    })
  }
}
