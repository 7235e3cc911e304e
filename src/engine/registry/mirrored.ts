/** Docker Hub behind mirrors: each question goes to the first of them that can answer, and to the Hub itself last. */
import type { Readable } from 'node:stream'
import { EngineError } from '../engine.ts'
import type { Descriptor } from '../images/media-types.ts'
import type { Repository } from './client.ts'
import type { FetchedManifest, RepositorySource } from './source.ts'

/** `--registry-mirror` as dockerd takes it: the address of a registry with nothing behind it. Throws `invalid` otherwise. */
export function parseMirror(text: string): URL {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) throw new EngineError('invalid', `invalid mirror: "${text}" is no http or https address`)
  if (url.username !== '' || url.password !== '') throw new EngineError('invalid', 'invalid mirror: username/password not allowed in the address')
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new EngineError('invalid', `invalid mirror: path, query, or fragment at end of the URI "${text}"`)
  }
  return url
}

/** A mirror's failure, whatever it is, costs only the time it takes; the error told is the Hub's. */
export class Mirrored implements RepositorySource {
  readonly name: string
  readonly #mirrors: Repository[]
  readonly #hub: Repository

  constructor(mirrors: Repository[], hub: Repository) {
    this.#mirrors = mirrors
    this.#hub = hub
    this.name = hub.name
  }

  manifest(reference: string, signal?: AbortSignal): Promise<FetchedManifest> { return this.#ask(r => r.manifest(reference, signal), signal) }

  blob(descriptor: Descriptor, offset: number, signal?: AbortSignal): Promise<{ stream: Readable; offset: number }> {
    return this.#ask(r => r.blob(descriptor, offset, signal), signal)
  }

  tags(signal?: AbortSignal): Promise<string[]> { return this.#ask(r => r.tags(signal), signal) }

  async #ask<T>(question: (r: Repository) => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (const mirror of this.#mirrors) {
      try {
        return await question(mirror)
      } catch {
        signal?.throwIfAborted()
      }
    }
    return question(this.#hub)
  }
}
