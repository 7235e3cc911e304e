/** One POST to a plugin: connecting is tried again while the plugin is starting; size and time of the answer are bounded. */
import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Location } from './discovery.ts'
import { PluginError } from './plugins.ts'

const ACCEPT = 'application/vnd.docker.plugins.v1.2+json'
const MAX_ANSWER_BYTES = 16 << 20
const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 1000
/** Nothing was sent yet when these happen: trying again cannot do a thing twice. */
const NOT_THERE = new Set(['ENOENT', 'ECONNREFUSED', 'EAGAIN'])

export interface PostOptions {
  timeoutMs: number
  connectMs: number
  signal?: AbortSignal | undefined
}

export interface Posted { status: number; body: Buffer }

export async function post(to: Location, method: string, body: object, options: PostOptions): Promise<Posted> {
  const timeout = AbortSignal.timeout(options.timeoutMs)
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal])
  const payload = Buffer.from(JSON.stringify(body))
  const giveUpMs = Date.now() + options.connectMs
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
    try {
      return await once(await open(to, method, payload.length, signal), to.name, method, payload)
    } catch (e) {
      if (options.signal?.aborted === true) throw options.signal.reason
      if (timeout.aborted) throw new PluginError('timeout', to.name, `plugin "${to.name}": ${method}: no answer within ${options.timeoutMs / 1000} s`)
      if (e instanceof PluginError) throw e
      if (!NOT_THERE.has((e as NodeJS.ErrnoException).code ?? '') || Date.now() + pauseMs > giveUpMs) {
        throw new PluginError('unreachable', to.name, `plugin "${to.name}": ${method}: ${(e as Error).message}`)
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined)
    }
  }
}

async function open(to: Location, method: string, length: number, signal: AbortSignal): Promise<ClientRequest> {
  const options: RequestOptions = {
    method: 'POST', path: `/${method}`, agent: false, signal,
    headers: { 'Accept': ACCEPT, 'Content-Type': ACCEPT, 'Content-Length': length },
  }
  const { address, tls } = to
  if (address.protocol === 'unix:') return httpRequest({ ...options, socketPath: decodeURI(address.pathname), headers: { ...options.headers, Host: 'plugin' } })
  const where = { host: address.hostname.replace(/^\[|\]$/g, ''), port: address.port === '' ? undefined : Number(address.port) }
  if (address.protocol !== 'https:') return httpRequest({ ...options, ...where })
  const [ca, cert, key] = await Promise.all([tls?.caFile, tls?.certFile, tls?.keyFile].map((f) => f === undefined ? undefined : readFile(f)))
  return httpsRequest({
    ...options, ...where, rejectUnauthorized: tls?.insecure !== true,
    ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }),
  })
}

function once(request: ClientRequest, plugin: string, method: string, payload: Buffer): Promise<Posted> {
  return new Promise((resolve, reject) => {
    request.once('error', reject)
    request.once('response', (answer: IncomingMessage) => {
      const parts: Buffer[] = []
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        parts.push(chunk)
        if (bytes > MAX_ANSWER_BYTES) {
          answer.destroy(new PluginError('protocol', plugin, `plugin "${plugin}": ${method}: answer larger than ${MAX_ANSWER_BYTES >> 20} MiB`))
        }
      })
      answer.once('error', reject)
      answer.once('end', () => { resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(parts) }) })
    })
    request.end(payload)
  })
}
