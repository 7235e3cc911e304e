/** Makes a container's image present, by its pull policy, with Kubernetes' reasons and back-off. */
import type { Container, Secret } from '../../core/types/index.ts'
import { EngineError } from '../../engine/engine.ts'
import type { ImageService, RegistryAuth } from '../../engine/engine.ts'
import { errorText } from '../error-text.ts'
import { Limiter } from '../limiter.ts'
import { pullDelayMs } from './backoff.ts'

export class ImageError extends Error {
  readonly reason: 'ErrImagePull' | 'ErrImageNeverPull' | 'InvalidImageName' | 'ImageInspectError'
  readonly retryAtMs: number
  constructor(reason: ImageError['reason'], message: string, retryAtMs: number) {
    super(message)
    this.name = 'ImageError'
    this.reason = reason
    this.retryAtMs = retryAtMs
  }
}

export type ImageEvent = (type: 'Normal' | 'Warning', reason: string, message: string) => void

/** With `Always` and an unreachable registry, the image at hand serves, and the registry is left alone for so long. */
const UNREACHABLE_MS = 60_000
const RETRY_CONFIG_MS = 10_000

export class ImagePuller {
  readonly #images: ImageService
  readonly #limiter = new Limiter(3)
  readonly #failures = new Map<string, number>()
  readonly #unreachableUntilMs = new Map<string, number>()

  constructor(images: ImageService) { this.#images = images }

  /** Resolves when the image can be run. Rejects with ImageError. */
  async ensure(container: Container, pullSecrets: Secret[], event: ImageEvent): Promise<void> {
    const image = container.image ?? ''
    let reference: string
    try {
      reference = this.#images.normalize(image)
    } catch (e) {
      throw new ImageError('InvalidImageName', `Failed to apply default image tag "${image}": ${errorText(e)}`, Date.now() + RETRY_CONFIG_MS)
    }
    const policy = container.imagePullPolicy ?? 'IfNotPresent'
    const present = await this.#images.find(reference)
    if (present !== undefined) {
      // What was built or loaded in the cluster may be newer on another node, but a registry's image of its name is another's.
      if (policy === 'Always' && present.origin !== 'registry') await this.#images.pull(reference, { peersOnly: true })
      const skip = policy !== 'Always' || present.origin !== 'registry' || (this.#unreachableUntilMs.get(host(reference)) ?? 0) > Date.now()
      if (skip) {
        event('Normal', 'Pulled', `Container image "${image}" already present on machine`)
        return
      }
    } else if (policy === 'Never') {
      throw new ImageError('ErrImageNeverPull', `Container image "${image}" is not present with pull policy of Never`, Date.now() + RETRY_CONFIG_MS)
    }
    await this.#pull(image, reference, present !== undefined, pullSecrets, event)
  }

  async #pull(image: string, reference: string, present: boolean, pullSecrets: Secret[], event: ImageEvent): Promise<void> {
    event('Normal', 'Pulling', `Pulling image "${image}"`)
    const beganMs = Date.now()
    const auth = registryAuth(reference, pullSecrets)
    try {
      const pulled = await this.#limiter.run(() => this.#images.pull(reference, auth === undefined ? {} : { auth }))
      this.#failures.delete(reference)
      event('Normal', 'Pulled',
        `Successfully pulled image "${image}" in ${((Date.now() - beganMs) / 1000).toFixed(3)}s. Image size: ${pulled.sizeBytes} bytes.`)
    } catch (e) {
      if (present && e instanceof EngineError && (e.code === 'unavailable' || e.code === 'not-found')) {
        this.#unreachableUntilMs.set(host(reference), Date.now() + UNREACHABLE_MS)
        event('Normal', 'Pulled', `Container image "${image}" already present on machine; its registry does not answer: ${e.message}`)
        return
      }
      const failures = (this.#failures.get(reference) ?? 0) + 1
      this.#failures.set(reference, failures)
      event('Warning', 'Failed', `Failed to pull image "${image}": ${errorText(e)}`)
      throw new ImageError('ErrImagePull', errorText(e), Date.now() + pullDelayMs(failures))
    }
  }
}

function host(reference: string): string { return reference.slice(0, reference.indexOf('/')) }

/** The credentials that pull secrets (`.dockerconfigjson` or `.dockercfg`) hold for the reference's registry. */
export function registryAuth(reference: string, pullSecrets: Secret[]): RegistryAuth | undefined {
  const registry = host(reference)
  for (const s of pullSecrets) {
    const text = s.data?.['.dockerconfigjson'] ?? s.data?.['.dockercfg']
    if (text === undefined) continue
    let parsed: { auths?: Record<string, AuthEntry> } & Record<string, unknown>
    try {
      parsed = JSON.parse(Buffer.from(text, 'base64').toString('utf8')) as typeof parsed
    } catch {
      continue
    }
    const auths = parsed.auths ?? parsed as Record<string, AuthEntry>
    for (const [key, entry] of Object.entries(auths)) {
      const name = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
      if (name !== registry && !(name === 'index.docker.io' && registry === 'docker.io')) continue
      if (entry.username !== undefined) return { username: entry.username, password: entry.password ?? '' }
      const pair = Buffer.from(entry.auth ?? '', 'base64').toString('utf8')
      const colon = pair.indexOf(':')
      if (colon > 0) return { username: pair.slice(0, colon), password: pair.slice(colon + 1) }
    }
  }
  return undefined
}
interface AuthEntry { username?: string; password?: string; auth?: string }
