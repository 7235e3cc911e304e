/** A served fake and raw requests to it, for the API's tests. */
import { mkdtempSync, rmSync } from 'node:fs'
import { request, type IncomingMessage, type RequestOptions } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { DockerBackend } from '../../backend.ts'
import { createDockerApi } from '../index.ts'
import { listen } from '../listen.ts'
import { textOf } from './fake-backend.ts'

export interface Answer { status: number; headers: IncomingMessage['headers']; text: string; json: unknown }

/** Serves a backend at a socket of its own for the time of a test. */
export async function served(t: TestContext, backend: DockerBackend) {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-api-'))
  const path = join(dir, 'docker.sock')
  const silent = { info() {}, warn() {}, error() {} }
  const listener = await listen(createDockerApi(backend, { serverVersion: '28.2.2', logger: silent }), { unix: path })
  t.after(async () => {
    await listener.close()
    rmSync(dir, { recursive: true })
  })
  const open = (method: string, url: string, options: RequestOptions = {}, body?: unknown): Promise<IncomingMessage> => new Promise((resolve, reject) => {
    const json = body !== undefined && !Buffer.isBuffer(body)
    const req = request({
      socketPath: path, method, path: url, agent: false, ...options,
      headers: { ...(json && { 'Content-Type': 'application/json' }), ...options.headers as Record<string, string> },
    }, resolve)
    req.on('error', reject)
    req.end(body === undefined ? undefined : json ? JSON.stringify(body) : body)
  })
  return {
    path,
    open,
    async call(method: string, url: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
      const res = await open(method, url, { headers }, body)
      const text = await textOf(res)
      const json: unknown = res.headers['content-type'] === 'application/json' && text !== '' && !text.trim().includes('\n') ? JSON.parse(text) : undefined
      return { status: res.statusCode!, headers: res.headers, text, json }
    },
    /** Sends bytes as they are over a connection of its own. */
    raw(text: string): Promise<Socket> {
      return new Promise((resolve, reject) => {
        const socket = connect({ path, allowHalfOpen: true }, () => {
          socket.write(text)
          resolve(socket)
        })
        socket.on('error', reject)
      })
    },
  }
}

/** Reads until what has come ends with `end`. */
export async function readUntil(socket: Socket, end: string): Promise<string> {
  let text = ''
  while (!text.endsWith(end)) {
    const chunk = socket.read() as Buffer | null
    if (chunk !== null) text += chunk.toString('latin1')
    else if (socket.readableEnded || socket.destroyed) throw new Error(`the connection ended after ${JSON.stringify(text)}`)
    else await new Promise<void>(resolve => {
      const again = (): void => {
        for (const e of ['readable', 'end', 'close']) socket.off(e, again)
        resolve()
      }
      for (const e of ['readable', 'end', 'close']) socket.on(e, again)
    })
  }
  return text
}
