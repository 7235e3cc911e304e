/**
 * /dev/shm of containers that let others join their IPC namespace: a tmpfs of the machine's that all of them bind, since nobody
 * can bind from another's mount namespace.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ContainerSpec } from '../engine.ts'

const run = promisify(execFile)
const DEFAULT_BYTES = 64 << 20

export class SharedMemory {
  readonly #dir: string
  /** Ids whose tmpfs is mounted. */
  readonly #mounted = new Set<string>()

  /** `dir`: of the engine's own. What a predecessor mounted is taken over. */
  constructor(dir: string) {
    this.#dir = dir
    mkdirSync(dir, { recursive: true, mode: 0o711 })
    for (const id of readdirSync(dir)) this.#mounted.add(id)
  }

  /** What to bind over the container's /dev/shm; undefined for one of its own. */
  async pathFor(spec: ContainerSpec): Promise<string | undefined> {
    if (typeof spec.ipc === 'object') return this.#mounted.has(spec.ipc.container) ? join(this.#dir, spec.ipc.container) : undefined
    if (spec.ipc !== 'shareable') return undefined
    const path = join(this.#dir, spec.id)
    if (!this.#mounted.has(spec.id)) {
      mkdirSync(path, { recursive: true, mode: 0o755 })
      this.#mounted.add(spec.id)
      await run('mount', ['-t', 'tmpfs', '-o', `nosuid,nodev,noexec,mode=1777,size=${spec.shmSizeBytes ?? DEFAULT_BYTES}`, 'shm', path])
    }
    return path
  }

  /** Those who joined keep theirs. */
  async release(id: string): Promise<void> {
    if (!this.#mounted.delete(id)) return
    const path = join(this.#dir, id)
    await run('umount', ['-l', path]).catch(() => undefined)
    try {
      rmdirSync(path)
    } catch {
      // Held by a mount that could not be undone: the next opening tries again.
    }
  }

  /** Lets go of those whose container does not run. */
  async sweep(keep: (id: string) => boolean): Promise<void> {
    for (const id of [...this.#mounted]) if (!keep(id)) await this.release(id)
  }
}
