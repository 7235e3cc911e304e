/**
 * The lease of one build, made only when something has to be made under it: a build whose steps are all in the cache writes nothing into
 * containerd. What the cache gave until then is held from then on.
 */
import { randomBytes } from 'node:crypto'
import type { ContainerdClient } from '../containerd/index.ts'
import { createLease, endLease } from '../images/content.ts'

export interface Held { id: string; type: string }

export class BuildLease {
  readonly id = `gantry-build-${randomBytes(8).toString('hex')}`
  readonly #containerd: ContainerdClient
  readonly #waiting: Held[] = []
  #made: Promise<void> | undefined

  constructor(containerd: ContainerdClient) {
    this.#containerd = containerd
  }

  /** Holds them, at the latest before the next thing is made. They are kept by the cache or an image of their own until then. */
  hold(...resources: Held[]): void { this.#waiting.push(...resources) }

  /** Resolves when the lease is there, and holds all it was given. To be awaited before its id is used. */
  async open(): Promise<void> {
    this.#made ??= createLease(this.#containerd, this.id, 'build')
    await this.#made
    await Promise.all(this.#waiting.splice(0).map(r => this.#containerd.leases.addResource(this.id, r)))
  }

  async end(): Promise<void> {
    if (this.#made !== undefined) await endLease(this.#containerd, this.id)
  }
}
