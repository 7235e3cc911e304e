/**
 * Containers: records on disk are what shall be, containerd's tasks are what is. Each operation can be cut off at any line;
 * `reconcile` (at open and after each reconnection) brings both together again.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { Code, hasCode, ociAny, orAbsent, parseProtoAny, protoAny, timestampMs } from '../containerd/index.ts'
import type { ContainerdClient, Envelope, EventWatch, Exited, Mount, TaskProcess } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type {
  ContainerInfo, ContainerService, ContainerSpec, ContainerStats, DetailedStats, ExecSpec, LogLine, LogOptions, PathInfo, ProcessStreams,
  Resources,
} from '../engine.ts'
import { boundingSet } from './capabilities.ts'
import { cgroups } from './cgroups.ts'
import type { EventHub } from './events.ts'
import { execProcess, openStdin, OUTPUT_CAP_MS } from './exec.ts'
import { startFailure, toEngineError } from './failures.ts'
import { FifoPool } from './fifos.ts'
import { followLog } from './follow.ts'
import { LogClient } from './log-client.ts'
import { readLogs } from './logs.ts'
import { endLostShims } from './lost-shims.ts'
import { cgroupOf, checkId, commandOf, defaultsOf, emptyImage, logLimits, newEntry, toInfo } from './model.ts'
import type { Entry } from './model.ts'
import { mergeEnv, ociResources, ociSpec, process } from './oci-spec.ts'
import { ExitWaiters } from './processes.ts'
import { RecordStore } from './records.ts'
import type { ContainerRecord, ImageDefaults } from './records.ts'
import { layerDirectories, readInRoot } from './rootfs.ts'
import { runStep } from './run-step.ts'
import type { StepOptions } from './run-step.ts'
import { signalNumber } from './signals.ts'
import { oomKills, readStats } from './stats.ts'
import { lookupUser } from './users.ts'
import type { ProcessUser } from './users.ts'

/** On container records and snapshots: what carries it and has no record of ours is removed. */
export const OWNER_LABEL = 'gantry/container'

const SIGKILL = 9
/** From SIGKILL to the exit; longer means a process the kernel cannot end. */
const KILL_MS = 10_000
const MAX_USER_FILE_BYTES = 1 << 20

/** What the image room tells about an image that is present. */
export interface ResolvedImage { id: string; chainId: string; config: ImageDefaults }

type StartChanges = NonNullable<Parameters<ContainerService['start']>[1]>

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
}

export class Containers implements ContainerService {
  readonly #o: ContainersOptions
  readonly #client: ContainerdClient
  readonly #records: RecordStore
  readonly #fifos: FifoPool
  readonly #logs: LogClient
  readonly #exits = new ExitWaiters()
  readonly #entries = new Map<string, Entry>()
  /** Build steps under way: without record, yet no orphans. */
  readonly #steps = new Set<string>()
  #watch: EventWatch | undefined
  #opened = false

  constructor(options: ContainersOptions) {
    this.#o = options
    this.#client = options.client
    this.#records = new RecordStore(join(options.dataDir, 'containers'))
    this.#fifos = new FifoPool(join(options.runDir, 'fifo'))
    this.#logs = new LogClient(options.loggerSocket, () => { void this.#resyncLogger().catch(() => undefined) })
    mkdirSync(join(options.dataDir, 'logs'), { recursive: true, mode: 0o700 })
  }

