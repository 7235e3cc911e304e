/** Makes, starts and stops one Pod's containers: the steps `start` and `stop`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Container, Pod } from '../../core/types/index.ts'
import { EngineError } from '../../engine/engine.ts'
import type { ContainerSpec, Mount } from '../../engine/engine.ts'
import { errorText } from '../error-text.ts'
import { containerId, containerSpec } from './container-spec.ts'
import type { NodeContext } from './context.ts'
import { ConfigError, containerEnv, expand } from './env.ts'
import { podHostname } from './files.ts'
import { runHandler } from './handlers.ts'
import { refKey, refsOf } from './refs-of.ts'
import { etcDir, podFilesDir } from './setup.ts'
import type { ContainerView, PodView } from './view.ts'

/** Longest time a postStart hook may take. */
const POST_START_MS = 60_000
/** After preStop a container has at least this long until SIGKILL. */
const MIN_GRACE_AFTER_HOOK_MS = 2000

export class CreateError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'CreateError'
  }
}

export interface RunnerInput { context: NodeContext; pod: Pod; view: PodView; volumePaths: ReadonlyMap<string, string> }

export function terminationLog(c: NodeContext, uid: string, name: string, attempt: number): string {
  return join(podFilesDir(c, uid), 'termination', `${name}-${attempt}`)
}

/** Makes the attempt's container; resolves with its id. Rejects with ConfigError or CreateError. */
export async function createContainer(i: RunnerInput, c: ContainerView, attempt: number, backoffLevel: number): Promise<string> {
  const { context, pod } = i
  const uid = pod.metadata.uid!
  const env = await environment(i, c.spec)
  let spec: ContainerSpec
  try {
    const sandbox = context.network.sandboxes().find(s => s.id === uid)
    if (sandbox === undefined && pod.spec.hostNetwork !== true) throw new CreateError('the network sandbox is gone')
    const log = terminationLog(context, uid, c.name, attempt)
    mkdirSync(join(log, '..'), { recursive: true, mode: 0o755 })
    // Any user of the container may write its last words.
    writeFileSync(log, '', { mode: 0o666 })
    spec = containerSpec({
      pod, container: c.spec, attempt, backoffLevel, env,
      image: await context.engine.images.config(c.spec.image ?? ''),
      mounts: await volumeMounts(i, c.spec, env),
      hostname: podHostname(pod, context.nodeName),
      network: sandbox === undefined ? 'host' : { path: sandbox.netnsPath },
      etcDir: etcDir(context, uid), terminationLog: log,
      cgroup: context.cgroup, nodeMemoryBytes: context.memoryBytes, oomFloor: context.oomFloor,
      pidOf: pod.spec.shareProcessNamespace === true
        ? i.view.containers.find(x => x !== c && x.state === 'running')?.id : undefined,
    })
  } catch (e) {
    if (e instanceof ConfigError || e instanceof CreateError) throw e
    throw new CreateError(errorText(e))
  }
  const containers = context.engine.containers
  try {
    await containers.create(spec)
  } catch (e) {
    if (!(e instanceof EngineError && e.code === 'conflict')) throw new CreateError(errorText(e))
    // Left by an agent that died between making and starting it; its specification may be out of date.
    try {
      await containers.remove(spec.id, true)
      await containers.create(spec)
    } catch (again) {
      throw new CreateError(errorText(again))
    }
  }
  return containerId(uid, c.name, attempt)
}

async function environment(i: RunnerInput, container: Container): Promise<Map<string, string>> {
  const { context, pod } = i
  const namespace = pod.metadata.namespace ?? 'default'
  const one = { ...pod, spec: { containers: [container] } }
  const found = new Map<string, unknown>()
  try {
    await Promise.all(refsOf(one).map(async r => found.set(refKey(r), await context.refs.get(r.kind, namespace, r.name))))
    return containerEnv(container, {
      configMap: name => found.get(`configMap/${name}`) as undefined,
      secret: name => found.get(`secret/${name}`) as undefined,
      services: context.services(namespace),
    }, { pod, podIP: i.view.podIP ?? '', hostIP: context.hostIP, nodeName: context.nodeName, allocatable: context.allocatable })
  } catch (e) {
    throw e instanceof ConfigError ? e : new ConfigError(errorText(e))
  }
}

async function volumeMounts(i: RunnerInput, container: Container, env: ReadonlyMap<string, string>): Promise<Mount[]> {
  const uid = i.pod.metadata.uid!
  return Promise.all((container.volumeMounts ?? []).map(async m => {
    const volume = i.pod.spec.volumes?.find(v => v.name === m.name)
    let source = i.volumePaths.get(m.name)
    if (volume === undefined || source === undefined) throw new ConfigError(`volume "${m.name}" of container ${container.name} is not in the pod`)
    const sub = m.subPathExpr !== undefined ? expand(m.subPathExpr, env) : m.subPath
    if (sub !== undefined && sub !== '') {
      try {
        source = await i.context.volumes.subPath(uid, m.name, sub)
      } catch (e) {
        throw new ConfigError(`failed to prepare subPath for volumeMount "${m.name}" of container "${container.name}": ${errorText(e)}`)
      }
    }
    const readOnly = m.readOnly === true || !(volume.emptyDir !== undefined || volume.hostPath !== undefined || isScratch(volume))
    return {
      type: 'bind' as const, source, target: m.mountPath, ...(readOnly && { readOnly }),
      ...(m.mountPropagation === 'HostToContainer' && { propagation: 'rslave' as const }),
      ...(m.mountPropagation === 'Bidirectional' && { propagation: 'rshared' as const }),
    }
  }))
}

/** A volume that names no source is an emptyDir. */
function isScratch(v: object): boolean { return Object.keys(v).length === 1 }

/** Resolves with why the hook failed, or undefined. */
export async function postStart(i: RunnerInput, c: ContainerView): Promise<string | undefined> {
  const hook = c.spec.lifecycle?.postStart
  if (hook === undefined) return undefined
  const target = { containers: i.context.engine.containers, containerId: c.id!, container: c.spec, podIP: i.view.podIP ?? '' }
  const result = await runHandler(hook, target, POST_START_MS)
  return result.ok ? undefined : result.message
}

/** preStop (inside the grace), the stop signal, SIGKILL at `deadlineMs`. `onHookError` hears of a hook that failed. */
export async function stopContainer(i: RunnerInput, c: ContainerView, deadlineMs: number, onHookError: (message: string) => void): Promise<void> {
  const containers = i.context.engine.containers
  const id = c.id!
  const hook = c.spec.lifecycle?.preStop
  let leastMs = 0
  if (hook !== undefined && deadlineMs > Date.now()) {
    const target = { containers, containerId: id, container: c.spec, podIP: i.view.podIP ?? '' }
    const result = await runHandler(hook, target, deadlineMs - Date.now())
    if (!result.ok) onHookError(result.message)
    leastMs = MIN_GRACE_AFTER_HOOK_MS
  }
  await stopBy(i, id, deadlineMs, leastMs)
}

/** The stop signal, SIGKILL at `deadlineMs` but not before `leastMs` from now. */
export async function stopBy(i: RunnerInput, id: string, deadlineMs: number, leastMs = 0): Promise<void> {
  try {
    await i.context.engine.containers.stop(id, Math.max(leastMs, deadlineMs - Date.now(), 0))
  } catch (e) {
    if (!(e instanceof EngineError && e.code === 'not-found')) throw e
  }
}
