/** All containers of this backend, by id and by name. */
import { DockerError } from '../../errors.ts'
import type { ContainerIndex } from '../parts.ts'
import type { Container } from './container.ts'

export class Registry implements ContainerIndex {
  readonly #byId = new Map<string, Container>()
  /** Name → id; also those of containers being made. */
  readonly #names = new Map<string, string>()

  /** Oldest first. */
  all(): IterableIterator<Container> { return this.#byId.values() }
  get(id: string): Container | undefined { return this.#byId.get(id) }
  hasName(name: string): boolean { return this.#names.has(name) }

  /** Takes a name; `conflict` if another has it. */
  reserve(name: string, id: string): void {
    const owner = this.#names.get(name)
    if (owner !== undefined) {
      throw new DockerError('conflict', `Conflict. The container name "/${name}" is already in use by container "${owner}". `
        + 'You have to remove (or rename) that container to be able to reuse that name.')
    }
    this.#names.set(name, id)
  }

  release(name: string): void { this.#names.delete(name) }
  add(c: Container): void { this.#byId.set(c.id, c) }

  drop(c: Container): void {
    this.#byId.delete(c.id)
    if (this.#names.get(c.name) === c.id) this.#names.delete(c.name)
  }

  /** Full id, name, unique prefix of an id. */
  resolve(ref: string): Container {
    const found = this.find(ref)
    if (found === undefined) throw new DockerError('not-found', `No such container: ${ref}`)
    return found
  }

  /** Throws if a prefix is ambiguous. */
  find(ref: string): Container | undefined {
    const bare = ref.startsWith('/') ? ref.slice(1) : ref
    if (bare === '') throw new DockerError('invalid', `invalid name or ID supplied: ${JSON.stringify(ref)}`)
    const exact = this.#byId.get(bare)
    if (exact !== undefined) return exact
    const named = this.#names.get(bare)
    if (named !== undefined) return this.#byId.get(named)
    if (!/^[0-9a-f]{1,63}$/.test(bare)) return undefined
    let found: Container | undefined
    for (const [id, c] of this.#byId) {
      if (!id.startsWith(bare)) continue
      if (found !== undefined) throw new DockerError('invalid', `multiple IDs found with provided prefix: ${bare}`)
      found = c
    }
    return found
  }

  byImage(imageId: string): { id: string; name: string; running: boolean }[] {
    const out: { id: string; name: string; running: boolean }[] = []
    for (const c of this.#byId.values()) if (c.record.imageId === imageId) out.push({ id: c.id, name: c.name, running: c.running })
    return out
  }

  nameOf(id: string): string | undefined { return this.#byId.get(id)?.name }
}
