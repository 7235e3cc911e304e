/** A container's task in containerd: made from its spec, started, ended, removed. */
import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, hasCode, ociAny, orAbsent, protoAny } from '../containerd/index.ts'
import type { ContainerdClient, Mount } from '../containerd/index.ts'
import { EngineError } from '../engine.ts'
import type { Attachments } from './attach.ts'
import { attachAhead } from './attach-ahead.ts'
import { cgroups } from './cgroups.ts'
import type { FifoPool } from './fifos.ts'
import type { LogClient } from './log-client.ts'
import { folderInTheWay, removeBundle } from './lost-bundle.ts'
import { endLostShims } from './lost-shims.ts'
import { cgroupOf, commandOf, environmentOf, logLimits } from './model.ts'
import type { Entry } from './model.ts'
import { ociSpec } from './oci-spec.ts'
import type { ContainerRecord } from './records.ts'
import { layerDirectories, readInRoot } from './rootfs.ts'
import type { SharedMemory } from './shared-memory.ts'
import { isAlive } from './table.ts'
import type { ContainerTable } from './table.ts'
import { lookupUser } from './users.ts'
import type { ProcessUser } from './users.ts'

/** On container records and snapshots: what carries it and has no record of ours is removed. */
export const OWNER_LABEL = 'gantry/container'

export const SIGKILL = 9
/** From SIGKILL to the exit; longer means a process the kernel cannot end. */
export const KILL_MS = 10_000
/** How long a run that has ended may take to be cleared away. */
const CLEARED_MS = 15_000
const CLEARED_RETRY_MS = 100
/** containerd clears a run away in less, if it does at all. */
const FORGOTTEN_MS = 3000
const OPEN_ATTEMPTS = 3
/** The folder or socket of the run before is there still, or went away under the new shim. */
const RUN_BEFORE_IN_THE_WAY = /failed to start shim: .*(: file exists|no such file or directory|connection refused|address already in use)/s
const MAX_USER_FILE_BYTES = 1 << 20
/** Debian's tini, by the names it has there and in Docker's own packages. */
const INITS = ['/usr/bin/tini-static', '/usr/bin/docker-init', '/usr/libexec/docker/docker-init']

export interface TasksOptions {
  client: ContainerdClient
  containerdSocket: string
  snapshotter: string
  runDir: string
  table: ContainerTable
  fifos: FifoPool
  logs: LogClient
  attachments: Attachments
  sharedMemory: SharedMemory
  logDir(id: string): string
}

export class Tasks {
  readonly #o: TasksOptions
  readonly #client: ContainerdClient

  constructor(options: TasksOptions) {
    this.#o = options
    this.#client = options.client
  }

