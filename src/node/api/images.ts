/** `/images…`, `/build`, `/v2/…`: this node's images. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { badRequest, notFound } from '../../core/errors.ts'
import type { Engine, ImageConfig, RegistryAuth } from '../../engine/engine.ts'
import { flag, json, text } from './query.ts'
import { requestBody, sendBody, sendJson, sendProgress } from './respond.ts'

export async function serveImages(
  stream: ServerHttp2Stream, method: string, path: string, q: URLSearchParams, headers: IncomingHttpHeaders, { images }: Engine,
): Promise<void> {
  const what = `${method} ${path}`
  switch (what) {
    case 'GET /images': return sendJson(stream, await images.list())
    case 'GET /images/save': {
      const references = q.getAll('reference')
      if (references.length === 0) throw badRequest('the parameter "reference" is missing')
      return sendBody(stream, await images.save(references), { 'content-type': 'application/x-tar' })
    }
    case 'DELETE /images': return sendJson(stream, await images.remove(text(q, 'reference'), { force: flag(q, 'force') }))
    case 'POST /images/tag': {
      await images.tag(text(q, 'source'), text(q, 'target'))
      return sendJson(stream, {})
    }
    case 'POST /images/load': return sendProgress(stream, async onProgress => {
      const names = await images.load(requestBody(stream), onProgress)
      return { status: 'loaded', names }
    })
    case 'POST /images/import': {
      const reference = text(q, 'reference')
      const config = json<ImageConfig>(q, 'config')
      return sendProgress(stream, async () => ({ status: 'imported', id: (await images.import(requestBody(stream), reference, config)).id }))
    }
    case 'POST /images/pull': {
      const reference = images.normalize(text(q, 'reference'))
      const auth = registryAuth(headers)
      return sendProgress(stream, async onProgress => {
        const image = await images.pull(reference, { onProgress, insecure: flag(q, 'insecure'), ...(auth && { auth }) })
        return { status: 'pulled', id: image.id }
      })
    }
    case 'POST /images/push': {
      const reference = images.normalize(text(q, 'reference'))
      const auth = registryAuth(headers)
      return sendProgress(stream, async onProgress => {
        const { digest } = await images.push(reference, { onProgress, insecure: flag(q, 'insecure'), ...(auth && { auth }) })
        return { status: 'pushed', id: digest }
      })
    }
    default: throw notFound({ plural: 'paths', group: '' }, what)
  }
}

export async function serveBuild(stream: ServerHttp2Stream, q: URLSearchParams, { builder }: Engine): Promise<void> {
  const buildArgs = json<Record<string, string>>(q, 'buildargs') as Record<string, string>
  const labels = json<Record<string, string>>(q, 'labels') as Record<string, string>
  const abort = new AbortController()
  stream.once('close', () => abort.abort())
  await sendProgress(stream, async onProgress => {
    const image = await builder.build({
      context: requestBody(stream), tags: q.getAll('t'), buildArgs, labels, noCache: flag(q, 'nocache'), onProgress, signal: abort.signal,
      ...(q.get('dockerfile') ? { dockerfile: q.get('dockerfile')! } : {}), ...(q.get('target') ? { target: q.get('target')! } : {}),
    })
    return { status: 'built', id: image.id }
  })
}

/** The distribution protocol, read only. */
export async function serveDistribution(
  stream: ServerHttp2Stream, method: string, url: string, headers: IncomingHttpHeaders, { images }: Engine,
): Promise<void> {
  const plain = Object.fromEntries(Object.entries(headers).flatMap(([k, v]) => typeof v === 'string' && !k.startsWith(':') ? [[k, v]] : []))
  const answer = await images.serve(method, url, plain)
  if (stream.destroyed) {
    answer.body?.destroy()
    return
  }
  if (answer.body !== undefined && answer.status === 200) return sendBody(stream, answer.body, answer.headers)
  stream.respond({ ':status': answer.status, ...answer.headers }, { endStream: answer.body === undefined })
  answer.body?.pipe(stream)
}

function registryAuth(headers: IncomingHttpHeaders): RegistryAuth | undefined {
  const value = headers['x-registry-auth']
  if (typeof value !== 'string' || value === '') return undefined
  try {
    const parsed = JSON.parse(Buffer.from(value, 'base64url').toString('utf8')) as RegistryAuth
    if (typeof parsed === 'object' && parsed !== null) return parsed
  } catch {
    // Reported below.
  }
  throw badRequest('the header X-Registry-Auth must be base64url-encoded JSON')
}
