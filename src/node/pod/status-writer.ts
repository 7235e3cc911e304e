/** Keeps the status in the API equal to the computed one: one write at a time, only when they differ, the newest value only. */
import type { Client } from '../../core/client.ts'
import { isReason } from '../../core/errors.ts'
import { pods } from '../../core/kinds.ts'
import type { Pod, PodStatus } from '../../core/types/index.ts'
import { contains } from './equal.ts'

const RETRY_MIN_MS = 20
const RETRY_MAX_MS = 5000

export interface StatusSource {
  /** The Pod as the API is known to hold it. */
  current(): Pod
  /** Undefined: nothing is to be said. */
  compute(): PodStatus | undefined
  /** The API's answer to a write. */
  accepted(pod: Pod): void
}

export class StatusWriter {
  readonly #client: Client
  readonly #source: StatusSource
  #writing: Promise<void> | undefined
  #again = false
  #timer: NodeJS.Timeout | undefined
  #retryMs = RETRY_MIN_MS
  #closed = false

  constructor(client: Client, source: StatusSource) {
    this.#client = client
    this.#source = source
  }

  /** Something may have changed; with `delayMs`, later changes go into the same write. */
  touch(delayMs = 0): void {
    if (this.#closed) return
    if (this.#writing !== undefined) {
      this.#again = true
    } else if (delayMs > 0) {
      this.#timer ??= setTimeout(() => this.touch(), delayMs)
    } else {
      clearTimeout(this.#timer)
      this.#timer = undefined
      this.#writing = this.#write().finally(() => {
        this.#writing = undefined
        if (!this.#again) return
        this.#again = false
        this.touch()
      })
    }
  }

  /** Resolves when nothing is being written, at the latest after `patienceMs`. */
  async settled(patienceMs: number): Promise<void> {
    const endMs = Date.now() + patienceMs
    while (this.#writing !== undefined && Date.now() < endMs) {
      let timer: NodeJS.Timeout | undefined
      await Promise.race([this.#writing, new Promise<void>(r => { timer = setTimeout(r, endMs - Date.now()) })])
      clearTimeout(timer)
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async #write(): Promise<void> {
    const pod = this.#source.current()
    const status = this.#source.compute()
    if (status === undefined || contains(pod.status, status)) return
    // The version guards what others wrote into the lists that this replaces whole (conditions).
    const body = { metadata: { uid: pod.metadata.uid, resourceVersion: pod.metadata.resourceVersion }, status }
    try {
      const accepted = await this.#client.patch(pods, pod.metadata, 'merge', body, { subresource: 'status', fieldManager: 'gantry-agent' })
      this.#retryMs = RETRY_MIN_MS
      if (accepted.metadata.uid === pod.metadata.uid) this.#source.accepted(accepted)
    } catch (e) {
      if (isReason(e, 'NotFound')) return
      if (isReason(e, 'Conflict')) await this.#reread(pod)
      else this.#later()
    }
  }

  /** Somebody else wrote first: begin again from what they wrote. */
  async #reread(pod: Pod): Promise<void> {
    try {
      const now = await this.#client.get(pods, pod.metadata)
      if (now.metadata.uid !== pod.metadata.uid) return
      this.#source.accepted(now)
      this.#later()
    } catch (e) {
      if (!isReason(e, 'NotFound')) this.#later()
    }
  }

  #later(): void {
    if (this.#closed) return
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.touch()
    }, this.#retryMs)
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2)
  }
}
