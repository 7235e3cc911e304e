/**
 * One Pod on this node. Its loop observes (the engine's records), plans (plan.ts), applies each step once, and reports. It
 * turns when something happened: the API's object, a container, a probe, a finished step or a planned time.
 */
import { join } from 'node:path'
import { isReason } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import type { Container, Pod, PodStatus, Secret } from '../../core/types/index.ts'
import { EngineError } from '../../engine/engine.ts'
import type { ContainerInfo } from '../../engine/engine.ts'
import { NetworkError } from '../../network/network.ts'
import { JsonFile } from '../atomic-file.ts'
import { errorText } from '../error-text.ts'
import { UNKNOWN_EXIT, adopt, ending } from './adopt.ts'
import { restartDelayMs, setupDelayMs } from './backoff.ts'
import { containerId } from './container-spec.ts'
import type { NodeContext } from './context.ts'
import { ConfigError } from './env.ts'
import { runHandler } from './handlers.ts'
import { ImageError } from './images.ts'
import { nextBackoffLevel, plan } from './plan.ts'
import type { Step } from './plan.ts'
import { ContainerProbes } from './probes.ts'
import { refsOf } from './refs-of.ts'
import { createContainer, postStart, stopBy, stopContainer, terminationLog } from './runner.ts'
import type { RunnerInput } from './runner.ts'
import { makeSandbox, mountVolumes, mountedPaths, portHolders, readTerminationMessage, refreshVolumes, removeSurroundings } from './setup.ts'
import { podPhase, podStatus, terminatedState } from './status.ts'
import { StatusWriter } from './status-writer.ts'
import { containerViews, ended, restarts } from './view.ts'
import type { ContainerView, PodView } from './view.ts'

/** A Pod that starts quicker than this is reported once, when it runs. */
const FIRST_REPORT_MS = 150
const REFRESH_RETRY_MS = 5000
/** A Pod's first second brings several changes, of which only the last matters to a later agent. */
const SAVE_DELAY_MS = 1000
const RETRY_MS = 1000
const MESSAGE_BYTES = 4096
const SHIM_TRIES = 5
const SHIM_RETRY_MS = 15
const SHIM_LEAVING = /ttrpc: closed|failed to start shim: .*(?:connection refused|connect: no such file or directory)|failed to start shim: mkdir .*: file exists/s

export interface WorkerHooks {
  /** A container belongs to this Pod from now on. */
  onContainer(id: string): void
  /** The Pod's own address on this node's network, undefined once it is given back. */
  onAddress(ip: string | undefined): void
  /** The Pod's network sandbox, with the host ports it published, is gone. */
  onReleased(): void
  /** True if the Pod of that uid is on its way out here: what it holds will soon be free. */
  isEnding(uid: string): boolean
  /** All is removed and nobody asks for the Pod any more. */
  onForgotten(): void
}

