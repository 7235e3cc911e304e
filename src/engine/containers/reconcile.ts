/**
 * Brings records on disk, which are what shall be, and containerd's tasks, which are what is, together: at the opening and after
 * each reconnection. Every operation may have been cut off at any line before.
 */
import { existsSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { orAbsent, parseJsonAny } from '../containerd/index.ts'
import type { Container, ContainerdClient, TaskProcess } from '../containerd/index.ts'
import { removeCgroup } from './cgroups.ts'
import type { FifoPool } from './fifos.ts'
import { removeBundle } from './lost-bundle.ts'
import { endLostShims } from './lost-shims.ts'
import type { Entry } from './model.ts'
import type { ExitWaiters } from './processes.ts'
import type { Runs } from './runs.ts'
import type { SharedMemory } from './shared-memory.ts'
import { isAlive } from './table.ts'
import type { ContainerTable } from './table.ts'
import { OWNER_LABEL } from './tasks.ts'
import type { Tasks } from './tasks.ts'

export interface ReconcilerOptions {
  client: ContainerdClient
  snapshotter: string
  containerdSocket: string
  logsDir: string
  table: ContainerTable
  tasks: Tasks
  runs: Runs
  fifos: FifoPool
  exits: ExitWaiters
  sharedMemory: SharedMemory
  steps: Set<string>
}

const LATE_SHIMS_MS = 5000
const ASK_AGAIN_MS = 500
/** An exit nobody can tell the code of. */
const LOST = { exitStatus: 255, exitedAt: null }

export class Reconciler {
  readonly #o: ReconcilerOptions
  /** True after the first time. */
  done = false

  constructor(options: ReconcilerOptions) { this.#o = options }

  async run(): Promise<void> {
    const { client, snapshotter, table, steps, tasks, exits } = this.#o
    await Promise.all(await this.#tasks())
    const ours = await client.containers.list([`labels."${OWNER_LABEL}"`])
    const snapshots = await client.snapshots.list(snapshotter, [`labels."${OWNER_LABEL}"`])
    for (const c of ours) if (!table.entries.has(c.id) && !steps.has(c.id)) await this.#removeOrphan(c)
    for (const s of snapshots) if (!table.entries.has(s.name)) await tasks.removeSnapshot(s.name)
    await Promise.all(exits.pending().map((p) => this.#exec(p.container, p.exec)))
    if (!this.done) await this.#sweep()
    this.done = true
    // containerd may yet be starting shims, for requests that were cut off; ours to judge are then those of nobody.
    setTimeout(() => { this.#sweepRuns().catch(() => undefined) }, LATE_SHIMS_MS).unref()
  }

  /** What is left to be waited for, once no decision stands on the list any more. */
  async #tasks(): Promise<Promise<void>[]> {
    const { client, table, runs } = this.#o
    const before = new Map([...table.entries.values()].map((e) => [e, e.runs]))
    const rest: Promise<void>[] = []
    await runs.holding(async () => {
      const tasks = new Map((await client.tasks.list()).map((t) => [t.containerId || t.id, t]))
      for (const [entry, count] of before) {
        // A start, under way or since the list was asked for, knows better.
        if (entry.starting === true || entry.runs !== count) continue
        const task = tasks.get(entry.record.spec.id)
        if (task?.status === 'UNKNOWN') void this.#askUntilKnown(entry)
        else rest.push(this.#container(entry, task))
      }
    })
    return rest
  }

  /** For one that may have ended without anybody being told. False if containerd does not know. */
  async confirm(entry: Entry): Promise<boolean> {
    const { client, runs } = this.#o
    const count = entry.runs
    let known = true
    let rest: Promise<void> | undefined
    await runs.holding(async () => {
      const task = await orAbsent(client.tasks.get(entry.record.spec.id))
      known = task?.status !== 'UNKNOWN'
      if (known && entry.starting !== true && entry.runs === count) rest = this.#container(entry, task)
    })
    await rest
    return known
  }

  /** A shim that does not answer containerd within two seconds is busy, not gone: until it does, what is recorded holds. */
  async #askUntilKnown(entry: Entry): Promise<void> {
    const { table } = this.#o
    try {
      while (table.entries.get(entry.record.spec.id) === entry && !await this.confirm(entry)) await sleep(ASK_AGAIN_MS, undefined, { ref: false })
    } catch {
      // Without containerd: the next connection lists again.
    }
  }

  /** Decides before its first wait. */
  async #container(entry: Entry, task: TaskProcess | undefined): Promise<void> {
    const { runs, tasks, table } = this.#o
    const r = entry.record
    const alive = isAlive(r)
    switch (task?.status) {
      case 'RUNNING': case 'PAUSED': case 'PAUSING':
        if (!alive || r.pid !== task.pid) runs.began(entry, task.pid, alive && r.startedAtMs !== undefined ? r.startedAtMs : Date.now())
        if (task.status !== 'RUNNING' || r.state === 'paused') {
          r.state = task.status === 'RUNNING' ? 'running' : 'paused'
          table.saveSoon(r)
        }
        return
      case 'STOPPED':
        if (alive) runs.onExit(entry, 0, task)
        else await runs.release(r.spec.id)
        return
      case 'CREATED':
        // Cut off between creating and starting.
        await tasks.delete(r.spec.id)
        if (alive) runs.onExit(entry, 0, LOST)
        return
      default:
        if (alive) runs.onExit(entry, 0, LOST)
    }
  }

  async #exec(container: string, exec: string): Promise<void> {
    const p = await orAbsent(this.#o.client.tasks.get(container, exec))
    if (p === undefined || p.status === 'STOPPED') {
      this.#o.exits.settle(container, exec, { exitStatus: p?.exitStatus ?? LOST.exitStatus, exitedAt: p?.exitedAt ?? null })
    }
  }

  async #removeOrphan({ id, spec }: Container): Promise<void> {
    await this.#o.tasks.delete(id)
    // A shim that was killed leaves it.
    const cgroup = spec === null ? undefined : (parseJsonAny(spec) as { linux?: { cgroupsPath?: string } }).linux?.cgroupsPath
    if (cgroup !== undefined) removeCgroup(cgroup)
    await orAbsent(this.#o.client.containers.delete(id))
  }

  /** What lost its container in a crash: files, FIFOs, mounts, shims. */
  async #sweep(): Promise<void> {
    const { fifos, logsDir, sharedMemory, table } = this.#o
    for (const name of readdirSync(logsDir)) {
      if (!table.entries.has(name)) await rm(join(logsDir, name), { recursive: true, force: true })
    }
    const alive = (id: string): boolean => {
      const entry = table.entries.get(id)
      return entry !== undefined && isAlive(entry.record)
    }
    for (const name of fifos.inUse()) if (!alive(name.slice(0, name.lastIndexOf('-')))) fifos.remove([fifos.path(name)])
    await sharedMemory.sweep(alive)
    await this.#endLostShims(() => [])
  }

  /** Shims and folders of runs that nobody knows. */
  async #sweepRuns(): Promise<void> {
    const { client, containerdSocket, table, steps } = this.#o
    const folder = join(dirname(containerdSocket), 'containerd/io.containerd.runtime.v2.task', client.namespace)
    // First: whoever begins one now is known before its folder is there.
    const found = existsSync(folder) ? readdirSync(folder) : []
    const kept = await this.#endLostShims(() => [...table.entries.keys(), ...steps])
    for (const id of found) if (!kept.has(id)) await removeBundle(join(folder, id))
  }

  /** Answers the ids it has left alone. */
  async #endLostShims(keep: () => string[]): Promise<Set<string>> {
    const { client, containerdSocket } = this.#o
    const foreign = (await client.containers.list()).filter((c) => c.labels[OWNER_LABEL] === undefined).map((c) => c.id)
    const tasksNow = (await client.tasks.list()).map((t) => t.containerId || t.id)
    // Those that have a task, or are not ours to judge.
    const kept = new Set([...keep(), ...foreign, ...tasksNow])
    for (const folder of endLostShims({ containerdSocket, namespace: client.namespace }, (id) => !kept.has(id))) await removeBundle(folder)
    return kept
  }
}
