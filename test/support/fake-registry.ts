/** A registry in this process whose images are made on demand, and which can be told to misbehave. */
import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { type Header, pack } from 'tar-stream'

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
const CONFIG = 'application/vnd.docker.container.image.v1+json'
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

export const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

export type TarEntry = [{ name: string } & Partial<Header>, (string | Buffer)?]

export function tarOf(entries: TarEntry[]): Promise<Buffer> {
  const p = pack()
  for (const [header, content] of entries) p.entry(header, content ?? '')
  p.finalize()
  return buffer(p)
}

export interface FakeImage {
  /** Compressed. */
  layer: Buffer
  /** Of the layer unpacked; default: computed. */
  diffId: string
  /** What the manifest says the layer's size is. */
  size?: number
  /** What it says the layer's digest is. */
  digest?: string
  /** Answers the layer in place of sending it. */
  sendLayer?(req: IncomingMessage, res: ServerResponse): void
  /** Answers the manifest. */
  sendManifest?(req: IncomingMessage, res: ServerResponse): void
}

/** Of one layer with one file of random text. */
export async function randomImage(name: string, bytes = 100_000): Promise<FakeImage> {
  const tar = await tarOf([[{ name }, randomBytes(bytes / 2).toString('hex')]])
  return { layer: gzipSync(tar, { level: 1 }), diffId: digestOf(tar) }
}

export class FakeRegistry {
  readonly images = new Map<string, FakeImage>()
  readonly #blobs = new Map<string, Buffer>()
  readonly #server: Server = createServer((req, res) => { this.#answer(req, res) })
  host = ''

  async start(): Promise<void> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    this.host = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  /** Serves it as `HOST/NAME:1`; answers that reference. */
  add(name: string, image: FakeImage): string {
    this.images.set(name, image)
    return `${this.host}/${name}:1`
  }

  #answer(req: IncomingMessage, res: ServerResponse): void {
    const [, name = '', kind, ref = ''] = /^\/v2\/(?:([^/]+)\/(manifests|blobs)\/([^/?]+))?/.exec(req.url ?? '') ?? []
    if (name === '') {
      res.end('{}')
      return
    }
    const image = this.images.get(name)
    if (image === undefined) {
      res.writeHead(404).end('{"errors":[{"code":"NAME_UNKNOWN"}]}')
      return
    }
    const config = Buffer.from(JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch, os: 'linux', config: { Cmd: ['/f'] }, rootfs: { type: 'layers', diff_ids: [image.diffId] },
    }))
    const layerDigest = image.digest ?? digestOf(image.layer)
    if (kind === 'manifests') {
      if (image.sendManifest !== undefined) {
        image.sendManifest(req, res)
        return
      }
      const manifest = Buffer.from(JSON.stringify({
        schemaVersion: 2, mediaType: MANIFEST, config: { mediaType: CONFIG, digest: digestOf(config), size: config.length },
        layers: [{ mediaType: LAYER, digest: layerDigest, size: image.size ?? image.layer.length }],
      }))
      res.writeHead(200, { 'content-type': MANIFEST, 'docker-content-digest': digestOf(manifest), 'content-length': manifest.length })
      res.end(req.method === 'HEAD' ? undefined : manifest)
      return
    }
    if (ref === layerDigest && image.sendLayer !== undefined) {
      image.sendLayer(req, res)
      return
    }
    const blob = ref === digestOf(config) ? config : ref === layerDigest ? image.layer : this.#blobs.get(ref)
    if (blob === undefined) res.writeHead(404).end()
    else res.writeHead(200, { 'content-length': blob.length }).end(req.method === 'HEAD' ? undefined : blob)
  }
}
