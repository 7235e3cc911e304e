/**
 * Containers: records on disk are what shall be, containerd's tasks are what is. Each operation can be cut off at any line;
 * reconcile.ts brings both together again.
 */
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, ociAny, Code } from '../containerd/index.ts'
import type { ContainerdClient, EventWatch } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type {
  CommitOptions, ContainerInfo, ContainerService, ContainerSpec, ContainerStats, DetailedStats, ExecSpec, LogLine, LogOptions, LogStreamOptions,
  Mount, PathInfo, ProcessStreams, Resources, WriteArchiveOptions,
} from '../engine.ts'
import { within } from '../within.ts'
import { attachAhead } from './attach-ahead.ts'
import { Attachments } from './attach.ts'
import { boundingSet } from './capabilities.ts'
import { removeCgroup, thaw } from './cgroups.ts'
import { cgroupPids, readDetailedStats } from './detailed-stats.ts'
import type { EventHub } from './events.ts'
import { execProcess } from './exec.ts'
import { startFailure, toEngineError } from './failures.ts'
import { FifoPool } from './fifos.ts'
import { ContainerFiles } from './files.ts'
import type { FilesOptions } from './files.ts'
import { followLog } from './follow.ts'
import type { Follow } from './log-blocks.ts'
import { LogClient } from './log-client.ts'
import { streamLogs } from './log-stream.ts'
import { readLogs } from './logs.ts'
import { cgroupOf, checkId, commandOf, defaultsOf, emptyImage, environmentOf, newEntry, toInfo } from './model.ts'
import type { Entry } from './model.ts'
import { ociResources } from './oci-resources.ts'
import { mergeEnv, ociProcess, processLimits } from './oci-spec.ts'
import { ExitWaiters } from './processes.ts'
import { Reconciler } from './reconcile.ts'
import type { ImageDefaults } from './records.ts'
import { runStep } from './run-step.ts'
import type { StepOptions } from './run-step.ts'
import { Runs } from './runs.ts'
import { SharedMemory } from './shared-memory.ts'
import { signalNumber } from './signals.ts'
import { readStats } from './stats.ts'
import { ContainerTable, isAlive } from './table.ts'
import { KILL_MS, OWNER_LABEL, SIGKILL, Tasks } from './tasks.ts'

/** What the image room tells about an image that is present. */
export interface ResolvedImage { id: string; chainId: string; config: ImageDefaults }

export interface ContainersOptions {
  client: ContainerdClient
  dataDir: string
  runDir: string
  containerdSocket: string
  loggerSocket: string
  snapshotter: string
  /** Control group of containers that name no parent, and of build steps. */
  cgroupRoot: string
  events: EventHub
  /** undefined if the image is not present. */
  resolveImage(reference: string): Promise<ResolvedImage | undefined>
  commit: FilesOptions['commit']
}

/** Removals that go on in the background; more of them would only hold up what is started meanwhile. */
const MAX_CLEARING = 8
/** For about half a minute. */
const CLEAR_ATTEMPTS = 60
const CLEAR_RETRY_MS = 500

/** From SIGKILL to the exit, unless something keeps its processes from ending. */
const FROZEN_MS = 1000

type StartChanges = NonNullable<Parameters<ContainerService['start']>[1]>

export class Containers implements ContainerService {
  readonly #o: ContainersOptions
  readonly #client: ContainerdClient
  readonly #table: ContainerTable
  readonly #fifos: FifoPool
  readonly #logs: LogClient
  readonly #exits = new ExitWaiters()
  readonly #attachments: Attachments
  readonly #tasks: Tasks
  readonly #runs: Runs
  readonly #files: ContainerFiles
  readonly #reconciler: Reconciler
  /** Build steps under way: without record, yet no orphans. */
  readonly #steps = new Set<string>()
  /** Removed, and being cleared away. */
  readonly #clearing = new Map<string, Promise<void>>()
  #watch: EventWatch | undefined

