/**
 * Layers unpacked on their way, each by a thread of its own, into a folder beside the snapshots: when its turn comes, what is in there only has
 * to be moved. containerd unpacks one layer after another, when they have come, and decompresses several times slower.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { access, chmod, chown, mkdir, readdir, rename, rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { EngineError } from '../engine.ts'
import type { Tap } from './content.ts'
import { RESERVE_BYTES } from './space.ts'

export interface RootAttributes { uid: number; gid: number; mode: number; seconds: number }
/** `fileBytes`: as Docker counts, see sizes.ts. */
export interface ExtractedLayer { diffId: string; plainBytes: number; fileBytes: number; root?: RootAttributes }
/** `data`: the bytes are in a slot of the shared memory. */
export type ToExtractor = { kind: 'data'; slot: number; bytes: number } | { kind: 'end' }
export type FromExtractor = { kind: 'taken'; slot: number } | { kind: 'done' } & ExtractedLayer | { kind: 'unsure'; why: string } | { kind: 'full' }

/** Memory shared with the thread, in slots that are filled and taken in turns: a copy for each piece would be mapped and unmapped each time. */
const SLOT_BYTES = 512 << 10
const SLOTS = 4
/** Below this a thread costs more than it saves. */
export const MIN_EXTRACT_BYTES = 2 << 20

/** One layer. Feed it as a Tap; then ask for `layer`; `close` it in any case. */
export class LayerExtractor implements Tap {
  /** What came out of it; undefined if containerd has to do it. Rejects with `failed` where the disk is full. */
  readonly layer: Promise<ExtractedLayer | undefined>
  readonly #settle: (layer: ExtractedLayer | undefined | Promise<never>) => void
  readonly #dir: string
  readonly #what: string
  #worker: Promise<Worker | undefined>
  readonly #memory = Buffer.from(new SharedArrayBuffer(SLOTS * SLOT_BYTES))
  readonly #free = Array.from({ length: SLOTS }, (_, n) => n)
  #wake: (() => void) | undefined
  #over = false

  /** `spoolDir`: on the file system of the snapshots, and cleared when the engine starts. `what`: for messages. */
  constructor(spoolDir: string, what: string) {
    const { promise, resolve } = Promise.withResolvers<ExtractedLayer | undefined>()
    this.layer = promise
    promise.catch(() => {
      // Who needs the layer asks for it and hears of it then.
    })
    this.#settle = layer => {
      this.#over = true
      resolve(layer)
      this.#wake?.()
    }
    this.#dir = join(spoolDir, `layer-${randomBytes(8).toString('hex')}`)
    this.#what = what
    this.#worker = this.#start(spoolDir).catch(() => {
      this.#settle(undefined)
      return undefined
    })
  }

  async #start(spoolDir: string): Promise<Worker> {
    await mkdir(this.#dir, { mode: 0o700 })
    const worker = new Worker(new URL('./extract-worker.ts', import.meta.url), {
      workerData: { dir: this.#dir, memory: this.#memory.buffer, slotBytes: SLOT_BYTES, whiteout: await whiteoutDevice(spoolDir), reserveBytes: RESERVE_BYTES },
      resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 },
    })
    worker.on('message', (m: FromExtractor) => {
      if (m.kind === 'taken') {
        this.#free.push(m.slot)
        this.#wake?.()
      } else if (m.kind === 'done') {
        this.#settle(m)
      } else if (m.kind === 'full') {
        this.#settle(Promise.reject(new EngineError('failed', `${this.#what}: no space left on device`)))
      } else {
        this.#settle(undefined)
      }
    })
    worker.on('error', () => { this.#settle(undefined) })
    worker.on('exit', () => { this.#settle(undefined) })
    return worker
  }

  async write(pieces: Buffer[]): Promise<void> {
    const worker = await this.#worker
    if (worker === undefined) return
    let slot: number | undefined
    let bytes = 0
    const send = (): void => {
      if (slot !== undefined) worker.postMessage({ kind: 'data', slot, bytes } satisfies ToExtractor)
      slot = undefined
      bytes = 0
    }
    for (const piece of pieces) {
      for (let at = 0; at < piece.length;) {
        while (slot === undefined && !this.#over) {
          slot = this.#free.pop()
          if (slot === undefined) await new Promise<void>(resolve => { this.#wake = resolve })
        }
        if (slot === undefined || this.#over) return
        const copied = piece.copy(this.#memory, slot * SLOT_BYTES + bytes, at, Math.min(piece.length, at + SLOT_BYTES - bytes))
        at += copied
        bytes += copied
        if (bytes === SLOT_BYTES) send()
      }
    }
    send()
  }

  end(whole: boolean): void {
    void this.#worker.then(worker => {
      if (whole && !this.#over) worker?.postMessage({ kind: 'end' } satisfies ToExtractor)
      else this.#settle(undefined)
    })
  }

  /** Moves the files of a layer that is done into an empty folder on the same file system. */
  async moveTo(target: string, { root }: ExtractedLayer): Promise<void> {
    await Promise.all((await readdir(this.#dir)).map(name => rename(join(this.#dir, name), join(target, name))))
    if (root === undefined) return
    await chown(target, root.uid, root.gid)
    await chmod(target, root.mode)
    await utimes(target, root.seconds, root.seconds)
  }

  /** Ends the thread and removes what was not moved. */
  async close(): Promise<void> {
    this.#settle(undefined)
    await (await this.#worker)?.terminate()
    await rm(this.#dir, { recursive: true, force: true })
  }
}

const WHITEOUT_NAME = 'whiteout'
let making: Promise<string | undefined> | undefined

/** The device 0:0 that overlayfs takes for a removed file: made once, then linked. Undefined where the machine cannot make it. */
async function whiteoutDevice(spoolDir: string): Promise<string | undefined> {
  const path = join(spoolDir, WHITEOUT_NAME)
  if (await access(path).then(() => true, () => false)) return path
  making ??= promisify(execFile)('mknod', ['-m', '600', path, 'c', '0', '0']).then(() => path, () => undefined).finally(() => { making = undefined })
  return making
}
