/** What the server says about itself: discovery, OpenAPI, version, health. */
import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { aggregatedDiscovery, apiGroup, apiGroupList, apiResourceList, apiVersions } from '../../core/discovery.ts'
import { ApiError } from '../../core/errors.ts'
import type { KindTable } from '../../core/kinds.ts'
import type { Context, Response } from '../host.ts'
import type { Health, Metrics } from '../health.ts'
import { sendJson, sendLarge } from './respond.ts'

export const VERSION = {
  major: '1', minor: '35', gitVersion: 'v1.35.0+gantry1', gitCommit: '', gitTreeState: 'clean', buildDate: '1970-01-01T00:00:00Z',
  goVersion: 'none', compiler: 'node', platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
}
const YEAR_S = 365 * 86_400

interface Document { body: Buffer; etag: string; gzip: Buffer | undefined }

function documentOf(value: object): Document {
  const body = Buffer.from(JSON.stringify(value))
  return { body, etag: createHash('sha256').update(body).digest('hex').toUpperCase().slice(0, 32), gzip: undefined }
}

export class Meta {
  readonly #kinds: KindTable
  readonly #address: string
  readonly #health: Health
  readonly #metrics: Metrics
  /** Documents by path and form; thrown away when a kind is added. */
  readonly #documents = new Map<string, Document>()
  #kindCount = 0

  constructor(kinds: KindTable, address: string, health: Health, metrics: Metrics) {
    this.#kinds = kinds
    this.#address = address
    this.#health = health
    this.#metrics = metrics
  }

  /** Answers, or returns false for a path it does not know. The caller has authorised the path. */
  async serve(context: Context, res: Response): Promise<boolean> {
    const { info, query } = context
    const path = info.path.length > 1 && info.path.endsWith('/') ? info.path.slice(0, -1) : info.path
    if (info.verb !== 'get' && info.verb !== 'list' && info.verb !== 'head') return false
    if (path === '/version') {
      sendJson(res, 200, JSON.stringify(VERSION))
      return true
    }
    if (path === '/livez' || path === '/readyz' || path === '/healthz') {
      sendText(res, this.#health.report(path, query.has('verbose')))
      return true
    }
    if (path === '/metrics') {
      sendText(res, this.#metrics.text(), 'text/plain; version=0.0.4')
      return true
    }
    if (path === '/' || path === '/api' || path.startsWith('/api/') || path === '/apis' || path.startsWith('/apis/')) return this.#discovery(context, path, res)
    if (path === '/openapi/v3' || path.startsWith('/openapi/v3/')) return this.#openApi(context, path, res)
    return false
  }

  #document(key: string, make: () => object | undefined): Document | undefined {
    const count = this.#kinds.all().length
    if (count !== this.#kindCount) {
      this.#documents.clear()
      this.#kindCount = count
    }
    let document = this.#documents.get(key)
    if (document === undefined) {
      const value = make()
      if (value === undefined) return undefined
      this.#documents.set(key, document = documentOf(value))
    }
    return document
  }

  async #discovery(context: Context, path: string, res: Response): Promise<boolean> {
    const kinds = this.#kinds
    const aggregated = path === '/api' || path === '/apis' ? aggregatedVersion(context.req.headers['accept']) : undefined
    if (aggregated !== undefined) {
      const document = this.#document(`${path} ${aggregated}`, () =>
        aggregatedDiscovery(kinds, path === '/api' ? 'core' : 'groups', `apidiscovery.k8s.io/${aggregated}`))!
      await this.#send(context, res, document, { 'Content-Type': `application/json;g=apidiscovery.k8s.io;v=${aggregated};as=APIGroupDiscoveryList` })
      return true
    }
    const document = this.#document(path, () => {
      if (path === '/') return { paths: ['/api', '/apis', '/healthz', '/livez', '/metrics', '/openapi/v3', '/readyz', '/version'] }
      if (path === '/api') return apiVersions(this.#address)
      if (path === '/apis') return apiGroupList(kinds)
      const parts = path.split('/').slice(1)
      if (parts[0] === 'api') return parts.length === 2 ? apiResourceList(kinds, parts[1]!) : undefined
      if (parts.length === 2) return apiGroup(kinds, parts[1]!)
      return parts.length === 3 ? apiResourceList(kinds, `${parts[1]}/${parts[2]}`) : undefined
    })
    if (document === undefined) return false
    await this.#send(context, res, document, {})
    return true
  }

  async #send({ req }: Context, res: Response, document: Document, headers: Record<string, string>): Promise<void> {
    const etag = `"${document.etag}"`
    const all = { ETag: etag, Vary: 'Accept', 'Cache-Control': 'public', ...headers }
    if (req.headers['if-none-match'] === etag) {
      ;(res as ServerResponse).writeHead(304, all)
      res.end()
      return
    }
    document.gzip = await sendLarge(req, res, document.body, document.gzip, all) ?? document.gzip
  }

  async #openApi(context: Context, path: string, res: Response): Promise<boolean> {
    // Loaded when first asked for: schemas are large, and most servers' clients never ask.
    const { openApiDocument, openApiGroupVersions } = await import('../../core/openapi.ts')
    const accept = context.req.headers['accept'] ?? '*/*'
    if (!/application\/json|\*\/\*|application\/\*/.test(accept)) throw new ApiError('NotAcceptable', 'OpenAPI v3 is served as application/json')
    const groupVersion = (name: string): Document | undefined => this.#document(`openapi ${name}`, () => openApiDocument(this.#kinds, name))
    if (path === '/openapi/v3') {
      const index = this.#document('openapi', () => ({
        paths: Object.fromEntries(openApiGroupVersions(this.#kinds).map(name =>
          [name, { serverRelativeURL: `/openapi/v3/${name}?hash=${groupVersion(name)!.etag}` }])),
      }))!
      await this.#send(context, res, index, {})
      return true
    }
    const name = path.slice('/openapi/v3/'.length)
    const document = openApiGroupVersions(this.#kinds).includes(name) ? groupVersion(name) : undefined
    if (document === undefined) return false
    const hash = context.query.get('hash')
    if (hash !== null && hash !== document.etag) {
      ;(res as ServerResponse).writeHead(301, { Location: `/openapi/v3/${name}?hash=${document.etag}`, Vary: 'Accept' })
      res.end()
      return true
    }
    await this.#send(context, res, document, hash === null ? {} : {
      'Cache-Control': `public, immutable, max-age=${YEAR_S}`, Expires: new Date(Date.now() + YEAR_S * 1000).toUTCString(),
    })
    return true
  }
}

/** `v2` or `v2beta1` if the client prefers aggregated discovery. Parameters may come in any order. */
function aggregatedVersion(accept: string | undefined): string | undefined {
  for (const part of (accept ?? '').split(',')) {
    const [type, ...parameters] = part.split(';').map(p => p.trim())
    if (type !== 'application/json') continue
    const values = new Map(parameters.map(p => p.split('=', 2) as [string, string]))
    const v = values.get('v')
    if (values.get('g') === 'apidiscovery.k8s.io' && values.get('as') === 'APIGroupDiscoveryList' && (v === 'v2' || v === 'v2beta1')) return v
    if (values.size === 0) return undefined
  }
  return undefined
}

function sendText(res: Response, text: string, type = 'text/plain; charset=utf-8'): void {
  sendJson(res, 200, text, { 'Content-Type': type })
}
