/** `POST /portforward`: bytes to and from a port of a Pod. */
import type { ServerHttp2Stream } from 'node:http2'
import { connect } from 'node:net'
import { ApiError, badRequest } from '../../core/errors.ts'
import type { Pods } from '../pods.ts'
import { optionalNumber } from './query.ts'
import { podOf } from './target.ts'

const CONNECT_TIMEOUT_MS = 10_000

export async function servePortForward(stream: ServerHttp2Stream, q: URLSearchParams, all: Pick<Pods, 'byName'>): Promise<void> {
  const worker = podOf(all, q)
  const port = optionalNumber(q, 'port') ?? 0
  if (port < 1 || port > 65535) throw badRequest('the parameter "port" must be a number from 1 to 65535')
  const host = worker.view.podIP
  const name = worker.pod.metadata.name
  if (host === undefined || !worker.view.containers.some(c => c.state === 'running')) throw badRequest(`pod ${name} is not running`)
  const socket = connect({ host, port, allowHalfOpen: true })
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_TIMEOUT_MS)
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.once('error', e => {
      clearTimeout(timer)
      reject(new ApiError('ServiceUnavailable', `cannot connect to port ${port} of pod ${name}: ${e.message}`))
    })
  })
  socket.setNoDelay(true)
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' })
  socket.on('error', () => stream.destroy())
  stream.on('error', () => socket.destroy())
  stream.on('close', () => socket.destroy())
  stream.pipe(socket)
  socket.pipe(stream)
}
