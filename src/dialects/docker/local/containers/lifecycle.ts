/**
 * Starting and ending containers. Operations of one container take turns; an exit is one of them. What the engine says is the truth: its
 * exits come as events, and after a restart of this process from its list.
 */
import { mkdirSync, statSync } from 'node:fs'
import type { EngineEvent } from '../../../../engine/engine.ts'
import { within } from '../../../../engine/within.ts'
import { DockerError } from '../../errors.ts'
import { parseNetworkMode } from '../../shared/network-mode.ts'
import { parseSignal, SIGKILL } from '../../shared/signals.ts'
import { nowMs } from '../../shared/time.ts'
import type { Container } from './container.ts'
import { dockerError, emit, saveSoon } from './context.ts'
import type { Context } from './context.ts'
import { checkJoined } from './joined.ts'
import { noteNetworks, openSandbox } from './sandbox.ts'
import { engineMounts, environment, hostNames } from './spec.ts'

const DEFAULT_STOP_S = 10
/** From SIGKILL to the exit. */
const KILL_MS = 10_000
/** An exit waits this long for its output to be read by those attached. */
const DRAIN_MS = 2000
const DEFAULT_STOP_SIGNAL = 'SIGTERM'
const UNAVAILABLE_RETRY_MS = 1000

export interface LifecycleHooks {
  /** It runs: since `startedAtMs`. `adopted`: it ran before this process began. */
  onRunning(c: Container, adopted: boolean): void
  /** It does not any more. */
  onStopped(c: Container): void
  /** `--rm`. */
  autoRemove(c: Container): Promise<void>
}

export class Lifecycle {
  readonly #x: Context
  readonly #hooks: LifecycleHooks
  #closed = false

  constructor(x: Context, hooks: LifecycleHooks) {
    this.#x = x
    this.#hooks = hooks
  }

  /** No restarts by policy from now on. */
  close(): void {
    this.#closed = true
    for (const c of this.#x.registry.all()) clearTimeout(c.restartTimer)
  }

  // — start —

  async start(c: Container): Promise<void> {
    await c.locked(async () => {
      if (c.paused) throw new DockerError('conflict', 'cannot start a paused container, try unpause instead')
      if (c.alive) throw new DockerError('not-modified', 'container is already running')
      if (c.removing || c.dead) throw new DockerError('conflict', 'container is marked for removal and cannot be started')
      clearTimeout(c.restartTimer)
      c.restartManager.reset()
      c.record.restartCount = 0
      c.record.manuallyStopped = false
      await this.#start(c)
    })
  }

  /** Within the container's turn. */
  async #start(c: Container): Promise<void> {
    const x = this.#x
    c.record.error = ''
    const again = c.restarting
    const mounted: string[] = []
    let network: Promise<void> | undefined
    try {
      makeBindSources(c)
      checkJoined(x, c)
      const [opened, volumePaths] = await both(openSandbox(x, c), mountVolumes(x, c, c.id, (name) => { mounted.push(name) }))
      // Names of the other container's, which is known only now.
      const shared = parseNetworkMode(c.record.hostConfig.NetworkMode).kind === 'container'
      network = opened.ready
      c.pid = await x.engine.containers.start(c.id, {
        network: opened.network, mounts: engineMounts(c.record, volumePaths, opened.files),
        ...(opened.env.length > 0 || shared ? { env: environment(c.record, opened.env) } : {}), ...(shared ? hostNames(c.record) : {}),
      }, network)
    } catch (e) {
      // What the network failed of is told in its own words.
      const error = this.#startError(c, await network?.then(() => e, (why: unknown) => why) ?? e)
      for (const a of c.attachments) a.end()
      await Promise.allSettled([x.cnm.deleteSandbox(c.id), ...mounted.map((name) => x.volumes.unmount(name, c.id))])
      this.#stopped(c)
      saveSoon(x, c)
      // Whoever waits for the end of a first start is told of its failure by the start itself.
      if (again) c.tellExit({ code: c.record.exitCode })
      if (c.record.hostConfig.AutoRemove === true) void this.#hooks.autoRemove(c)
      throw error
    }
    Object.assign(c, { running: true, paused: false, restarting: false })
    const info = x.engine.containers.inspect(c.id)
    Object.assign(c.record, { exitCode: 0, oomKilled: false, startedAtMs: info?.startedAtMs ?? nowMs() })
    noteNetworks(x, c, x.cnm.sandbox(c.id))
    saveSoon(x, c)
    this.#hooks.onRunning(c, false)
    emit(x, c, 'start')
  }

