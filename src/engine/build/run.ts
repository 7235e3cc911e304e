/** RUN: a container on the image as it is so far, in a network sandbox, and what it changed as a layer. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Code, hasCode } from '../containerd/index.ts'
import type { StepOptions } from '../containers/run-step.ts'
import { BuildFailure, EngineError } from '../engine.ts'
import type { BuildNetwork, Mount } from '../engine.ts'
import type { ImageContext } from '../images/assemble.ts'
import { OCI_LAYER } from '../images/media-types.ts'
import type { Descriptor } from '../images/media-types.ts'
import { chainId } from '../images/unpack.ts'
import { removeMountPoints } from './stubs.ts'

/** Runs one process to its end; resolves with its exit code. Aborting kills it and rejects. */
export type RunStep = (options: StepOptions) => Promise<number>

export interface StepLayer { descriptor: Descriptor; diffId: string; chainId: string }

/** diff id of a layer that changes nothing: two empty blocks. */
const EMPTY_DIFF = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef'

export interface RunContext { x: ImageContext; runStep: RunStep; network(): BuildNetwork | undefined; dir: string; lease: string; signal: AbortSignal }

export interface RunProcess {
  id: string
  args: string[]
  env: string[]
  cwd: string
  user: string
  /** A here-document that begins with `#!`, to be run itself. */
  script?: string
  mounts: Mount[]
  network?: string
  extraHosts?: string[]
  limits?: StepOptions['limits']
}

const SCRIPT = '/dev/pipes/script'

/** Rejects with a BuildFailure for a command that failed; resolves with undefined if it changed no file. */
export async function runLayer(
  r: RunContext, parent: string, process: RunProcess, shown: string, onOutput: StepOptions['onOutput'],
): Promise<StepLayer | undefined> {
  const { x, lease } = r
  if (parent === '') throw new EngineError('invalid', 'RUN in an image without files: COPY or ADD something that can be run first')
  const network = r.network()
  if (network === undefined) throw new EngineError('unavailable', 'RUN needs a network for build steps, and none is set up')
  const key = `gantry-build-${process.id}`
  const files = join(r.dir, process.id)
  await mkdir(files, { recursive: true, mode: 0o755 })
  const { network: name, extraHosts } = process
  const [sandbox, snapshot] = await Promise.all([
    network.open(process.id, { ...(name === undefined ? {} : { network: name }), ...(extraHosts === undefined ? {} : { extraHosts }) }),
    x.containerd.snapshots.prepare({ snapshotter: x.snapshotter, key, parent }, { lease }),
  ])
  try {
    await writeFile(join(files, 'resolv.conf'), sandbox.resolvConf)
    await writeFile(join(files, 'hosts'), sandbox.hosts ?? `${LOCAL_HOSTS}${(extraHosts ?? []).map(hostLine).join('')}`)
    const mounts: Mount[] = [...['resolv.conf', 'hosts'].map((f): Mount => ({ type: 'bind', source: join(files, f), target: `/etc/${f}` })), ...process.mounts]
    let { args } = process
    if (process.script !== undefined) {
      await writeFile(join(files, 'script'), process.script, { mode: 0o755 })
      mounts.push({ type: 'bind', source: join(files, 'script'), target: SCRIPT, readOnly: true })
      args = [SCRIPT]
    }
    r.signal.throwIfAborted()
    const code = await r.runStep({
      id: process.id, args, env: process.env, cwd: process.cwd, user: process.user, snapshotKey: key, mounts, onOutput, signal: r.signal,
      network: sandbox.netnsPath === undefined ? 'host' : { path: sandbox.netnsPath }, ...(process.limits === undefined ? {} : { limits: process.limits }),
    })
    if (code !== 0) throw new BuildFailure(`The command '${shown}' returned a non-zero code: ${code}`, code)
    removeMountPoints(snapshot, mounts.map(m => m.target))
    return await commitLayer(x, key, parent, lease)
  } finally {
    await allDone([
      x.containerd.snapshots.remove(x.snapshotter, key).catch((e: unknown) => { if (!hasCode(e, Code.notFound)) throw e }),
      sandbox.close(), rm(files, { recursive: true, force: true }),
    ])
  }
}

/** Each to its end, whatever becomes of the others; then the first failure, if any. */
async function allDone(work: Promise<unknown>[]): Promise<void> {
  for (const r of await Promise.allSettled(work)) if (r.status === 'rejected') throw r.reason
}

const LOCAL_HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n'

/** `name:ip` as a line of /etc/hosts. */
function hostLine(text: string): string {
  const at = text.indexOf(':')
  return `${text.slice(at + 1)}\t${text.slice(0, at)}\n`
}

async function commitLayer(x: ImageContext, key: string, parent: string, lease: string): Promise<StepLayer | undefined> {
  const c = x.containerd
  const view = `${key}-parent`
  const [left, right] = await Promise.all([
    c.snapshots.view({ snapshotter: x.snapshotter, key: view, parent }, { lease }),
    c.snapshots.mounts(x.snapshotter, key),
  ])
  try {
    // Not compressed: packing costs more than the line to a peer, and the diff id is then the digest.
    const ref = `build-${randomBytes(8).toString('hex')}`
    const diff = await c.diff.compare({ left, right, mediaType: OCI_LAYER, ref, labels: {} }, { lease })
    const descriptor: Descriptor = { mediaType: OCI_LAYER, digest: diff.digest, size: diff.size }
    const diffId = diff.digest
    if (diffId === EMPTY_DIFF) return undefined
    const name = chainId(parent, diffId)
    await c.content.label(descriptor.digest, { 'containerd.io/uncompressed': diffId }, { lease })
    try {
      await c.snapshots.commit({ snapshotter: x.snapshotter, key, name, labels: { 'containerd.io/snapshot.ref': name } }, { lease })
    } catch (e) {
      // The same files on the same parent were made before: that snapshot serves.
      if (!hasCode(e, Code.alreadyExists)) throw e
      await x.unpacker.hold(name, lease)
    }
    return { descriptor, diffId, chainId: name }
  } finally {
    await c.snapshots.remove(x.snapshotter, view).catch(() => undefined)
  }
}
