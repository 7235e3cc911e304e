/**
 * Which image each image built here was made from. The image format does not say it; Docker's `Parent`, its refusal to delete an
 * image with children, and the builder's cache need it. A file of our own, replaced whole; losing an entry costs only the link.
 */
import { readFile } from 'node:fs/promises'
import { replaceFileDurably } from '../../files/replace.ts'

export class Parents {
  readonly #file: string
  readonly #parentOf = new Map<string, string>()
  readonly #childrenOf = new Map<string, Set<string>>()
  #writing: Promise<void> | undefined
  #queued: Promise<void> | undefined

  private constructor(file: string) {
    this.#file = file
  }

  static async open(file: string): Promise<Parents> {
    const table = new Parents(file)
    try {
      const entries = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
      for (const [child, parent] of Object.entries(entries)) if (typeof parent === 'string') table.#link(child, parent)
    } catch {
      // None yet.
    }
    return table
  }

  /** Id of the image that `id` was built from, if it was built here. */
  get(id: string): string | undefined { return this.#parentOf.get(id) }

  /** Ids of images built from `id`. */
  children(id: string): string[] { return [...this.#childrenOf.get(id) ?? []] }

  /** Resolves when the link is on disk. An image keeps its first parent. */
  async set(id: string, parent: string): Promise<void> {
    if (id === parent || this.#parentOf.has(id)) return
    this.#link(id, parent)
    await this.#save()
  }

  /** Forgets images that are gone: their own links, and those of their children. */
  async delete(ids: string[]): Promise<void> {
    let changed = false
    for (const id of ids) {
      const parent = this.#parentOf.get(id)
      if (parent !== undefined) {
        this.#childrenOf.get(parent)?.delete(id)
        if (this.#childrenOf.get(parent)?.size === 0) this.#childrenOf.delete(parent)
      }
      changed = this.#parentOf.delete(id) || changed
      for (const child of this.children(id)) changed = this.#parentOf.delete(child) || changed
      this.#childrenOf.delete(id)
    }
    if (changed) await this.#save()
  }

  /** Forgets all that `isKnown` does not know: what a killed engine left. */
  async sweep(isKnown: (id: string) => boolean): Promise<void> {
    const ids = new Set([...this.#parentOf.keys(), ...this.#parentOf.values()])
    await this.delete([...ids].filter(id => !isKnown(id)))
  }

  #link(child: string, parent: string): void {
    this.#parentOf.set(child, parent)
    const children = this.#childrenOf.get(parent)
    if (children === undefined) this.#childrenOf.set(parent, new Set([child]))
    else children.add(child)
  }

  /** Changes made while a write runs share the next one. */
  #save(): Promise<void> {
    if (this.#writing === undefined) {
      this.#writing = this.#write().finally(() => { this.#writing = undefined })
      return this.#writing
    }
    this.#queued ??= this.#writing.catch(() => undefined).then(() => {
      this.#queued = undefined
      return this.#save()
    })
    return this.#queued
  }

  #write(): Promise<void> {
    return replaceFileDurably(this.#file, JSON.stringify(Object.fromEntries(this.#parentOf)))
  }
}