  /** State of runc and crun: of our own, so that equal ids of another engine on this machine do not meet. */
  get runtimeRoot(): string { return join(this.#o.runDir, 'runtime') }

  /** Resolves with the pid of the container's first process. `ready`: what must have been done before it runs. */
  async start(entry: Entry, ready: Promise<unknown>): Promise<number> {
    // It may fail while others are waited for.
    ready.catch(() => undefined)
    attachAhead()
    const { spec } = entry.record
    const { id } = spec
    const tty = spec.tty === true
    const names = [`${id}-out`, ...(tty ? [] : [`${id}-err`]), ...(spec.stdin === true ? [`${id}-in`] : [])]
    const [mounts, paths, shmPath] = await Promise.all([this.mountsOf(entry), this.#o.fifos.take(names), this.#o.sharedMemory.pathFor(spec)])
    const stdout = paths[0] as string
    const stderr = tty ? '' : paths[1] as string
    const stdin = spec.stdin === true ? paths.at(-1) as string : ''
    const make = async (): Promise<void> => {
      await this.#storeSpec(entry, mounts, shmPath)
      await this.#create({ containerId: id, rootfs: mounts, stdin, stdout, stderr, terminal: tty })
    }
    const drain = async (): Promise<void> => {
      await this.#openLog({ id, stdout, ...(tty ? {} : { stderr }), dir: this.#o.logDir(id), ...logLimits(spec) })
      // Before it runs: its first byte is theirs too.
      await this.#o.attachments.connect(id)
    }
    const held: number[] = []
    const [made, drained] = await Promise.allSettled([make(), drain().catch((e: unknown) => {
      // The shim waits for a reader, and would for ever.
      for (const path of [stdout, stderr]) if (path !== '') held.push(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
      throw e
    }), ready])
    for (const fd of held) closeSync(fd)
    if (made.status === 'rejected') throw made.reason
    if (drained.status === 'rejected') throw drained.reason
    await ready
    if (stdin !== '') this.#o.attachments.openStdin(entry, stdin)
    return this.#client.tasks.start(id)
  }

  /** Again where the log daemon was lost before it answered: it is back soon, and opens once what it is told twice. */
  async #openLog(request: Parameters<LogClient['open']>[0]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#o.logs.open(request)
        return
      } catch (e) {
        if (attempt === OPEN_ATTEMPTS || !(e instanceof EngineError) || e.code !== 'unavailable') throw e
      }
    }
  }

  /**
   * containerd may still be clearing away the run before: a deletion that was cut off by a kill of ours, or its own, goes on without
   * anybody being told.
   */
  async #create(task: Parameters<ContainerdClient['tasks']['create']>[0]): Promise<void> {
    const began = Date.now()
    for (;; await sleep(CLEARED_RETRY_MS)) {
      try {
        await this.#client.tasks.create(task)
        return
      } catch (e) {
        const waitedMs = Date.now() - began
        if (waitedMs > CLEARED_MS) throw e
        const { message } = e as Error
        // Of a start that failed when containerd was lost, and could not be cleared away.
        if (hasCode(e, Code.alreadyExists)) await this.delete(task.containerId)
        else if (!RUN_BEFORE_IN_THE_WAY.test(message)) throw e
        const folder = waitedMs > FORGOTTEN_MS ? folderInTheWay(message, task.containerId) : undefined
        if (folder !== undefined) await this.#removeForgotten(task.containerId, folder)
      }
    }
  }

  /** What containerd has no task for, and no process stands in. */
  async #removeForgotten(id: string, folder: string): Promise<void> {
    if (await orAbsent(this.#client.tasks.get(id)) !== undefined) return
    endLostShims({ containerdSocket: this.#o.containerdSocket, namespace: this.#client.namespace }, (other) => other === id)
    await removeBundle(folder)
  }

  /** Gives containerd the spec; on later starts only if it changed. */
  async #storeSpec(entry: Entry, mounts: Mount[], shmPath: string | undefined): Promise<void> {
    const { spec } = entry.record
    const oci = this.#ociSpec(entry.record, mounts, shmPath)
    const json = JSON.stringify(oci)
    if (entry.storedSpec === json) return
    const container = {
      id: spec.id, image: spec.image, snapshotter: this.#o.snapshotter, snapshotKey: spec.id,
      labels: { [OWNER_LABEL]: spec.id },
      runtime: {
        name: 'io.containerd.runc.v2',
        options: protoAny('containerd.runc.v1.Options', { binaryName: spec.runtime ?? 'runc', root: this.runtimeRoot }),
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

  #ociSpec(record: ContainerRecord, mounts: Mount[], shmPath: string | undefined): object {
    const { spec, image } = record
    const init = spec.init === true ? initPath() : undefined
    return ociSpec(spec, {
      args: commandOf(record),
      env: environmentOf(record),
      cwd: spec.workingDir ?? (image.workingDir || '/'),
      user: this.user(record, spec.user, mounts),
      cgroupsPath: cgroupOf(spec),
      cgroupV2: cgroups().v2,
      pidOf: (other) => {
        const pid = this.#o.table.entries.get(other)?.record.pid
        if (pid === undefined) throw new EngineError('conflict', `cannot join the namespaces of ${other}: it is not running`)
        return pid
      },
      ...(init === undefined ? {} : { initPath: init }),
      ...(shmPath === undefined ? {} : { shmPath }),
    })
  }

  /** Who a process of this container is; `user` left out is the image's. Groups given to the container are its processes' too. */
  user(record: ContainerRecord, user: string | undefined, mounts: Mount[]): ProcessUser {
    return this.lookup(user ?? record.image.user, mounts, record.spec.supplementalGroups, record.spec.additionalGroups)
  }

  lookup(user: string, mounts: Mount[], supplemental?: number[], groups?: string[]): ProcessUser {
    const layers = layerDirectories(mounts) ?? []
    return lookupUser(user, {
      passwd: readInRoot(layers, '/etc/passwd', MAX_USER_FILE_BYTES), group: readInRoot(layers, '/etc/group', MAX_USER_FILE_BYTES),
    }, supplemental, groups)
  }

  async mountsOf(entry: Entry): Promise<Mount[]> {
    entry.mounts ??= await this.#client.snapshots.mounts(this.#o.snapshotter, entry.record.spec.id)
    return entry.mounts
  }

  /** Resolves once its task is gone, whatever state it was in. */
  async delete(id: string): Promise<void> {
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

  /** The container's own record and snapshot in containerd. */
  async deleteContainer(id: string): Promise<void> {
    await Promise.all([orAbsent(this.#client.containers.delete(id)), this.removeSnapshot(id)])
  }

  async removeSnapshot(id: string): Promise<void> { await orAbsent(this.#client.snapshots.remove(this.#o.snapshotter, id)) }

  removeFifos(id: string): void {
    this.#o.fifos.remove(['out', 'err', 'in'].map((s) => this.#o.fifos.path(`${id}-${s}`)))
  }

  /** Tells the log daemon, after its restart or ours, what runs; what does not is let go if `release` says so. */
  async resyncLogger(release: (id: string) => boolean): Promise<void> {
    const open = new Set(await this.#o.logs.list())
    for (const { record } of this.#o.table.entries.values()) {
      const { spec } = record
      if (!isAlive(record)) continue
      open.delete(spec.id)
      const stderr = spec.tty === true ? {} : { stderr: this.#o.fifos.path(`${spec.id}-err`) }
      await this.#o.logs.open({ id: spec.id, stdout: this.#o.fifos.path(`${spec.id}-out`), ...stderr, dir: this.#o.logDir(spec.id), ...logLimits(spec) })
    }
    for (const id of open) if (release(id)) await this.#o.logs.finish(id)
  }
}

let init: string | undefined

/** undefined if this machine has none. */
function initPath(): string | undefined { return init ??= INITS.find((p) => existsSync(p)) }