export class PodWorker {
  readonly uid: string
  readonly view: PodView
  #pod: Pod
  readonly #context: NodeContext
  readonly #hooks: WorkerHooks
  readonly #status: StatusWriter
  readonly #file: JsonFile<Pod>
  readonly #probes = new Map<string, ContainerProbes>()
  /** Every container of the Pod that the engine may still have. */
  readonly #ids: Set<string>
  readonly #bornMs = Date.now()
  /** Ended before this agent knew it, with nothing left here: its status is final. */
  readonly #silent: boolean
  #volumePaths: ReadonlyMap<string, string> = new Map()
  #renewAtMs: number | undefined
  #refreshing = false
  #setupFailures = { sandbox: 0, volumes: 0 }
  readonly #createFailures = new Map<string, number>()
  #turning = false
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** `found`: the engine's containers that bear the Pod's uid. */
  constructor(context: NodeContext, pod: Pod, found: readonly ContainerInfo[], hooks: WorkerHooks) {
    this.#context = context
    this.#pod = pod
    this.#hooks = hooks
    this.uid = pod.metadata.uid!
    const startMs = pod.status?.startTime === undefined ? Date.now() : Date.parse(pod.status.startTime)
    this.view = {
      uid: this.uid, spec: pod.spec, gone: false, startTimeMs: startMs, sandbox: 'none', volumes: 'none', clean: false, deleted: false,
      ops: new Set(), containers: containerViews(pod.spec),
    }
    this.#ids = adopt(this.view, pod, found)
    const sandbox = context.network.sandboxes().find(s => s.id === this.uid)
    const podIP = sandbox?.ip ?? (pod.spec.hostNetwork === true ? context.hostIP : undefined)
    if (podIP !== undefined) this.view.podIP = podIP
    if (sandbox !== undefined) this.view.sandbox = 'ready'
    const phase = pod.status?.phase
    if (phase === 'Succeeded' || phase === 'Failed') {
      this.view.failed = { phase, ...(pod.status?.reason && { reason: pod.status.reason }), ...(pod.status?.message && { message: pod.status.message }) }
    }
    this.#silent = this.view.failed !== undefined && found.length === 0
    this.#file = new JsonFile(stateFile(context, this.uid), SAVE_DELAY_MS)
    this.#status = new StatusWriter(context.client, {
      current: () => this.#pod,
      compute: () => this.#silent || this.view.gone ? undefined : podStatus(this.view, this.#pod.status, context.hostIP, Date.now()),
      accepted: p => this.#accept(p),
    })
    for (const r of refsOf(pod)) context.refs.retain(r, this.uid)
    // Content mounted by an earlier agent is still there; it is brought up to date without making anybody wait.
    if (sandbox !== undefined && this.#ids.size > 0) {
      this.view.volumes = 'ready'
      this.#volumePaths = mountedPaths(context, pod)
      this.#renewAtMs = 0
    }
    this.#noteDeletion(true)
    for (const id of this.#ids) hooks.onContainer(id)
    this.#tellAddress()
    this.#save()
    this.kick()
  }

  get pod(): Pod { return this.#pod }
  /** Deleted, or ended by itself. */
  get ending(): boolean { return this.view.deleting !== undefined || this.view.gone || ended(this.view) !== undefined }

  /** The API's object has changed. */
  update(pod: Pod): void {
    if (older(pod, this.#pod)) return
    const before = this.#pod
    this.#pod = pod
    this.view.spec = pod.spec
    const specs = new Map<string, Container>([...(pod.spec.initContainers ?? []), ...pod.spec.containers].map(c => [c.name, c]))
    for (const c of this.view.containers) {
      const spec = specs.get(c.name)
      if (spec === undefined) continue
      if (spec.image !== c.spec.image) {
        c.imagePresent = false
        if (c.state === 'running' && c.role !== 'init') c.stopWanted = { message: `Container ${c.name} definition changed, will be restarted` }
      }
      c.spec = spec
    }
    const phase = pod.status?.phase
    if ((phase === 'Succeeded' || phase === 'Failed') && this.view.failed === undefined && ended(this.view) === undefined) {
      // Ended by others (an eviction, a lost node): what still runs here is to stop.
      this.view.failed = { phase, ...(pod.status?.reason && { reason: pod.status.reason }), ...(pod.status?.message && { message: pod.status.message }) }
    }
    this.#noteDeletion(false)
    const labelsChanged = JSON.stringify([before.metadata.labels, before.metadata.annotations])
      !== JSON.stringify([pod.metadata.labels, pod.metadata.annotations])
    if (labelsChanged && this.view.volumes === 'ready') this.#renewAtMs = 0
    this.#save()
    this.kick()
  }

  /** It is not in the API any more. */
  vanish(): void {
    if (this.view.gone) return
    this.view.gone = true
    const graceS = this.#pod.metadata.deletionGracePeriodSeconds ?? this.view.spec.terminationGracePeriodSeconds ?? 30
    this.view.deleting ??= { deadlineMs: Date.now() + graceS * 1000 }
    this.kick()
  }

  /** A ConfigMap or Secret it names has changed. */
  refsChanged(): void {
    if (this.view.volumes === 'ready') this.#renewAtMs = 0
    delete this.view.volumesRetryAtMs
    for (const c of this.view.containers) if (c.waiting?.reason === 'CreateContainerConfigError') delete c.retryAtMs
    this.kick()
  }

  /** Images have become available somewhere in the cluster. */
  imagesChanged(has: (image: string) => boolean): void {
    for (const c of this.view.containers) {
      if (c.retryAtMs === undefined || !/ErrImagePull|ImagePullBackOff/.test(c.waiting?.reason ?? '') || !has(c.spec.image ?? '')) continue
      delete c.retryAtMs
      this.kick()
    }
  }

  /** Another Pod's sandbox has gone: its ports may be the ones this Pod waits for. */
  portsReleased(): void {
    if (this.view.sandboxRetryAtMs !== Infinity) return
    delete this.view.sandboxRetryAtMs
    this.kick()
  }

  /** The server is there again: what it has not been told is told now. */
  reconnected(): void {
    if (this.#renewAtMs !== undefined && this.view.volumes === 'ready') this.#renewAtMs = Math.min(this.#renewAtMs, Date.now())
    this.kick()
  }

  /** Turns the loop soon. */
  kick(): void {
    if (this.#turning || this.#closed) return
    this.#turning = true
    queueMicrotask(() => {
      this.#turning = false
      if (!this.#closed) this.#turn()
    })
  }

  /** Stops working; containers stay. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#status.close()
    for (const p of this.#probes.values()) p.stop()
    await this.#file.flush()
  }

  #turn(): void {
    const nowMs = Date.now()
    for (const c of this.view.containers) this.#observe(c, nowMs)
    const { steps, wakeAtMs } = plan(this.view, nowMs)
    for (const step of steps) this.#apply(step)
    this.#report(nowMs)
    if (this.view.gone && this.view.clean && this.view.ops.size === 0) return this.#forget()
    let atMs = wakeAtMs ?? Infinity
    for (const c of this.view.containers) {
      if (c.waiting?.reason === 'ErrImagePull' && c.retryAtMs !== undefined) atMs = Math.min(atMs, nowMs + RETRY_MS)
    }
    if (this.#renewAtMs !== undefined && this.view.deleting === undefined && !this.#refreshing) {
      if (this.#renewAtMs <= nowMs) void this.#refresh()
      else atMs = Math.min(atMs, this.#renewAtMs)
    }
    clearTimeout(this.#timer)
    this.#timer = atMs === Infinity ? undefined : setTimeout(() => this.kick(), Math.min(Math.max(1, atMs - nowMs), 2 ** 31 - 1))
  }

  /** Takes over what the engine says of the container. */
  #observe(c: ContainerView, nowMs: number): void {
    if (c.waiting?.reason === 'ErrImagePull' && c.retryAtMs !== undefined && c.op === undefined && this.#reported(c)) {
      c.waiting = { reason: 'ImagePullBackOff', message: `Back-off pulling image "${c.spec.image}": ${c.waiting.message}` }
      this.#event('Normal', 'BackOff', `Back-off pulling image "${c.spec.image}"`, c)
    }
    if (c.state !== 'running' || c.op === 'start') return
    const info = this.#context.engine.containers.inspect(c.id!)
    if (info !== undefined && info.state !== 'exited') {
      if (!this.#probes.has(c.name)) this.#startProbes(c)
      return
    }
    this.#probes.get(c.name)?.stop()
    this.#probes.delete(c.name)
    Object.assign(c, info === undefined ? { exitCode: UNKNOWN_EXIT, finishedAtMs: nowMs } : ending(info), { state: 'exited', started: false, ready: false })
    delete c.stopWanted
    this.#ended(c)
  }

  /** The state has been in the API as ErrImagePull, so that a watcher has seen it. */
  #reported(c: ContainerView): boolean {
    const all = [...(this.#pod.status?.containerStatuses ?? []), ...(this.#pod.status?.initContainerStatuses ?? [])]
    return all.find(s => s.name === c.name)?.state?.waiting?.reason === 'ErrImagePull'
  }

  #ended(c: ContainerView): void {
    const message = readTerminationMessage(terminationLog(this.#context, this.uid, c.name, c.attempt), MESSAGE_BYTES)
    if (message !== undefined) c.terminationMessage = message
    else if (c.spec.terminationMessagePolicy === 'FallbackToLogsOnError' && c.exitCode !== 0) void this.#messageFromLogs(c, c.id!)
    const again = this.view.deleting === undefined && ended(this.view) === undefined && restarts(c, this.view.spec.restartPolicy ?? 'Always')
    if (again && restartDelayMs(nextBackoffLevel(c)) > 0) {
      this.#event('Warning', 'BackOff', `Back-off restarting failed container ${c.name} in pod ${this.#pod.metadata.name}`, c)
    }
  }

  async #messageFromLogs(c: ContainerView, id: string): Promise<void> {
    let text = ''
    for await (const line of this.#context.engine.containers.logs(id, { tail: 80 })) text += `${line.text.toString('utf8')}\n`
    if (c.id !== id) return
    c.terminationMessage = text.slice(-2048)
    this.kick()
  }

  #report(nowMs: number): void {
    const failing = this.view.failed !== undefined || this.view.containers.some(c => c.waiting !== undefined || c.state === 'exited')
    const early = podPhase(this.view) === 'Pending' && !failing && this.view.deleting === undefined
    this.#status.touch(early ? Math.max(0, this.#bornMs + FIRST_REPORT_MS - nowMs) : 0)
  }

  #apply(step: Step): void {
    switch (step.do) {
      case 'sandbox': return this.#podOp('sandbox', () => this.#sandbox())
      case 'volumes': return this.#podOp('volumes', () => this.#volumes())
      case 'release': return this.#podOp('release', () => this.#release())
      case 'teardown': return this.#podOp('teardown', () => this.#teardown())
      case 'delete': return this.#podOp('delete', () => this.#delete())
      case 'fail':
        this.view.failed = { phase: 'Failed', reason: step.reason, message: step.message }
        this.#event('Normal', step.reason, step.message)
        return this.kick()
      case 'pull': return this.#containerOp(step.container, 'pull', c => this.#pull(c))
      case 'start': return this.#containerOp(step.container, 'start', c => this.#start(c, step.attempt, step.backoffLevel))
      case 'stop': return this.#stop(this.#container(step.container), step.deadlineMs, step.message)
    }
  }

  #podOp(name: 'sandbox' | 'volumes' | 'release' | 'teardown' | 'delete', job: () => Promise<void>): void {
    this.view.ops.add(name)
    job().catch(async (e: unknown) => {
      this.#context.logger.warn(`pod ${this.#name()}: ${name}: ${errorText(e)}`)
      await new Promise<void>(resolve => { setTimeout(resolve, RETRY_MS).unref() })
    }).finally(() => {
      this.view.ops.delete(name)
      this.kick()
    })
  }

  #containerOp(name: string, op: 'pull' | 'start', job: (c: ContainerView) => Promise<void>): void {
    const c = this.#container(name)
    c.op = op
    job(c).catch((e: unknown) => {
      this.#context.logger.error(`pod ${this.#name()}: ${op} of ${name}: ${errorText(e)}`)
      c.retryAtMs = Date.now() + RETRY_MS
    }).finally(() => {
      delete c.op
      this.kick()
    })
  }

  async #sandbox(): Promise<void> {
    try {
      const podIP = await this.#context.limiter.run(async () => this.#awaitsPorts() ? undefined : makeSandbox(this.#context, this.#pod))
      if (podIP === undefined) return
      this.view.podIP = podIP
      this.view.sandbox = 'ready'
      this.#setupFailures.sandbox = 0
      this.#tellAddress()
    } catch (e) {
      if (e instanceof NetworkError && e.code === 'conflict') {
        this.view.failed = { phase: 'Failed', reason: 'NodePorts', message: `Pod was rejected: ${e.message}` }
        this.#event('Warning', 'NodePorts', this.view.failed.message!)
        return
      }
      this.view.sandboxRetryAtMs = Date.now() + setupDelayMs(++this.#setupFailures.sandbox)
      this.#event('Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${errorText(e)}`)
    }
  }

  /**
   * True if a Pod that is ending here still publishes a host port this one needs; {@link portsReleased} ends the wait. To be asked
   * in the turn in which the sandbox is made, so that no release is missed in between.
   */
  #awaitsPorts(): boolean {
    if (!portHolders(this.#context, this.#pod).some(uid => this.#hooks.isEnding(uid))) return false
    this.view.sandboxRetryAtMs = Infinity
    return true
  }

  async #volumes(): Promise<void> {
    try {
      const mounted = await mountVolumes(this.#context, this.#pod)
      this.#volumePaths = mounted.paths
      this.#renewAtMs = mounted.renewAtMs
      this.view.volumes = 'ready'
      this.#setupFailures.volumes = 0
    } catch (e) {
      this.view.volumesRetryAtMs = Date.now() + setupDelayMs(++this.#setupFailures.volumes)
      this.#event('Warning', 'FailedMount', errorText(e))
    }
  }

  async #refresh(): Promise<void> {
    this.#refreshing = true
    this.#renewAtMs = undefined
    try {
      const next = await refreshVolumes(this.#context, this.#pod)
      // A change that came meanwhile has asked for another turn already.
      this.#renewAtMs = this.#renewAtMs ?? next
    } catch (e) {
      this.#context.logger.warn(`pod ${this.#name()}: refreshing volumes: ${errorText(e)}`)
      this.#renewAtMs = Date.now() + REFRESH_RETRY_MS
    } finally {
      this.#refreshing = false
      this.kick()
    }
  }

  async #pull(c: ContainerView): Promise<void> {
    const namespace = this.#pod.metadata.namespace ?? 'default'
    const secrets = await Promise.all((this.view.spec.imagePullSecrets ?? []).map(s => this.#context.refs.get('secret', namespace, s.name)
      .catch(() => undefined)))
    try {
      await this.#context.puller.ensure(c.spec, secrets.filter((s): s is Secret => s !== undefined), (type, reason, message) => {
        this.#event(type, reason, message, c)
      })
      c.imagePresent = true
      delete c.waiting
      delete c.retryAtMs
    } catch (e) {
      if (!(e instanceof ImageError)) throw e
      c.waiting = { reason: e.reason, message: e.message }
      c.retryAtMs = e.retryAtMs
      this.#event('Warning', 'Failed', `Error: ${e.reason}`, c)
    }
  }

  async #start(c: ContainerView, attempt: number, backoffLevel: number): Promise<void> {
    const began = await this.#context.limiter.run(() => this.#createAndStart(c, attempt, backoffLevel))
    if (!began) return
    const failure = await postStart(this.#input(), c)
    if (failure !== undefined) {
      this.#event('Warning', 'FailedPostStartHook', `PostStartHook failed: ${failure}`, c)
      c.stopWanted = { message: `FailedPostStartHook` }
      return
    }
    this.#startProbes(c)
  }

  async #createAndStart(c: ContainerView, attempt: number, backoffLevel: number): Promise<boolean> {
    const { containers } = this.#context.engine
    let id: string
    try {
      id = await createContainer(this.#input(), c, attempt, backoffLevel)
    } catch (e) {
      this.#createFailed(c, e)
      return false
    }
    this.#ids.add(id)
    this.#hooks.onContainer(id)
    this.#event('Normal', 'Created', `Created container: ${c.name}`, c)
    const before = c.state === 'exited' ? terminatedState(c) : c.last
    let startError: string | undefined
    try {
      startError = await this.#startOnce(id)
    } catch (e) {
      this.#createFailed(c, e)
      return false
    }
    this.#createFailures.delete(c.name)
    const info = containers.inspect(id)
    for (const field of ['waiting', 'retryAtMs', 'exitCode', 'oomKilled', 'startError', 'terminationMessage', 'finishedAtMs', 'stopWanted'] as const) {
      delete c[field]
    }
    Object.assign(c, {
      id, attempt, backoffLevel, image: c.spec.image, imageId: info?.imageId ?? '', last: before, started: false, ready: false,
      startedAtMs: info?.startedAtMs ?? Date.now(), state: startError === undefined ? 'running' : 'exited',
    })
    if (before === undefined) delete c.last
    this.#removeOldAttempts(c)
    if (startError === undefined) {
      this.#event('Normal', 'Started', `Started container ${c.name}`, c)
      this.#markStarted(c)
      return true
    }
    c.startError = startError
    c.exitCode = info?.exitCode ?? 128
    c.finishedAtMs = Date.now()
    this.#event('Warning', 'Failed', `Error: ${startError}`, c)
    this.#ended(c)
    return false
  }

  /** The same attempt is made again, after a while. */
  #createFailed(c: ContainerView, e: unknown): void {
    const failures = (this.#createFailures.get(c.name) ?? 0) + 1
    this.#createFailures.set(c.name, failures)
    c.waiting = { reason: e instanceof ConfigError ? 'CreateContainerConfigError' : 'CreateContainerError', message: errorText(e) }
    c.retryAtMs = Date.now() + setupDelayMs(failures)
    // The image may have been removed since it was found.
    c.imagePresent = false
    this.#event('Warning', 'Failed', `Error: ${errorText(e)}`, c)
  }

  /** Resolves with why it could not be started, if so. Rejects if the container is not at fault: containerd, the log daemon or a shim went away meanwhile. */
  async #startOnce(id: string): Promise<string | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#context.engine.containers.start(id)
        return undefined
      } catch (e) {
        // The Pod's shim leaves with its last container: one that is started at that moment meets a closing door. And a start that
        // was under way when the agent died is still being undone.
        const passing = SHIM_LEAVING.test(errorText(e))
        if (!passing && !(e instanceof EngineError && e.code === 'unavailable')) return errorText(e)
        if (!passing || attempt === SHIM_TRIES) throw e
        await new Promise<void>(resolve => { setTimeout(resolve, SHIM_RETRY_MS * 2 ** attempt) })
      }
    }
  }

  /** A container that waits for no probe and no hook is ready with its start, and reported so in the same write. */
  #markStarted(c: ContainerView): void {
    if (c.spec.lifecycle?.postStart !== undefined) return this.#report(Date.now())
    if (c.spec.startupProbe === undefined) {
      c.started = true
      c.ready = c.spec.readinessProbe === undefined
    }
    this.#report(Date.now())
  }

  /** The last attempt before the current one stays for `logs --previous`. */
  #removeOldAttempts(c: ContainerView): void {
    if (c.attempt < 2) return
    const id = containerId(this.uid, c.name, c.attempt - 2)
    if (!this.#ids.delete(id)) return
    this.#context.engine.containers.remove(id, true).catch((e: unknown) => {
      this.#ids.add(id)
      this.#context.logger.warn(`pod ${this.#name()}: removing an old container: ${errorText(e)}`)
    })
  }

  #startProbes(c: ContainerView): void {
    if (this.#probes.has(c.name) || c.role === 'init' || this.view.deleting !== undefined) return
    const id = c.id!
    const spec = c.spec
    const now = (): ContainerView | undefined => c.id === id && c.state === 'running' ? c : undefined
    this.#probes.set(c.name, new ContainerProbes({
      ...(spec.startupProbe && { startup: spec.startupProbe }),
      ...(spec.livenessProbe && { liveness: spec.livenessProbe }),
      ...(spec.readinessProbe && { readiness: spec.readinessProbe }),
    }, c.startedAtMs ?? Date.now(), { started: c.started, ready: c.ready }, {
      check: (_kind, probe) => runHandler(probe, {
        containers: this.#context.engine.containers, containerId: id, container: spec, podIP: this.view.podIP ?? '',
      }, (probe.timeoutSeconds ?? 1) * 1000),
      onReady: ready => {
        if (now() === undefined || c.ready === ready) return
        c.ready = ready
        this.kick()
      },
      onStarted: () => {
        if (now() === undefined) return
        c.started = true
        this.kick()
      },
      onFailed: (kind, probe) => {
        if (now() === undefined) return
        const grace = probe.terminationGracePeriodSeconds
        c.stopWanted = { message: `Container ${c.name} failed ${kind} probe, will be restarted`, ...(grace !== undefined && { graceMs: grace * 1000 }) }
        this.kick()
      },
      onUnhealthy: (kind, message) => {
        if (now() !== undefined) this.#event('Warning', 'Unhealthy', `${kind[0]!.toUpperCase()}${kind.slice(1)} probe failed: ${message}`, c)
      },
    }))
  }

  #stop(c: ContainerView, deadlineMs: number, message: string): void {
    const first = c.op !== 'stop'
    c.op = 'stop'
    c.stopDeadlineMs = deadlineMs
    if (first) this.#event('Normal', 'Killing', message, c)
    const job = first
      ? stopContainer(this.#input(), c, deadlineMs, m => this.#event('Warning', 'FailedPreStopHook', `PreStopHook failed: ${m}`, c))
      : stopBy(this.#input(), c.id!, deadlineMs)
    job.catch(async (e: unknown) => {
      this.#context.logger.warn(`pod ${this.#name()}: stopping ${c.name}: ${errorText(e)}`)
      await new Promise<void>(resolve => { setTimeout(resolve, RETRY_MS).unref() })
    }).finally(() => {
      delete c.op
      delete c.stopDeadlineMs
      this.kick()
    })
  }

  async #release(): Promise<void> {
    if (this.view.spec.hostNetwork !== true) await this.#context.network.deleteSandbox(this.uid)
    this.view.sandbox = 'none'
    this.#tellAddress()
    this.#hooks.onReleased()
  }

  async #teardown(): Promise<void> {
    for (const id of this.#ids) {
      await this.#context.engine.containers.remove(id, true)
      this.#ids.delete(id)
    }
    await removeSurroundings(this.#context, this.uid)
    this.#context.refs.release(this.uid)
    this.#context.tokens.forget(this.uid)
    this.view.sandbox = 'none'
    this.view.volumes = 'none'
    this.view.clean = true
    this.#hooks.onReleased()
  }

  async #delete(): Promise<void> {
    this.#status.touch()
    await this.#status.settled(2000)
    try {
      await this.#context.client.delete(pods, { namespace: this.#pod.metadata.namespace, name: this.#pod.metadata.name }, {
        gracePeriodSeconds: 0, preconditions: { uid: this.uid },
      })
    } catch (e) {
      if (!isReason(e, 'NotFound') && !isReason(e, 'Conflict')) throw e
    }
    this.view.deleted = true
  }

  #forget(): void {
    void this.close().then(() => this.#file.remove())
    this.#hooks.onForgotten()
  }

  #noteDeletion(adopted: boolean): void {
    const { deletionTimestamp, deletionGracePeriodSeconds } = this.#pod.metadata
    if (deletionTimestamp === undefined) return
    const nowMs = Date.now()
    let deadlineMs = nowMs + (deletionGracePeriodSeconds ?? 30) * 1000
    if (adopted) deadlineMs = Math.min(deadlineMs, Math.max(nowMs, Date.parse(deletionTimestamp)))
    if (this.view.deleting === undefined || deadlineMs < this.view.deleting.deadlineMs) this.view.deleting = { deadlineMs }
    for (const p of this.#probes.values()) p.stopLiveness()
  }

  #accept(pod: Pod): void {
    if (!older(pod, this.#pod)) this.update(pod)
  }

  #save(): void {
    this.#file.save(() => ({
      ...this.#pod, status: this.#silent ? this.#pod.status : podStatus(this.view, this.#pod.status, this.#context.hostIP, Date.now()),
    }))
  }

  #input(): RunnerInput {
    return { context: this.#context, pod: withIP(this.#pod, this.view.podIP), view: this.view, volumePaths: this.#volumePaths }
  }

  #container(name: string): ContainerView { return this.view.containers.find(c => c.name === name)! }

  #tellAddress(): void {
    if (this.view.spec.hostNetwork !== true) this.#hooks.onAddress(this.view.sandbox === 'ready' ? this.view.podIP : undefined)
  }

  #name(): string { return `${this.#pod.metadata.namespace}/${this.#pod.metadata.name}` }

  #event(type: 'Normal' | 'Warning', reason: string, message: string, c?: ContainerView): void {
    const { namespace, name, uid, resourceVersion } = this.#pod.metadata
    this.#context.events.record({
      kind: 'Pod', apiVersion: 'v1', namespace, name, uid, resourceVersion,
      ...(c && { fieldPath: `spec.${c.role === 'main' ? 'containers' : 'initContainers'}{${c.name}}` }),
    }, type, reason, message)
  }
}

export function stateFile(c: Pick<NodeContext, 'dataDir'>, uid: string): string { return join(c.dataDir, 'podstate', `${uid}.json`) }

function withIP(pod: Pod, podIP: string | undefined): Pod {
  return podIP === undefined || pod.status?.podIP === podIP ? pod : { ...pod, status: { ...pod.status, podIP } as PodStatus }
}

/** Gantry's resource versions are whole numbers; an event of the watch may be older than the answer to a write. */
function older(a: Pod, b: Pod): boolean {
  const [x, y] = [Number(a.metadata.resourceVersion), Number(b.metadata.resourceVersion)]
  return Number.isFinite(x) && Number.isFinite(y) && x < y
}