  /** Notes why in the record, and finds the exit code docker users know. */
  #startError(c: Container, e: unknown): DockerError {
    const plain = dockerError(e)
    const fromRuntime = /OCI runtime|runc create failed|crun|unable to start container process/.test(plain.message)
    const error = fromRuntime ? dockerError(e, 'failed to create task for container: ') : plain
    const code = this.#x.engine.containers.inspect(c.id)?.exitCode
    c.record.error = error.message
    c.record.exitCode = fromRuntime && code !== undefined && code !== 0 ? code : 128
    if (c.record.startedAtMs !== 0) c.record.finishedAtMs = nowMs()
    // The program is the user's mistake, all else the machine's.
    return [126, 127].includes(c.record.exitCode) ? new DockerError('invalid', error.message) : error
  }

  /** A container found running when this process began. */
  adopt(c: Container, pid: number, paused: boolean, startedAtMs: number): void {
    Object.assign(c, { running: true, restarting: false, paused, pid })
    if (startedAtMs !== c.record.startedAtMs) {
      // Whoever started it has been answered, perhaps, before the record was written.
      Object.assign(c.record, { startedAtMs, exitCode: 0, error: '', oomKilled: false, manuallyStopped: false })
      saveSoon(this.#x, c)
    }
    this.#hooks.onRunning(c, true)
  }

  // — exit —

  onEvent(e: EngineEvent): void {
    const c = this.#x.registry.get(e.id)
    if (c === undefined) return
    if (e.type === 'oom') {
      c.record.oomKilled = true
      emit(this.#x, c, 'oom')
    } else if (e.type === 'exit') {
      c.locked(() => this.#exited(c, e)).catch((error: unknown) => {
        this.#x.logger.error(`the end of container ${c.id} was not handled`, { error: String(error) })
      })
    }
  }

  /** Within the container's turn. An exit told twice, or one of an earlier run, changes nothing. */
  async #exited(c: Container, e: EngineEvent & { type: 'exit' }): Promise<void> {
    const x = this.#x
    if (!c.alive || e.atMs === c.record.exitSeenMs) return
    this.#hooks.onStopped(c)
    await Promise.all([
      drained(c),
      x.cnm.deleteSandbox(c.id).catch((error: unknown) => { x.logger.error(`the network of container ${c.id} stays`, { error: String(error) }) }),
      this.#unmountVolumes(c),
    ])
    const ranMs = Math.max(0, e.atMs - c.record.startedAtMs)
    Object.assign(c.record, { exitCode: e.exitCode, oomKilled: e.oomKilled, finishedAtMs: Math.max(e.atMs, c.record.startedAtMs), exitSeenMs: e.atMs })
    const pauseMs = this.#closed || c.keepAfterExit || c.removing
      ? undefined : c.restartManager.afterExit(e.exitCode, c.record.manuallyStopped, ranMs)
    if (pauseMs === undefined) {
      this.#stopped(c)
    } else {
      c.record.restartCount++
      Object.assign(c, { restarting: true, paused: false, pid: 0 })
      c.restartTimer = setTimeout(() => { this.#restartByPolicy(c) }, pauseMs)
    }
    saveSoon(x, c)
    emit(x, c, 'die', { exitCode: String(e.exitCode), execDuration: String(Math.floor(ranMs / 1000)) })
    c.tellExit({ code: e.exitCode })
    if (pauseMs === undefined && c.record.hostConfig.AutoRemove === true && !c.keepAfterExit && !c.removing) void this.#hooks.autoRemove(c)
  }

  /** What happened while this process was away, or to a machine that went down. */
  async missedExit(c: Container, e: EngineEvent & { type: 'exit' }): Promise<void> {
    Object.assign(c, { running: true })
    await c.locked(() => this.#exited(c, e))
  }

  #stopped(c: Container): void {
    Object.assign(c, { running: false, paused: false, restarting: false, pid: 0 })
    c.changed()
  }

  async #unmountVolumes(c: Container): Promise<void> {
    for (const m of c.record.mounts) {
      if (m.type !== 'volume' || m.volume === undefined) continue
      await this.#x.volumes.unmount(m.volume, c.id).catch((error: unknown) => {
        this.#x.logger.warn(`volume ${m.volume} stays mounted`, { error: String(error) })
      })
    }
  }

  #restartByPolicy(c: Container): void {
    c.locked(async () => {
      if (!c.restarting || c.removing || this.#closed) return
      await this.#start(c)
    }).catch((e: unknown) => {
      this.#x.logger.warn(`container ${c.id} could not be restarted`, { error: String(e) })
      this.#againIfUnavailable(c, e)
    })
  }

  /** What it stands on is away for a moment. */
  #againIfUnavailable(c: Container, e: unknown): void {
    if (this.#closed || c.removing || c.alive || !(e instanceof DockerError) || e.kind !== 'unavailable') return
    Object.assign(c, { running: true, restarting: true })
    c.changed()
    c.restartTimer = setTimeout(() => { this.#restartByPolicy(c) }, UNAVAILABLE_RETRY_MS)
  }

  /** When this process begins: for one whose policy wants it to run. */
  async startAtOpening(c: Container): Promise<void> {
    try {
      await c.locked(async () => { if (!c.running && !c.removing) await this.#start(c) })
    } catch (e) {
      this.#againIfUnavailable(c, e)
      throw e
    }
  }

  // — stop, kill, restart, pause —

  async stop(c: Container, options: { timeoutS?: number; signal?: string }): Promise<void> {
    if (!c.running) throw new DockerError('not-modified', 'container is already stopped')
    await this.#end(c, options)
    // Whatever happens after the answer: what somebody has stopped is not started again by its policy.
    await this.#x.records.save(c.record)
    emit(this.#x, c, 'stop')
  }

  /** Signal, patience, SIGKILL; resolves when the exit has been handled. */
  async #end(c: Container, { timeoutS, signal }: { timeoutS?: number; signal?: string }): Promise<void> {
    const name = signal || c.record.config.StopSignal || DEFAULT_STOP_SIGNAL
    const number = signalOr(name, signal !== undefined && signal !== '')
    const graceS = timeoutS ?? c.record.config.StopTimeout ?? DEFAULT_STOP_S
    const exit = c.exit.promise
    c.record.manuallyStopped = true
    c.restartManager.cancel()
    if (await this.#cancelRestart(c)) return
    if (graceS !== 0) {
      await this.#signal(c, number)
      if (c.paused) await this.#resume(c)
      if (await within(exit, graceS < 0 ? undefined : graceS * 1000)) return
    }
    await this.#killAndWait(c, exit)
  }

  /** One that waits for its restart stays as it is: stopped. True if that was so. */
  async #cancelRestart(c: Container): Promise<boolean> {
    if (!c.restarting) return false
    clearTimeout(c.restartTimer)
    return c.locked(async () => {
      if (!c.restarting) return false
      this.#stopped(c)
      await this.#x.records.save(c.record)
      c.tellExit({ code: c.record.exitCode })
      return true
    })
  }

  async #killAndWait(c: Container, exit: Promise<unknown>): Promise<void> {
    if (!c.alive) return
    emit(this.#x, c, 'kill', { signal: String(SIGKILL) })
    await this.#x.engine.containers.stop(c.id, 0).catch((e: unknown) => { throw dockerError(e) })
    if (c.paused) await this.#resume(c).catch(() => undefined)
    if (!await within(exit, KILL_MS)) throw new DockerError('failed', 'tried to kill container, but did not receive an exit event')
  }

  async #signal(c: Container, signal: number): Promise<void> {
    emit(this.#x, c, 'kill', { signal: String(signal) })
    await this.#x.engine.containers.kill(c.id, signal).catch((e: unknown) => { throw dockerError(e) })
  }

  async kill(c: Container, ref: string, signal: string | undefined): Promise<void> {
    const number = signal === undefined || signal === '' ? SIGKILL : parseSignal(signal)
    if (!c.running) throw new DockerError('conflict', `cannot kill container: ${ref}: container ${c.id} is not running`)
    const { StopSignal: own = '' } = c.record.config
    const ends = number === SIGKILL || own === '' || number === signalOr(own, false)
    const exit = c.exit.promise
    if (ends) c.restartManager.cancel()
    c.record.manuallyStopped = true
    if (await this.#cancelRestart(c)) return
    if (number === SIGKILL) {
      await this.#killAndWait(c, exit)
      await this.#x.records.save(c.record)
      return
    }
    await this.#x.records.save(c.record)
    await this.#signal(c, number)
    if (ends && c.paused) await this.#resume(c)
  }

  async restart(c: Container, options: { timeoutS?: number; signal?: string }): Promise<void> {
    if (c.removing || c.dead) throw new DockerError('conflict', 'container is marked for removal and cannot be started')
    c.keepAfterExit = true
    try {
      if (c.running) {
        await this.#end(c, options)
        emit(this.#x, c, 'stop')
      }
    } finally {
      c.keepAfterExit = false
    }
    await this.start(c)
    emit(this.#x, c, 'restart')
  }

  /** For a removal: it does not run when this resolves. */
  async endForRemoval(c: Container): Promise<void> {
    c.restartManager.cancel()
    const exit = c.exit.promise
    if (await this.#cancelRestart(c)) return
    if (c.alive) await this.#killAndWait(c, exit)
  }

  async pause(c: Container): Promise<void> {
    await c.locked(async () => {
      if (!c.running) throw new DockerError('conflict', `container ${c.id} is not running`)
      if (c.paused) throw new DockerError('conflict', `container ${c.id} is already paused`)
      if (c.restarting) throw new DockerError('conflict', `Container ${c.id} is restarting, wait until the container is running`)
      await this.#x.engine.containers.pause(c.id).catch((e: unknown) => { throw dockerError(e, `cannot pause container ${c.id}: `) })
      c.paused = true
      c.changed()
      c.health?.stop()
      emit(this.#x, c, 'pause')
    })
  }

  async unpause(c: Container): Promise<void> {
    if (!c.paused) throw new DockerError('failed', `Container ${c.id} is not paused`)
    await this.#resume(c)
  }

  async #resume(c: Container): Promise<void> {
    await this.#x.engine.containers.resume(c.id).catch((e: unknown) => { throw dockerError(e, `Cannot unpause container ${c.id}: `) })
    if (!c.paused) return
    c.paused = false
    c.changed()
    c.health?.resume(c.record.startedAtMs)
    emit(this.#x, c, 'unpause')
  }
}

/** Configurations may hold signals this machine does not know: the default stands in for those. */
function signalOr(name: string, strict: boolean): number {
  try {
    return parseSignal(name)
  } catch (e) {
    if (strict) throw e
    return parseSignal(DEFAULT_STOP_SIGNAL)
  }
}

/** Host paths in the order of the container's mounts; `mounted` hears of each volume to be unmounted again. */
export async function mountVolumes(x: Context, c: Container, user: string, mounted: (name: string) => void): Promise<(string | undefined)[]> {
  const paths: (string | undefined)[] = []
  for (const m of c.record.mounts) {
    if (m.type !== 'volume') { paths.push(undefined); continue }
    const path = await x.volumes.mount(m.volume!, user, { readOnly: m.readOnly, target: m.target, ...(m.subpath ? { subpath: m.subpath } : {}) })
    mounted(m.volume!)
    paths.push(path)
  }
  return paths
}

export function makeBindSources(c: Container): void {
  for (const m of c.record.mounts) {
    if (m.type !== 'bind') continue
    const there = statSync(m.source!, { throwIfNoEntry: false }) !== undefined
    if (there) continue
    if (m.createSource !== true) {
      throw new DockerError('invalid', `invalid mount config for type "bind": bind source path does not exist: ${m.source}`)
    }
    try {
      mkdirSync(m.source!, { recursive: true, mode: 0o755 })
    } catch (e) {
      throw new DockerError('failed', `error while creating mount source path '${m.source}': ${(e as Error).message}`)
    }
  }
}

async function drained(c: Container): Promise<void> {
  if (c.attachments.size > 0) await within(Promise.all([...c.attachments].map((a) => a.drained)), DRAIN_MS)
}

/** Both to their ends, so that the one that fails leaves nothing under way. */
async function both<A, B>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  const [ra, rb] = await Promise.allSettled([a, b])
  if (ra.status === 'rejected') throw ra.reason
  if (rb.status === 'rejected') throw rb.reason
  return [ra.value, rb.value]
}