  /** Resolves when records and containerd agree. */
  async open(): Promise<void> {
    await this.#fifos.open()
    for (const record of this.#records.load()) this.#entries.set(record.spec.id, newEntry(record))
    this.#watch = this.#client.events.watch({
      topics: ['/tasks/exit', '/tasks/oom'],
      onEvent: (e) => { this.#onEvent(e) },
      onConnected: () => this.#reconcile(),
    })
    await this.#watch.first
    for (const { record: r } of this.#entries.values()) if (r.state === 'exited') this.#emitExit(r)
  }

  close(): void {
    this.#watch?.close()
    this.#logs.close()
  }

  /** Which images containers need, for the image room. */
  imageUsers(): { id: string; imageId: string; running: boolean }[] {
    return [...this.#entries.values()].map(({ record: r }) => ({
      id: r.spec.id, imageId: r.imageId, running: r.state === 'running' || r.state === 'paused',
    }))
  }

  inspect(id: string): ContainerInfo | undefined {
    const record = this.#entries.get(id)?.record
    return record?.phase === 'ready' ? toInfo(record) : undefined
  }

  list(): ContainerInfo[] {
    const out: ContainerInfo[] = []
    for (const { record } of this.#entries.values()) if (record.phase === 'ready') out.push(toInfo(record))
    return out
  }

  logDir(id: string): string { return join(this.#o.dataDir, 'logs', checkId(id)) }

  rootPath(id: string): string | undefined {
    const r = this.#entries.get(id)?.record
    return r?.pid !== undefined && (r.state === 'running' || r.state === 'paused') ? `/proc/${r.pid}/root` : undefined
  }

  async create(spec: ContainerSpec): Promise<void> {
    const id = checkId(spec.id)
    if (this.#entries.has(id)) throw new EngineError('conflict', `the container name "${id}" is already in use`)
    if (spec.stopSignal !== undefined) signalNumber(spec.stopSignal)
    boundingSet({ ...(spec.capAdd && { add: spec.capAdd }), ...(spec.capDrop && { drop: spec.capDrop }) })
    const entry = newEntry({
      phase: 'creating', spec: { cgroupParent: this.#o.cgroupRoot, ...spec }, imageId: '', image: emptyImage, state: 'created', createdAtMs: Date.now(),
    })
    this.#entries.set(id, entry)
    await this.#locked(entry, async () => {
      try {
        const image = await this.#o.resolveImage(spec.image)
        if (image === undefined) throw new EngineError('not-found', `No such image: ${spec.image}`)
        entry.record.imageId = image.id
        entry.record.image = defaultsOf(image.config)
        if (commandOf(entry.record).length === 0) throw new EngineError('invalid', 'no command specified')
        entry.mounts = await this.#client.snapshots.prepare({
          snapshotter: this.#o.snapshotter, key: id, parent: image.chainId,
          // Its own root for the garbage collector: no lease to make and delete for every start.
          labels: { 'containerd.io/gc.root': new Date().toISOString(), [OWNER_LABEL]: id },
        })
        entry.record.phase = 'ready'
        this.#records.saveNew(entry.record)
      } catch (e) {
        await this.#removeSnapshot(id).catch(() => undefined)
        await this.#records.delete(id)
        this.#entries.delete(id)
        throw toEngineError(e)
      }
    })
  }

  async start(id: string, changes: StartChanges = {}): Promise<number> {
    const entry = this.#entry(id)
    return this.#locked(entry, async () => {
      this.#present(entry)
      const r = entry.record
      if ((r.state === 'running' || r.state === 'paused') && r.pid !== undefined) return r.pid
      r.spec = { ...r.spec, ...changes }
      await entry.cleanup
      entry.starting = true
      entry.earlyExit = undefined
      entry.sawOom = false
      try {
        const pid = await this.#startTask(entry)
        this.#running(entry, pid, Date.now())
        return pid
      } catch (e) {
        await this.#startFailed(entry, e)
        throw startFailure(e).error
      } finally {
        entry.starting = false
        this.#settleEarlyExit(entry)
      }
    })
  }

  async #startTask(entry: Entry): Promise<number> {
    const { spec } = entry.record
    const { id } = spec
    const tty = spec.tty === true
    const names = [`${id}-out`, ...(tty ? [] : [`${id}-err`]), ...(spec.stdin === true ? [`${id}-in`] : [])]
    const [mounts, paths] = await Promise.all([this.#mountsOf(entry), this.#fifos.take(names)])
    const stdout = paths[0] as string
    const stderr = tty ? '' : paths[1] as string
    const stdin = spec.stdin === true ? paths.at(-1) as string : ''
    await Promise.all([
      this.#storeSpec(entry, mounts),
      this.#logs.open({ id, stdout, ...(tty ? {} : { stderr }), dir: this.logDir(id), ...logLimits(spec) }),
    ])
    await this.#client.tasks.create({ containerId: id, rootfs: mounts, stdin, stdout, stderr, terminal: tty })
    return this.#client.tasks.start(id)
  }

  /** Gives containerd the spec; on later starts only if it changed. */
  async #storeSpec(entry: Entry, mounts: Mount[]): Promise<void> {
    const { spec } = entry.record
    const oci = this.#ociSpec(entry.record, mounts)
    const json = JSON.stringify(oci)
    if (entry.storedSpec === json) return
    const container = {
      id: spec.id, image: spec.image, snapshotter: this.#o.snapshotter, snapshotKey: spec.id,
      labels: { [OWNER_LABEL]: spec.id },
      runtime: {
        name: 'io.containerd.runc.v2',
        options: protoAny('containerd.runc.v1.Options', { binaryName: spec.runtime ?? 'runc', root: this.#runtimeRoot() }),
      },
      spec: ociAny('Spec', oci),
    }
    try {
      await this.#client.containers.create(container)
    } catch (e) {
      if (!hasCode(e, Code.alreadyExists)) throw e
      await this.#client.containers.update(container, ['spec'])
    }
    entry.storedSpec = json
  }

  /** State of runc and crun: of our own, so that equal ids of another engine on this machine do not meet. */
  #runtimeRoot(): string { return join(this.#o.runDir, 'runtime') }

  #ociSpec(record: ContainerRecord, mounts: Mount[]): object {
    const { spec, image } = record
    return ociSpec(spec, {
      args: commandOf(record),
      env: mergeEnv(image.env, spec.env),
      cwd: spec.workingDir ?? (image.workingDir || '/'),
      user: this.#user(spec.user ?? image.user, mounts, spec.supplementalGroups),
      cgroupsPath: cgroupOf(spec),
      cgroupV2: cgroups().v2,
      pidOf: (other) => {
        const pid = this.#entries.get(other)?.record.pid
        if (pid === undefined) throw new EngineError('conflict', `cannot join the namespaces of ${other}: it is not running`)
        return pid
      },
    })
  }

  #user(user: string, mounts: Mount[], supplemental?: number[]): ProcessUser {
    const layers = layerDirectories(mounts) ?? []
    return lookupUser(user, {
      passwd: readInRoot(layers, '/etc/passwd', MAX_USER_FILE_BYTES), group: readInRoot(layers, '/etc/group', MAX_USER_FILE_BYTES),
    }, supplemental)
  }

  async #mountsOf(entry: Entry): Promise<Mount[]> {
    entry.mounts ??= await this.#client.snapshots.mounts(this.#o.snapshotter, entry.record.spec.id)
    return entry.mounts
  }

  #running(entry: Entry, pid: number, atMs: number): void {
    const r = entry.record
    Object.assign(r, { state: 'running', pid, startedAtMs: atMs })
    delete r.exitCode
    delete r.finishedAtMs
    delete r.oomKilled
    delete r.error
    entry.exit = Promise.withResolvers()
    this.#saveSoon(r)
    this.#o.events.emit({ type: 'start', id: r.spec.id, pid, atMs })
  }

  async #startFailed(entry: Entry, e: unknown): Promise<void> {
    const { id } = entry.record.spec
    const failure = startFailure(e)
    entry.record.error = failure.error.message
    if (failure.exitCode !== undefined) entry.record.exitCode = failure.exitCode
    await this.#records.save(entry.record).catch(() => undefined)
    entry.earlyExit = undefined
    await this.#deleteTask(id).catch(() => undefined)
    await this.#logs.finish(id).catch(() => undefined)
    this.#removeFifos(id)
  }

  /** An exit that came before `start` had written that it runs. */
  #settleEarlyExit(entry: Entry): void {
    const early = entry.earlyExit
    entry.earlyExit = undefined
    if (early !== undefined) this.#onExit(entry, early.pid, early.exit)
  }

  async kill(id: string, signal: string | number, all = false): Promise<void> {
    const entry = this.#entry(id)
    const n = signalNumber(signal)
    if (entry.record.state !== 'running' && entry.record.state !== 'paused') return
    try {
      await this.#client.tasks.kill(id, n, { all })
    } catch (e) {
      if (!hasCode(e, Code.notFound)) throw toEngineError(e)
    }
  }

  async stop(id: string, graceMs: number): Promise<void> {
    const entry = this.#entry(id)
    const { record } = entry
    if (record.state !== 'running' && record.state !== 'paused') return
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
    if (entry.record.state === 'paused') await this.resume(id).catch(() => undefined)
    await this.kill(id, SIGKILL, true)
    if (!await within(exited, KILL_MS)) throw new EngineError('failed', `container ${id} did not exit ${KILL_MS / 1000} s after SIGKILL`)
  }

  async remove(id: string, force = false): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    if (entry.record.state === 'running' || entry.record.state === 'paused') {
      if (!force) throw new EngineError('conflict', `cannot remove container "${id}": container is ${entry.record.state}: stop it first or use force`)
      await this.#killAll(entry, entry.exit.promise)
    }
    await this.#locked(entry, async () => {
      if (this.#entries.get(id) !== entry) return
      if (entry.record.state === 'running') throw new EngineError('conflict', `container "${id}" was started again meanwhile`)
      await this.#removeNow(entry)
    })
  }

  async #removeNow(entry: Entry): Promise<void> {
    const { id } = entry.record.spec
    entry.record.phase = 'removing'
    // First: without its record, what a removal that is cut off leaves is swept at the next opening.
    await this.#records.delete(id)
    await entry.cleanup
    await this.#deleteTask(id)
    await Promise.all([orAbsent(this.#client.containers.delete(id)), this.#removeSnapshot(id), this.#logs.finish(id).catch(() => undefined)])
    await rm(this.logDir(id), { recursive: true, force: true })
    this.#removeFifos(id)
    this.#entries.delete(id)
    this.#o.events.emit({ type: 'delete', id, atMs: Date.now() })
  }

  #removeFifos(id: string): void {
    this.#fifos.remove(['out', 'err', 'in'].map((s) => this.#fifos.path(`${id}-${s}`)))
  }

  async #removeSnapshot(id: string): Promise<void> {
    await orAbsent(this.#client.snapshots.remove(this.#o.snapshotter, id))
  }

  /** Whatever state it is in. */
  async #deleteTask(id: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await orAbsent(this.#client.tasks.delete(id))
        return
      } catch (e) {
        if (attempt === 3) throw e
        // Created or running: end it first. Wait returns at once for what has ended.
        await orAbsent(this.#client.tasks.resume(id)).catch(() => undefined)
        await orAbsent(this.#client.tasks.kill(id, SIGKILL, { all: true })).catch(() => undefined)
        await orAbsent(this.#client.tasks.wait(id, '', { timeoutMs: KILL_MS })).catch(() => undefined)
      }
    }
  }

  async exec(id: string, spec: ExecSpec): Promise<ProcessStreams> {
    const { record, ...entry } = this.#runningEntry(id)
    const mounts = entry.mounts ?? await this.#client.snapshots.mounts(this.#o.snapshotter, id)
    const privileged = spec.privileged === true || record.spec.privileged === true
    const env = mergeEnv(record.image.env, record.spec.env, spec.tty === true ? ['TERM=xterm'] : [], spec.env)
    const wish = process({
      args: spec.command, cwd: spec.workingDir ?? record.spec.workingDir ?? (record.image.workingDir || '/'), tty: spec.tty === true,
      env: record.spec.hostname === undefined ? env : mergeEnv([`HOSTNAME=${record.spec.hostname}`], env),
      user: this.#user(spec.user ?? record.spec.user ?? record.image.user, mounts, record.spec.supplementalGroups),
      bounding: boundingSet({
        ...(record.spec.capAdd && { add: record.spec.capAdd }), ...(record.spec.capDrop && { drop: record.spec.capDrop }), privileged,
      }),
      noNewPrivileges: record.spec.noNewPrivileges === true && !privileged,
    })
    return execProcess({ client: this.#client, fifos: this.#fifos, exits: this.#exits }, id, wish, spec.stdin === true)
  }

  async attach(id: string): Promise<ProcessStreams> {
    const entry = this.#runningEntry(id)
    const { spec } = entry.record
    const exit = entry.exit.promise
    const output = await this.#logs.attach(id)
    const stdin = spec.stdin === true ? openStdin(this.#client, id, '', this.#fifos.path(`${id}-in`)) : undefined
    return {
      ...(stdin === undefined ? {} : { stdin }),
      stdout: output.stdout,
      ...(spec.tty === true ? {} : { stderr: output.stderr }),
      resize: (columns, rows) => this.#client.tasks.resize(id, '', columns, rows),
      exit,
      close: () => {
        stdin?.destroy()
        output.close()
      },
    }
  }

  async *logs(id: string, options: LogOptions): AsyncGenerator<LogLine> {
    const entry = this.#entry(id)
    // What a container wrote last before its exit is on its way still.
    if (options.follow !== true) await (entry.record.state === 'exited' ? entry.cleanup : undefined)
    const follow = options.follow === true ? await followLog(entry, this.#logs, this.#o.events) : undefined
    yield* readLogs(this.logDir(id), options, follow)
  }

  async stats(id: string): Promise<ContainerStats | undefined> {
    const { record } = this.#entry(id)
    return record.pid === undefined || record.state === 'exited' ? undefined : readStats(cgroupOf(record.spec), record.pid, Date.now())
  }

  async update(id: string, resources: Resources): Promise<void> {
    const entry = this.#entry(id)
    await this.#locked(entry, async () => {
      this.#present(entry)
      const r = entry.record
      const merged = { ...r.spec.resources, ...resources }
      if (r.state === 'running' || r.state === 'paused') {
        await this.#client.tasks.update(id, ociAny('LinuxResources', ociResources(merged))).catch((e: unknown) => { throw toEngineError(e) })
      }
      r.spec = { ...r.spec, resources: merged }
      await this.#records.save(r)
    })
  }

  async pids(id: string): Promise<number[]> {
    this.#runningEntry(id)
    return this.#client.tasks.pids(id)
  }

  async resize(id: string, size: { rows: number; columns: number }): Promise<void> {
    this.#runningEntry(id)
    await this.#client.tasks.resize(id, '', size.columns, size.rows)
  }

  async detailedStats(id: string): Promise<DetailedStats | undefined> { this.#entry(id); return Promise.resolve(undefined) }
  async sizes(id: string): Promise<{ writableBytes: number; rootBytes: number }> {
    this.#entry(id)
    const { size } = await this.#client.snapshots.usage(this.#o.snapshotter, id)
    return { writableBytes: size, rootBytes: size }
  }

  changes(): Promise<{ path: string; kind: 0 | 1 | 2 }[]> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  export(): Promise<Readable> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  withFolder(): Promise<never> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  commit(): Promise<string> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  statPath(): Promise<PathInfo> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  readArchive(): Promise<{ info: PathInfo; tar: Readable }> { return Promise.reject(new EngineError('failed', 'not there yet')) }
  writeArchive(): Promise<void> { return Promise.reject(new EngineError('failed', 'not there yet')) }

  async pause(id: string): Promise<void> { await this.#freeze(id, 'running', 'paused') }
  async resume(id: string): Promise<void> { await this.#freeze(id, 'paused', 'running') }

  async #freeze(id: string, from: 'running' | 'paused', to: 'running' | 'paused'): Promise<void> {
    const entry = this.#entry(id)
    await this.#locked(entry, async () => {
      this.#present(entry)
      const { state } = entry.record
      if (state === to) return
      if (state !== from) throw new EngineError('conflict', `container ${id} is not ${from}`)
      await (to === 'paused' ? this.#client.tasks.pause(id) : this.#client.tasks.resume(id)).catch((e: unknown) => { throw toEngineError(e) })
      // It may have exited meanwhile.
      if ((entry.record.state as string) !== from) return
      entry.record.state = to
      await this.#records.save(entry.record)
    })
  }

  /** A build step: a container without record, on a snapshot somebody else has. See run-step.ts. */
  async runStep(options: StepOptions): Promise<number> {
    const mounts = await this.#client.snapshots.mounts(this.#o.snapshotter, options.snapshotKey)
    const deps = {
      client: this.#client, fifos: this.#fifos, exits: this.#exits, snapshotter: this.#o.snapshotter, runtimeRoot: this.#runtimeRoot(),
      cgroupRoot: this.#o.cgroupRoot, label: OWNER_LABEL, steps: this.#steps,
    }
    return runStep(deps, mounts, this.#user(options.user, mounts), options)
  }

  // — what containerd tells —

  #onEvent(e: Envelope): void {
    if (e.event === null) return
    if (e.topic === '/tasks/exit') {
      const x = parseProtoAny(e.event) as { containerId: string; id: string; pid: number } & Exited
      if (x.id !== x.containerId) { this.#exits.settle(x.containerId, x.id, x); return }
      if (this.#steps.has(x.containerId)) { this.#exits.settle(x.containerId, '', x); return }
      const entry = this.#entries.get(x.containerId)
      if (entry === undefined) return
      if (entry.starting === true) entry.earlyExit = { pid: x.pid, exit: x }
      else this.#onExit(entry, x.pid, x)
    } else if (e.topic === '/tasks/oom') {
      const { containerId } = parseProtoAny(e.event) as { containerId: string }
      const entry = this.#entries.get(containerId)
      if (entry === undefined || entry.sawOom === true) return
      entry.sawOom = true
      this.#o.events.emit({ type: 'oom', id: containerId, atMs: Date.now() })
    }
  }

  /** Idempotent: an exit told again, or one of an earlier run, changes nothing. `pid` 0 is any. */
  #onExit(entry: Entry, pid: number, exit: Exited): void {
    const r = entry.record
    const { id } = r.spec
    if ((r.state !== 'running' && r.state !== 'paused') || (pid !== 0 && pid !== r.pid)) return
    // The kernel's own count too: the event may be late, or lost over a restart of containerd.
    const oomKilled = exit.exitStatus === 128 + SIGKILL && (entry.sawOom === true || oomKills(cgroupOf(r.spec)) > 0)
    Object.assign(r, { state: 'exited', exitCode: exit.exitStatus, finishedAtMs: timestampMs(exit.exitedAt) ?? Date.now(), oomKilled })
    delete r.pid
    // containerd's task tells of the exit until it is released.
    entry.cleanup = this.#records.save(r).catch(() => undefined).then(() => this.#release(id))
    if (oomKilled && entry.sawOom !== true) this.#o.events.emit({ type: 'oom', id, atMs: r.finishedAtMs ?? 0 })
    entry.exit.resolve(exit.exitStatus)
    this.#emitExit(r)
  }

  /** Never rejects: what stays behind is cleaned by the next start, removal or reconciliation. */
  async #release(id: string): Promise<void> {
    await Promise.all([
      this.#deleteTask(id).catch(() => undefined),
      this.#logs.wait(id, OUTPUT_CAP_MS).catch(() => undefined),
    ])
    this.#removeFifos(id)
  }

  #emitExit(r: ContainerRecord): void {
    this.#o.events.emit({
      type: 'exit', id: r.spec.id, exitCode: r.exitCode ?? 255, oomKilled: r.oomKilled === true, atMs: r.finishedAtMs ?? r.createdAtMs,
    })
  }

  // — reconciliation —

  async #reconcile(): Promise<void> {
    const ours = new Map((await this.#client.containers.list([`labels."${OWNER_LABEL}"`])).map((c) => [c.id, c]))
    const tasks = new Map((await this.#client.tasks.list()).map((t) => [t.containerId || t.id, t]))
    const snapshots = await this.#client.snapshots.list(this.#o.snapshotter, [`labels."${OWNER_LABEL}"`])
    for (const id of ours.keys()) if (!this.#entries.has(id) && !this.#steps.has(id)) await this.#removeOrphan(id)
    for (const s of snapshots) if (!this.#entries.has(s.name)) await this.#removeSnapshot(s.name)
    // A start under way finds out for itself, and may be waiting for an exit that only we can tell.
    await Promise.all([...this.#entries.values()].map((e) => e.starting === true ? undefined : this.#reconcileOne(e, tasks.get(e.record.spec.id))))
    await Promise.all(this.#exits.pending().map((p) => this.#reconcileExec(p.container, p.exec)))
    if (!this.#opened) {
      await this.#sweepFiles()
      const foreign = (await this.#client.containers.list()).filter((c) => c.labels[OWNER_LABEL] === undefined).map((c) => c.id)
      const tasksNow = (await this.#client.tasks.list()).map((t) => t.containerId || t.id)
      endLostShims({ containerdSocket: this.#o.containerdSocket, namespace: this.#client.namespace, keep: new Set([...foreign, ...tasksNow]) })
    }
    this.#opened = true
  }

  async #reconcileOne(entry: Entry, task: TaskProcess | undefined): Promise<void> {
    const r = entry.record
    const alive = r.state === 'running' || r.state === 'paused'
    switch (task?.status) {
      case 'RUNNING': case 'PAUSED': case 'PAUSING':
        if (!alive || r.pid !== task.pid) this.#running(entry, task.pid, alive && r.startedAtMs !== undefined ? r.startedAtMs : Date.now())
        if (task.status !== 'RUNNING' || r.state === 'paused') {
          r.state = task.status === 'RUNNING' ? 'running' : 'paused'
          this.#saveSoon(r)
        }
        return
      case 'STOPPED':
        if (alive) this.#onExit(entry, 0, task)
        else await this.#release(r.spec.id)
        return
      case 'CREATED':
        // Cut off between creating and starting.
        await this.#deleteTask(r.spec.id)
        if (alive) this.#onExit(entry, 0, { exitStatus: 255, exitedAt: null })
        return
      default:
        if (alive) this.#onExit(entry, 0, { exitStatus: 255, exitedAt: null })
    }
  }

  async #reconcileExec(container: string, exec: string): Promise<void> {
    const p = await orAbsent(this.#client.tasks.get(container, exec))
    if (p === undefined || p.status === 'STOPPED') {
      this.#exits.settle(container, exec, { exitStatus: p?.exitStatus ?? 255, exitedAt: p?.exitedAt ?? null })
    }
  }

  async #removeOrphan(id: string): Promise<void> {
    await this.#deleteTask(id)
    await orAbsent(this.#client.containers.delete(id))
  }

  /** What lost its container in a crash. */
  async #sweepFiles(): Promise<void> {
    for (const name of readdirSync(join(this.#o.dataDir, 'logs'))) {
      if (!this.#entries.has(name)) await rm(join(this.#o.dataDir, 'logs', name), { recursive: true, force: true })
    }
    for (const name of this.#fifos.inUse()) {
      const id = name.slice(0, name.lastIndexOf('-'))
      const state = this.#entries.get(id)?.record.state
      if (state !== 'running' && state !== 'paused') this.#fifos.remove([this.#fifos.path(name)])
    }
  }

  /** After the daemon's restart, and ours: what runs is drained, what does not is let go. */
  async #resyncLogger(): Promise<void> {
    const open = new Set(await this.#logs.list())
    for (const entry of this.#entries.values()) {
      const { spec, state } = entry.record
      if (state !== 'running' && state !== 'paused') continue
      open.delete(spec.id)
      const stderr = spec.tty === true ? {} : { stderr: this.#fifos.path(`${spec.id}-err`) }
      await this.#logs.open({ id: spec.id, stdout: this.#fifos.path(`${spec.id}-out`), ...stderr, dir: this.logDir(spec.id), ...logLimits(spec) })
    }
    for (const id of open) if (this.#opened && this.#entries.get(id)?.starting !== true) await this.#logs.finish(id)
  }

  // — small helpers —

  /** For changes that reconciliation finds again by itself. */
  #saveSoon(r: ContainerRecord): void { this.#records.save(r).catch(() => undefined) }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw new EngineError('not-found', `No such container: ${id}`)
    return entry
  }

  /** An operation that waited for its turn may find the container removed. */
  #present(entry: Entry): void {
    const { id } = entry.record.spec
    if (this.#entries.get(id) !== entry) throw new EngineError('not-found', `No such container: ${id}`)
  }

  #runningEntry(id: string): Entry {
    const entry = this.#entry(id)
    const { state } = entry.record
    if (state === 'paused') throw new EngineError('conflict', `container ${id} is paused, unpause the container first`)
    if (state !== 'running') throw new EngineError('conflict', `container ${id} is not running`)
    return entry
  }

  #locked<T>(entry: Entry, work: () => Promise<T>): Promise<T> {
    const result = entry.tail.then(work)
    entry.tail = result.catch(() => undefined)
    return result
  }
}

/** True if `p` settles within `ms`. */
async function within(p: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => { timer = setTimeout(() => { resolve(false) }, ms) })
  try {
    return await Promise.race([p.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}
