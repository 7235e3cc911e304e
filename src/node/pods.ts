/** All Pods of this node: one worker each, from the API's watch, from what was saved, and from what the engine still runs. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Informer } from '../core/client.ts'
import { keyOf } from '../core/client.ts'
import type { Pod } from '../core/types/index.ts'
import type { ContainerInfo, EngineEvent } from '../engine/engine.ts'
import { readJson } from './atomic-file.ts'
import { errorText } from './error-text.ts'
import { LABEL } from './pod/container-spec.ts'
import type { NodeContext } from './pod/context.ts'
import { removeSurroundings } from './pod/setup.ts'
import { PodWorker, stateFile } from './pod/worker.ts'

export class Pods {
  readonly #context: NodeContext
  readonly #informer: Informer<Pod>
  readonly #onAddress: (pod: Pod, ip: string | undefined) => void
  readonly #workers = new Map<string, PodWorker>()
  /** `namespace/name` → the newest Pod of that name. */
  readonly #byName = new Map<string, PodWorker>()
  readonly #byContainer = new Map<string, PodWorker>()
  #off: (() => void)[] = []

  /** `onAddress` hears of the addresses of Pods that come and go. */
  constructor(context: NodeContext, informer: Informer<Pod>, onAddress: (pod: Pod, ip: string | undefined) => void) {
    this.#context = context
    this.#informer = informer
    this.#onAddress = onAddress
  }

  /** Adopts what runs, then follows the API. Orphans are removed once the API has told all it knows. */
  start(): void {
    const { engine, dataDir } = this.#context
    const found = new Map<string, ContainerInfo[]>()
    for (const info of engine.containers.list()) {
      const uid = info.labels[LABEL.uid]
      if (uid !== undefined) found.set(uid, [...(found.get(uid) ?? []), info])
    }
    for (const pod of savedPods(dataDir)) this.#add(pod, found.get(pod.metadata.uid!) ?? [])
    this.#off.push(engine.onEvent(e => this.#onEngine(e)))
    this.#off.push(this.#informer.on((type, pod, old) => {
      // A name may have got a new Pod between two events.
      if (old !== undefined && old.metadata.uid !== pod.metadata.uid) this.#workers.get(old.metadata.uid!)?.vanish()
      const worker = this.#workers.get(pod.metadata.uid!)
      if (type === 'DELETED') worker?.vanish()
      else if (worker !== undefined) worker.update(pod)
      else this.#add(pod, found.get(pod.metadata.uid!) ?? [])
    }))
    void this.#informer.synced.then(() => {
      const live = new Set([...this.#informer.list()].map(p => p.metadata.uid!))
      for (const [uid, worker] of this.#workers) if (!live.has(uid)) worker.vanish()
      this.#removeOrphans(found).catch((e: unknown) => this.#context.logger.error(`removing orphans: ${errorText(e)}`))
      found.clear()
    })
  }

  list(): PodWorker[] { return [...this.#workers.values()] }
  byName(namespace: string, name: string): PodWorker | undefined { return this.#byName.get(`${namespace}/${name}`) }
  byUid(uid: string): PodWorker | undefined { return this.#workers.get(uid) }

  async close(): Promise<void> {
    for (const off of this.#off) off()
    await Promise.all(this.list().map(w => w.close()))
  }

  #add(pod: Pod, found: readonly ContainerInfo[]): void {
    const { uid, name } = pod.metadata
    const worker: PodWorker = new PodWorker(this.#context, pod, found, {
      onContainer: id => queueMicrotask(() => this.#byContainer.set(id, worker)),
      onAddress: ip => this.#onAddress(pod, ip),
      onReleased: () => { for (const w of this.#workers.values()) w.portsReleased() },
      isEnding: other => this.#workers.get(other)?.ending === true,
      onForgotten: () => {
        this.#workers.delete(uid!)
        this.#onAddress(pod, undefined)
        if (this.#byName.get(keyOf(pod)) === worker) this.#byName.delete(keyOf(pod))
        for (const [id, w] of this.#byContainer) if (w === worker) this.#byContainer.delete(id)
        this.#context.logger.info(`pod ${pod.metadata.namespace}/${name} removed`)
      },
    })
    this.#workers.set(uid!, worker)
    this.#byName.set(keyOf(pod), worker)
  }

  #onEngine(e: EngineEvent): void {
    if (e.type === 'exit') this.#byContainer.get(e.id)?.kick()
  }

  /** What bears the mark of a Pod that is neither in the API nor known here. */
  async #removeOrphans(found: Map<string, ContainerInfo[]>): Promise<void> {
    const { engine, network, volumes, dataDir, logger } = this.#context
    const orphans = new Map<string, string[]>()
    for (const [uid, infos] of found) if (!this.#workers.has(uid)) orphans.set(uid, infos.map(i => i.id))
    const others = [...network.sandboxes().map(s => s.id), ...await volumes.pods(), ...names(join(dataDir, 'podfiles'))]
    for (const uid of others) {
      // Other sandboxes (of image builds …) are not Pods'.
      if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(uid) && !this.#workers.has(uid) && !orphans.has(uid)) orphans.set(uid, [])
    }
    for (const [uid, ids] of orphans) {
      logger.info(`removing what is left of pod ${uid}`)
      for (const id of ids) await engine.containers.remove(id, true)
      await removeSurroundings(this.#context, uid)
      rmSync(stateFile(this.#context, uid), { force: true })
    }
  }
}

function names(dir: string): string[] {
  mkdirSync(dir, { recursive: true, mode: 0o711 })
  return readdirSync(dir)
}

function savedPods(dataDir: string): Pod[] {
  const dir = join(dataDir, 'podstate')
  return names(dir).filter(f => f.endsWith('.json')).flatMap(f => readJson<Pod>(join(dir, f)) ?? [])
}
