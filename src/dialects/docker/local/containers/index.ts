/** The containers of one machine as Docker knows them. `openContainers` finds again what an earlier process left. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerInfo } from '../../../../engine/engine.ts'
import type { ContainersBackend } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { Execs } from '../execs.ts'
import { containerEndpoints, rewriteFiles } from './sandbox.ts'
import type { ContainerEndpoints, ContainerIndex, ImageFacts, Parts } from '../parts.ts'
import { archiveGet, archivePut, archiveStat, changes, exportRoot } from './archive.ts'
import { attach } from './attach.ts'
import { commitContainer } from './commit.ts'
import { Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'
import { createContainer } from './create.ts'
import { HealthMonitor, probeCommand, systemClock } from './health.ts'
import { readHostFacts } from './host-facts.ts'
import { inspectContainer } from './inspect.ts'
import { Lifecycle } from './lifecycle.ts'
import { listContainers } from './list.ts'
import { containerLogs } from './logs.ts'
import { openRecords } from './records.ts'
import { Registry } from './registry.ts'
import { autoRemove, pruneContainers, removeContainer } from './removal.ts'
import { DOCKER_LABEL } from './spec.ts'
import { Sampler } from './stats.ts'
import { top } from './top.ts'
import { renameContainer, updateContainer } from './update.ts'
import { waitFor } from './wait.ts'

/** Containers that are started at once when this process begins. */
const STARTS_AT_ONCE = 4

export interface LocalContainers {
  backend: ContainersBackend
  execs: Execs
  index: ContainerIndex
  endpoints: ContainerEndpoints
  /** For `info`. */
  counts(): { all: number; running: number; paused: number; stopped: number }
  /** Restart policies begin to act; resolves when each that wants it was started once. Call it when all parts are there. */
  begin(): Promise<void>
  /** Containers go on. */
  close(): Promise<void>
}

export async function openContainers(parts: Parts, image: (reference: string) => Promise<ImageFacts>): Promise<LocalContainers> {
  const filesDir = join(parts.dataDir, 'files')
  mkdirSync(filesDir, { recursive: true, mode: 0o711 })
  const registry = new Registry()
  const x: Context = {
    ...parts, registry, records: openRecords(join(parts.dataDir, 'containers')), facts: readHostFacts(), filesDir, image,
  }
  const execs = new Execs(x)
  const life: Lifecycle = new Lifecycle(x, {
    onRunning: (c, adopted) => { watchHealth(x, execs, c, adopted) },
    onStopped: (c) => { c.health?.stop() },
    autoRemove: (c) => autoRemove(x, life, c),
  })
  const sampler = new Sampler(x)
  const missed = adoptAll(x, life)
  const off = [
    x.engine.onEvent((e) => { life.onEvent(e) }),
    x.cnm.onEvent((e) => {
      if (e.type === 'files') rewriteFiles(x, e.sandboxId, e)
      // Its row tells of its networks.
      else if ('sandboxId' in e) registry.get(e.sandboxId)?.changed()
    }),
  ]
  await sweep(x)
  return {
    backend: containersBackend(x, life, sampler),
    execs,
    index: registry,
    endpoints: containerEndpoints(x),
    counts: () => {
      const out = { all: 0, running: 0, paused: 0, stopped: 0 }
      for (const c of registry.all()) {
        out.all++
        if (!c.running) out.stopped++
        else if (c.paused) out.paused++
        else out.running++
      }
      return out
    },
    begin: () => begin(x, life, missed),
    close: async () => {
      life.close()
      sampler.close()
      execs.close()
      for (const c of registry.all()) c.health?.stop()
      for (const f of off) f()
      await x.records.settled()
    },
  }
}

type Missed = { c: Container; info: ContainerInfo }[]

/** Records and the engine's list together: what runs is taken over; whose end nobody has handled is answered. */
function adoptAll(x: Context, life: Lifecycle): Missed {
  const missed: Missed = []
  const found = new Map(x.engine.containers.list().filter((i) => i.labels[DOCKER_LABEL] !== undefined).map((i) => [i.id, i]))
  for (const record of x.records.load().sort((a, b) => a.createdAtMs - b.createdAtMs)) {
    const info = found.get(record.id)
    if (info === undefined) {
      x.logger.warn(`container ${record.id} (${record.name}) has lost its file system and is forgotten`)
      void x.records.delete(record.id)
      continue
    }
    const c = new Container(record)
    x.registry.reserve(record.name, record.id)
    x.registry.add(c)
    if (info.state === 'running' || info.state === 'paused') life.adopt(c, info.pid ?? 0, info.state === 'paused', info.startedAtMs ?? record.startedAtMs)
    else if (info.state === 'exited' && info.finishedAtMs !== record.exitSeenMs) missed.push({ c, info })
  }
  return missed
}

