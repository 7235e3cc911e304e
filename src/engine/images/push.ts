/** Pushing: blobs the registry lacks (mounted from a sibling repository where possible), then the manifest. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EngineError } from '../engine.ts'
import type { OnProgress, RegistryAuth } from '../engine.ts'
import { Repository } from '../registry/client.ts'
import type { ImageContext } from './assemble.ts'
import { blobStream, withLease } from './content.ts'
import type { Descriptor } from './media-types.ts'
import { familiar, parseReference } from './reference.ts'

const MAX_UPLOADS = 4
const MAX_ATTEMPTS = 5

export interface PushOptions { auth?: RegistryAuth; onProgress?: OnProgress; insecure?: boolean; signal?: AbortSignal }

/** Pushes the image of this machine's platform; resolves with the digest of what the tag now names. */
export async function pushImage(x: ImageContext, reference: string, options: PushOptions = {}): Promise<{ digest: string }> {
  const hit = await x.store.lookup(reference)
  if (hit === undefined) throw new EngineError('not-found', `An image does not exist locally with the tag: ${reference}`)
  const parsed = parseReference(hit.record.name)
  const registry = new Repository(parsed.host, parsed.path, { auth: options.auth, insecure: options.insecure })
  const report = options.onProgress ?? (() => undefined)
  const { manifest, manifestDescriptor } = hit.resolved
  report({ status: `The push refers to repository [${familiar(`${parsed.host}/${parsed.path}`)}]` })

  const upload = async (d: Descriptor): Promise<void> => {
    const id = d.digest.slice(7, 19)
    const sourceLabel = `containerd.io/distribution.source.${parsed.host}`
    const sources = (await x.containerd.content.info(d.digest)).labels[sourceLabel]?.split(',') ?? []
    for (let attempt = 1; ; attempt++) {
      try {
        const how = await registry.upload(d, () => blobStream(x.containerd, d.digest), {
          mountFrom: sources.find(s => s !== '' && s !== parsed.path), signal: options.signal,
          onBytes: n => { report({ id, status: 'Pushing', currentBytes: n, totalBytes: d.size }) },
        })
        report({ id, status: { exists: 'Layer already exists', mounted: 'Mounted', pushed: 'Pushed' }[how] })
        break
      } catch (e) {
        if (!(e instanceof EngineError) || e.code !== 'unavailable' || attempt === MAX_ATTEMPTS) throw e
        await sleep(200 * 2 ** attempt, undefined, { signal: options.signal })
      }
    }
    if (!sources.includes(parsed.path)) {
      // Label values are limited: the latest few repositories are enough to mount from.
      await x.containerd.content.label(d.digest, { [sourceLabel]: [...sources, parsed.path].filter(s => s !== '').slice(-8).join(',') })
    }
  }

  return withLease(x.containerd, 'push', async lease => {
    await x.containerd.leases.addResource(lease, { id: manifestDescriptor.digest, type: 'content' })
    const waiting = [...new Map([...manifest.layers, manifest.config].map(d => [d.digest, d])).values()]
    for (const d of waiting) report({ id: d.digest.slice(7, 19), status: 'Preparing' })
    await Promise.all(Array.from({ length: MAX_UPLOADS }, async () => {
      for (let d = waiting.shift(); d !== undefined; d = waiting.shift()) await upload(d)
    }))
    const bytes = await x.containerd.content.readAll(manifestDescriptor.digest)
    await registry.putManifest(parsed.digest ?? parsed.tag ?? 'latest', manifestDescriptor.mediaType, bytes, options.signal)
    report({ status: `${parsed.tag ?? 'latest'}: digest: ${manifestDescriptor.digest} size: ${bytes.length}` })
    return { digest: manifestDescriptor.digest }
  })
}