  constructor(options: ContainersOptions) {
    this.#o = options
    const { client, dataDir, runDir, snapshotter, events } = options
    this.#client = client
    const logsDir = join(dataDir, 'logs')
    mkdirSync(logsDir, { recursive: true, mode: 0o700 })
    const table = this.#table = new ContainerTable(dataDir)
    const fifos = this.#fifos = new FifoPool(join(runDir, 'fifo'))
    const logs = this.#logs = new LogClient(options.loggerSocket, () => { void this.#resyncLogger() })
    const attachments = this.#attachments = new Attachments(client, fifos, logs)
    const sharedMemory = new SharedMemory(join(runDir, 'shm'))
    const { containerdSocket } = options
    const tasks = this.#tasks = new Tasks({
      client, containerdSocket, snapshotter, runDir, table, fifos, logs, attachments, sharedMemory, logDir: (id) => this.logDir(id),
    })
    const [exits, steps] = [this.#exits, this.#steps]
    const runs = this.#runs = new Runs({ table, tasks, logs, exits, events, attachments, sharedMemory, steps })
    this.#files = new ContainerFiles({ client, snapshotter, dir: join(runDir, 'view'), table, tasks, commit: options.commit })
    this.#reconciler = new Reconciler({
      client, snapshotter, containerdSocket, logsDir, table, tasks, runs, fifos, exits, sharedMemory, steps,
    })
  }

  /** Resolves when records and containerd agree. */
  async open(): Promise<void> {
    await this.#fifos.open()
    this.#table.load()
    this.#watch = this.#client.events.watch({
      topics: ['/tasks/exit', '/tasks/oom'],
      onEvent: (e) => { this.#runs.onEvent(e) },
      onConnected: () => this.#reconciler.run(),
    })
    await this.#watch.first
    for (const { record: r } of this.#table.entries.values()) if (r.state === 'exited') this.#runs.emitExit(r)
  }

  close(): void {
    this.#watch?.close()
    this.#logs.close()
  }

  async #resyncLogger(): Promise<void> {
    await this.#tasks.resyncLogger((id) => this.#reconciler.done && this.#table.entries.get(id)?.starting !== true).catch(() => undefined)
  }

  /** Which images containers need, for the image room. */
  imageUsers(): { id: string; imageId: string; running: boolean }[] {
    return [...this.#table.entries.values()].map(({ record: r }) => ({ id: r.spec.id, imageId: r.imageId, running: isAlive(r) }))
  }

  inspect(id: string): ContainerInfo | undefined {
    const record = this.#table.entries.get(id)?.record
    return record?.phase === 'ready' ? toInfo(record) : undefined
  }

  list(): ContainerInfo[] {
    const out: ContainerInfo[] = []
    for (const { record } of this.#table.entries.values()) if (record.phase === 'ready') out.push(toInfo(record))
    return out
  }

  logDir(id: string): string { return join(this.#o.dataDir, 'logs', checkId(id)) }

  rootPath(id: string): string | undefined {
    const r = this.#table.entries.get(id)?.record
    return r?.pid !== undefined && isAlive(r) ? `/proc/${r.pid}/root` : undefined
  }

  async create(spec: ContainerSpec): Promise<void> {
    const id = checkId(spec.id)
    // Whoever creates one starts it next.
    attachAhead()
    if (this.#table.entries.has(id)) throw new EngineError('conflict', `the container name "${id}" is already in use`)
    if (spec.stopSignal !== undefined) signalNumber(spec.stopSignal)
    boundingSet({ ...(spec.capAdd && { add: spec.capAdd }), ...(spec.capDrop && { drop: spec.capDrop }) })
    const entry = newEntry({
      phase: 'creating', spec: { cgroupParent: this.#o.cgroupRoot, ...spec }, imageId: '', image: emptyImage, state: 'created', createdAtMs: Date.now(),
    })
    this.#table.entries.set(id, entry)
    await this.#table.locked(entry, async () => {
      try {
        await this.#clearing.get(id)
        const image = await this.#o.resolveImage(spec.image)
        if (image === undefined) throw new EngineError('not-found', `No such image: ${spec.image}`)
        entry.record.imageId = image.id
        if (spec.noImageDefaults !== true) entry.record.image = defaultsOf(image.config)
        if (commandOf(entry.record).length === 0) throw new EngineError('invalid', 'no command specified')
        entry.mounts = await this.#client.snapshots.prepare({
          snapshotter: this.#o.snapshotter, key: id, parent: image.chainId,
          // Its own root for the garbage collector: no lease to make and delete for every start.
          labels: { 'containerd.io/gc.root': new Date().toISOString(), [OWNER_LABEL]: id },
        })
        entry.record.phase = 'ready'
        this.#table.records.saveNew(entry.record)
      } catch (e) {
        await this.#tasks.removeSnapshot(id).catch(() => undefined)
        await this.#table.records.delete(id)
        this.#table.entries.delete(id)
        throw toEngineError(e)
      }
    })
  }

  async start(id: string, changes?: StartChanges, ready?: Promise<void>): Promise<number> {
    const entry = this.#table.get(id)
    return this.#table.locked(entry, async () => {
      const r = entry.record
      if (isAlive(r) && r.pid !== undefined) return r.pid
      await entry.cleanup
      entry.starting = true
      entry.earlyExits = []
      entry.sawOom = false
      try {
        if (changes !== undefined) r.spec = { ...r.spec, ...changes }
        const pid = await this.#tasks.start(entry, Promise.all([changes === undefined ? undefined : this.#table.records.save(r), ready]))
        this.#runs.began(entry, pid, Date.now())
        return pid
      } catch (e) {
        await this.#runs.failed(entry, e)
        throw startFailure(e).error
      } finally {
        entry.starting = false
        this.#runs.settleEarlyExits(entry)
      }
    })
  }

  async kill(id: string, signal: string | number, all = false): Promise<void> {
    const entry = this.#table.get(id)
    const n = signalNumber(signal)
    if (!isAlive(entry.record)) return
    try {
      await this.#client.tasks.kill(id, n, { all })
    } catch (e) {
      if (!hasCode(e, Code.notFound)) throw toEngineError(e)
      // It has ended: the news is on its way, or was lost.
      await this.#reconciler.confirm(entry)
    }
  }

  async stop(id: string, graceMs: number): Promise<void> {
    const entry = this.#table.get(id)
    const { record } = entry
    if (!isAlive(record)) return
    const exited = entry.exit.promise
    if (record.state === 'paused') await this.resume(id)
    if (graceMs > 0) {
      await this.kill(id, record.spec.stopSignal ?? record.image.stopSignal ?? 'SIGTERM')
      if (await within(exited, graceMs)) return
    }
    await this.#killAll(entry, exited)
  }

  async #killAll(entry: Entry, exited: Promise<unknown>): Promise<void> {
    const { id } = entry.record.spec
    // Not by `resume`, which waits its turn.
    if (entry.record.state === 'paused') await this.#client.tasks.resume(id).catch(() => undefined)
    await this.kill(id, SIGKILL, true)
    if (!await within(exited, FROZEN_MS)) {
      thaw(cgroupOf(entry.record.spec))
      await this.kill(id, SIGKILL, true)
    }
    if (!await within(exited, KILL_MS)) throw new EngineError('failed', `container ${id} did not exit ${KILL_MS / 1000} s after SIGKILL`)
  }

  async remove(id: string, force = false, options: { inBackground?: boolean } = {}): Promise<void> {
    const entry = this.#table.entries.get(id)
    if (entry === undefined) return
    if (isAlive(entry.record)) {
      if (!force) throw new EngineError('conflict', `cannot remove container "${id}": container is ${entry.record.state}: stop it first or use force`)
      await this.#killAll(entry, entry.exit.promise)
    }
    // Whoever copies from it and has stopped reading must not keep it.
    if (force) await entry.closeFiles?.()
    try {
      await this.#table.locked(entry, async () => {
        // Started again meanwhile.
        if (isAlive(entry.record)) {
          if (!force) throw new EngineError('conflict', `cannot remove container "${id}": container is ${entry.record.state}: stop it first or use force`)
          await this.#killAll(entry, entry.exit.promise)
        }
        await this.#removeNow(entry, options.inBackground === true && this.#clearing.size < MAX_CLEARING)
      })
    } catch (e) {
      // Somebody else was first.
      if (this.#table.entries.get(id) === entry) throw e
    }
  }

  async #removeNow(entry: Entry, inBackground: boolean): Promise<void> {
    const { id } = entry.record.spec
    entry.record.phase = 'removing'
    // First: without its record, what a removal that is cut off leaves is swept at the next opening.
    await this.#table.records.delete(id)
    if (!inBackground) {
      await this.#clear(entry)
      this.#table.entries.delete(id)
      return
    }
    this.#table.entries.delete(id)
    const clearing = this.#clearAtLast(entry).finally(() => { this.#clearing.delete(id) })
    this.#clearing.set(id, clearing)
  }

  /** containerd may be away for a moment; what is never cleared is swept at the next opening. */
  async #clearAtLast(entry: Entry): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#clear(entry)
        return
      } catch {
        if (attempt === CLEAR_ATTEMPTS) return
        await sleep(CLEAR_RETRY_MS, undefined, { ref: false })
      }
    }
  }

  async #clear(entry: Entry): Promise<void> {
    const { id } = entry.record.spec
    await entry.cleanup
    await this.#tasks.delete(id)
    await Promise.all([this.#tasks.deleteContainer(id), this.#logs.finish(id).catch(() => undefined)])
    await rm(this.logDir(id), { recursive: true, force: true })
    removeCgroup(cgroupOf(entry.record.spec))
    this.#tasks.removeFifos(id)
    this.#attachments.ended(id, entry.record.exitCode ?? 128)
    this.#o.events.emit({ type: 'delete', id, atMs: Date.now() })
  }

  async cleared(): Promise<void> { await Promise.all(this.#clearing.values()) }

  async exec(id: string, spec: ExecSpec): Promise<ProcessStreams> {
    const entry = this.#table.running(id)
    const { record } = entry
    const mounts = await this.#tasks.mountsOf(entry)
    const env = environmentOf(record, spec.tty === true ? ['TERM=xterm'] : [], spec.env ?? [])
    const wish = ociProcess({
      args: spec.command, cwd: spec.workingDir ?? record.spec.workingDir ?? (record.image.workingDir || '/'), tty: spec.tty === true,
      ...(spec.consoleSize === undefined ? {} : { consoleSize: spec.consoleSize }),
      env: record.spec.hostname === undefined ? env : mergeEnv([`HOSTNAME=${record.spec.hostname}`], env),
      user: this.#tasks.user(record, spec.user ?? record.spec.user, mounts),
      ...processLimits(record.spec, spec.privileged === true),
    })
    return execProcess({ client: this.#client, fifos: this.#fifos, exits: this.#exits }, id, wish, spec.stdin === true)
  }

  async attach(id: string): Promise<ProcessStreams> {
    const entry = this.#table.get(id)
    // A start under way has given its output to those who came before.
    if (entry.starting === true) await entry.tail
    if (entry.record.state === 'created' || entry.record.state === 'exited') return this.#attachments.later(entry)
    return this.#attachments.now(this.#table.running(id))
  }

  async resize(id: string, size: { rows: number; columns: number }): Promise<void> {
    if (!isAlive(this.#table.get(id).record)) this.#table.running(id)
    await this.#client.tasks.resize(id, '', size.columns, size.rows).catch((e: unknown) => { throw toEngineError(e) })
  }

  async *logs(id: string, options: LogOptions): AsyncGenerator<LogLine> {
    const follow = await this.#follow(this.#table.get(id), options.follow === true)
    yield* readLogs(this.logDir(id), options, follow)
  }

  logStream(id: string, options: LogStreamOptions): Readable {
    const entry = this.#table.get(id)
    return streamLogs(this.logDir(id), { ...options, tty: entry.record.spec.tty === true }, () => this.#follow(entry, options.follow))
  }

  async #follow(entry: Entry, follow: boolean): Promise<Follow | undefined> {
    if (follow) return followLog(entry, this.#logs, this.#o.events)
    // What a container wrote last before its exit is on its way still.
    await (entry.record.state === 'exited' ? entry.cleanup : undefined)
    return undefined
  }

  async stats(id: string): Promise<ContainerStats | undefined> {
    const { record } = this.#table.get(id)
    return record.pid === undefined || record.state === 'exited' ? undefined : readStats(cgroupOf(record.spec), record.pid, Date.now())
  }

  async detailedStats(id: string): Promise<DetailedStats | undefined> {
    const { record } = this.#table.get(id)
    return isAlive(record) ? readDetailedStats(cgroupOf(record.spec), Date.now()) : undefined
  }

  async pids(id: string): Promise<number[]> {
    const { record } = this.#table.get(id)
    if (!isAlive(record)) throw new EngineError('conflict', `container ${id} is not running`)
    return cgroupPids(cgroupOf(record.spec))
  }

  async update(id: string, resources: Resources): Promise<void> {
    const entry = this.#table.get(id)
    await this.#table.locked(entry, async () => {
      const r = entry.record
      const merged = { ...r.spec.resources, ...resources }
      if (isAlive(r)) {
        await this.#client.tasks.update(id, ociAny('LinuxResources', ociResources(merged))).catch((e: unknown) => { throw toEngineError(e) })
      }
      r.spec = { ...r.spec, resources: merged }
      await this.#table.records.save(r)
    })
  }

  async pause(id: string): Promise<void> { await this.#freeze(id, 'running', 'paused') }
  async resume(id: string): Promise<void> { await this.#freeze(id, 'paused', 'running') }

  async #freeze(id: string, from: 'running' | 'paused', to: 'running' | 'paused'): Promise<void> {
    const entry = this.#table.get(id)
    await this.#table.locked(entry, async () => {
      const { state } = entry.record
      if (state === to) return
      if (state !== from) throw new EngineError('conflict', `container ${id} is not ${from}`)
      await (to === 'paused' ? this.#client.tasks.pause(id) : this.#client.tasks.resume(id)).catch((e: unknown) => { throw toEngineError(e) })
      // It may have exited meanwhile.
      if ((entry.record.state as string) !== from) return
      entry.record.state = to
      await this.#table.records.save(entry.record)
    })
  }

  sizes(id: string): Promise<{ writableBytes: number; rootBytes: number }> { return this.#files.sizes(id) }
  changes(id: string): Promise<{ path: string; kind: 0 | 1 | 2 }[]> { return this.#files.changes(id) }
  export(id: string): Promise<Readable> { return this.#files.export(id) }
  commit(id: string, options: CommitOptions): Promise<string> { return this.#files.commit(id, options) }
  statPath(id: string, path: string, mounts?: Mount[]): Promise<PathInfo> {
    return this.#files.statPath(id, path, mounts).catch(rethrow)
  }

  readArchive(id: string, path: string, mounts?: Mount[]): Promise<{ info: PathInfo; tar: Readable }> {
    return this.#files.readArchive(id, path, mounts).catch(rethrow)
  }

  writeArchive(id: string, path: string, tar: Readable, options: WriteArchiveOptions): Promise<void> {
    return this.#files.writeArchive(id, path, tar, options).catch(rethrow)
  }

  withFolder<T>(id: string, path: string, work: (hostPath: string | undefined) => Promise<T>): Promise<T> {
    return this.#files.withFolder(id, path, work).catch(rethrow)
  }

  /** A build step: a container without record, on a snapshot somebody else has. See run-step.ts. */
  async runStep(options: StepOptions): Promise<number> {
    const mounts = await this.#client.snapshots.mounts(this.#o.snapshotter, options.snapshotKey)
    const deps = {
      client: this.#client, fifos: this.#fifos, exits: this.#exits, snapshotter: this.#o.snapshotter, runtimeRoot: this.#tasks.runtimeRoot,
      cgroupRoot: this.#o.cgroupRoot, label: OWNER_LABEL, steps: this.#steps,
    }
    return runStep(deps, mounts, this.#tasks.lookup(options.user, mounts), options)
  }
}

function rethrow(e: unknown): never { throw toEngineError(e) }