/** What a process that was killed left of containers it was making or removing. */
async function sweep(x: Context): Promise<void> {
  const { registry } = x
  const tasks: Promise<unknown>[] = []
  const attempt = (what: string, work: Promise<unknown>): void => {
    tasks.push(work.catch((e: unknown) => { x.logger.error(`${what} could not be removed`, { error: String(e) }) }))
  }
  for (const info of x.engine.containers.list()) {
    if (info.labels[DOCKER_LABEL] !== undefined && registry.get(info.id) === undefined) attempt(`container ${info.id}`, x.engine.containers.remove(info.id, true))
  }
  for (const { id } of x.cnm.sandboxes()) {
    if (/^[0-9a-f]{64}$/.test(id) && registry.get(id)?.alive !== true) attempt(`network of container ${id}`, x.cnm.deleteSandbox(id))
  }
  for (const id of readdirSync(x.filesDir)) if (registry.get(id) === undefined) rmSync(join(x.filesDir, id), { recursive: true, force: true })
  const all = [...registry.all()]
  attempt('volumes of lost containers', x.volumes.reconcile(new Set(all.map((c) => c.id)), new Set(all.filter((c) => c.alive).map((c) => c.id))))
  await Promise.all(tasks)
}

async function begin(x: Context, life: Lifecycle, missed: Missed): Promise<void> {
  const report = (c: Container) => (e: unknown): void => { x.logger.warn(`container ${c.name} could not be started`, { error: String(e) }) }
  for (const { c, info } of missed) {
    if (c.running) continue
    // A machine that went down under a container: it ran until then.
    if (info.startedAtMs !== undefined && info.startedAtMs !== c.record.startedAtMs) {
      Object.assign(c.record, { startedAtMs: info.startedAtMs, manuallyStopped: false })
    }
    if (c.record.startedAtMs === 0) continue
    await life.missedExit(c, {
      type: 'exit', id: c.id, exitCode: info.exitCode ?? 255, oomKilled: info.oomKilled === true, atMs: info.finishedAtMs ?? Date.now(),
    }).catch(report(c))
  }
  const waiting = [...x.registry.all()].filter((c) => !c.running && !c.removing)
  const worker = async (): Promise<void> => {
    for (let c = waiting.shift(); c !== undefined; c = waiting.shift()) {
      const { record: r } = c
      if (r.hostConfig.AutoRemove === true) await autoRemove(x, life, c)
      else if (r.startedAtMs !== 0 && c.restartManager.atOpening(r.exitCode, r.manuallyStopped)) await life.startAtOpening(c).catch(report(c))
    }
  }
  await Promise.all(Array.from({ length: STARTS_AT_ONCE }, worker))
}

function watchHealth(x: Context, execs: Execs, c: Container, adopted: boolean): void {
  const command = probeCommand(c.record.config)
  if (command === undefined) return
  c.health ??= new HealthMonitor(command, c.record.config.Healthcheck ?? {}, {
    clock: systemClock,
    probe: (cmd, timeoutMs) => execs.probe(c, cmd, timeoutMs),
    onStatus: (status) => {
      c.changed()
      emit(x, c, `health_status: ${status}`)
    },
  })
  if (!adopted) c.health.start(c.record.startedAtMs)
  else if (!c.paused) c.health.resume(c.record.startedAtMs)
}

function containersBackend(x: Context, life: Lifecycle, sampler: Sampler): ContainersBackend {
  const get = (ref: string): Container => x.registry.resolve(ref)
  return {
    list: (options) => listContainers(x, options),
    create: (request) => createContainer(x, request),
    inspect: async (ref, { size }) => inspectContainer(x, get(ref), size),
    start: async (ref) => life.start(get(ref)),
    stop: async (ref, options) => life.stop(get(ref), options),
    restart: async (ref, options) => life.restart(get(ref), options),
    kill: async (ref, signal) => life.kill(get(ref), ref, signal),
    pause: async (ref) => life.pause(get(ref)),
    unpause: async (ref) => life.unpause(get(ref)),
    rename: async (ref, name) => renameContainer(x, get(ref), name),
    update: async (ref, wish) => updateContainer(x, get(ref), wish),
    wait: (ref, condition, signal) => Promise.resolve().then(() => {
      const result = waitFor(get(ref), condition, signal)
      // Whoever asked may never look.
      result.catch(() => undefined)
      return { result }
    }),
    remove: async (ref, options) => removeContainer(x, life, ref, options),
    prune: (filters) => pruneContainers(x, life, filters),
    attach: async (ref, options) => attach(x, get(ref), ref, options),
    resize: async (ref, { height, width }) => {
      const c = get(ref)
      if (!c.alive) throw new DockerError('conflict', `container ${c.id} is not running`)
      await x.engine.containers.resize(c.id, { rows: height, columns: width }).catch((e: unknown) => { throw dockerError(e) })
      emit(x, c, 'resize', { height: String(height), width: String(width) })
    },
    logs: async (ref, options) => containerLogs(x, get(ref), options),
    top: async (ref, psArgs) => top(x, get(ref), psArgs),
    stats: async (ref, { stream, oneShot }) => {
      const c = get(ref)
      return stream ? sampler.stream(c) : single(sampler.once(c, oneShot))
    },
    changes: async (ref) => changes(x, get(ref)),
    export: async (ref) => exportRoot(x, get(ref)),
    archiveStat: async (ref, path) => archiveStat(x, get(ref), ref, path),
    archiveGet: async (ref, path) => archiveGet(x, get(ref), ref, path),
    archivePut: async (ref, path, tar, options) => archivePut(x, get(ref), ref, path, tar, options),
    commit: async (ref, options) => commitContainer(x, get(ref), options),
  }
}

async function* single<T>(value: Promise<T>): AsyncGenerator<T> { yield await value }
