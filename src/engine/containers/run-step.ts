/** One build step: a container that keeps no record, on a snapshot of the builder's. */
import { join } from 'node:path'
import { ociAny, orAbsent, protoAny } from '../containerd/index.ts'
import type { ContainerdClient, Mount as SnapshotMount } from '../containerd/index.ts'
import type { ContainerSpec, Mount } from '../engine.ts'
import { cgroups, removeCgroup } from './cgroups.ts'
import { startFailure } from './failures.ts'
import type { FifoPool } from './fifos.ts'
import { ociSpec } from './oci-spec.ts'
import type { ExitWaiters } from './processes.ts'
import { readFifo } from './stdio.ts'
import type { ProcessUser } from './users.ts'
import { OUTPUT_CAP_MS } from './exec.ts'

export interface StepOptions {
  /** Id of the container; gone when the promise settles. */
  id: string
  /** An active snapshot; it is left as the step makes it. */
  snapshotKey: string
  args: string[]
  env: string[]
  cwd: string
  /** As in an image's USER; looked up in the snapshot. */
  user: string
  mounts: Mount[]
  network: ContainerSpec['network']
  /** Limits of its own. */
  limits?: Pick<ContainerSpec, 'resources' | 'ulimits' | 'shmSizeBytes' | 'cgroupParent'>
  /** stdout and stderr as they come. */
  onOutput(data: Buffer, stream: 'stdout' | 'stderr'): void
  /** Kills the step. */
  signal: AbortSignal
}

export interface StepDeps {
  client: ContainerdClient
  fifos: FifoPool
  exits: ExitWaiters
  snapshotter: string
  runtimeRoot: string
  cgroupRoot: string
  label: string
  /** Steps under way, which reconciliation must leave alone. */
  steps: Set<string>
}

const SIGKILL = 9

/**
 * Resolves with the exit code when the step has exited and all its output was given on. Rejects with the abort's reason, or
 * with `failed` when the step could not be started. Nothing of the container stays; a killed engine's is removed at the next open.
 */
export async function runStep(d: StepDeps, rootfs: SnapshotMount[], user: ProcessUser, o: StepOptions): Promise<number> {
  o.signal.throwIfAborted()
  const { id } = o
  const spec = ociSpec(
    { id, image: '', hostname: 'build', mounts: o.mounts, network: o.network, ...o.limits },
    {
      args: o.args, env: o.env, cwd: o.cwd, user, cgroupsPath: join(o.limits?.cgroupParent ?? d.cgroupRoot, id), cgroupV2: cgroups().v2,
      pidOf: () => { throw new Error('a build step shares no namespaces') },
    })
  d.steps.add(id)
  const paths = await d.fifos.take([`${id}-out`, `${id}-err`])
  const [stdout, stderr] = paths as [string, string]
  const readers = [readFifo(stdout), readFifo(stderr)] as const
  readers[0].on('data', (b: Buffer) => { o.onOutput(b, 'stdout') })
  readers[1].on('data', (b: Buffer) => { o.onOutput(b, 'stderr') })
  const drained = Promise.all(readers.map((r) => new Promise((resolve) => r.once('close', resolve))))
  const waiter = d.exits.register(id, '')
  const kill = (): void => { d.client.tasks.kill(id, SIGKILL, { all: true }).catch(() => undefined) }
  let cap: NodeJS.Timeout | undefined
  try {
    await d.client.containers.create({
      id, labels: { [d.label]: id }, image: '', snapshotter: d.snapshotter, snapshotKey: o.snapshotKey,
      runtime: { name: 'io.containerd.runc.v2', options: protoAny('containerd.runc.v1.Options', { binaryName: 'runc', root: d.runtimeRoot }) },
      spec: ociAny('Spec', spec),
    })
    await d.client.tasks.create({ containerId: id, rootfs, stdout, stderr })
    await d.client.tasks.start(id)
    o.signal.addEventListener('abort', kill, { once: true })
    if (o.signal.aborted) kill()
    const { exitStatus } = await waiter.exited
    cap = setTimeout(() => { for (const r of readers) r.destroy() }, OUTPUT_CAP_MS)
    await drained
    o.signal.throwIfAborted()
    return exitStatus
  } catch (e) {
    throw o.signal.aborted ? o.signal.reason : startFailure(e).error
  } finally {
    clearTimeout(cap)
    o.signal.removeEventListener('abort', kill)
    waiter.forget()
    for (const r of readers) r.destroy()
    d.fifos.remove(paths)
    await removeStep(d, id)
    removeCgroup(join(o.limits?.cgroupParent ?? d.cgroupRoot, id))
    d.steps.delete(id)
  }
}

async function removeStep(d: StepDeps, id: string): Promise<void> {
  try {
    await orAbsent(d.client.tasks.delete(id))
  } catch {
    await orAbsent(d.client.tasks.kill(id, SIGKILL, { all: true })).catch(() => undefined)
    await orAbsent(d.client.tasks.wait(id, '', { timeoutMs: 5000 })).catch(() => undefined)
    await orAbsent(d.client.tasks.delete(id)).catch(() => undefined)
  }
  await orAbsent(d.client.containers.delete(id)).catch(() => undefined)
}
