/** One probe or hook: a command in the container, or a connection to the Pod's address. */
import { Buffer } from 'node:buffer'
import { connect as http2Connect } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import { connect as tcpConnect } from 'node:net'
import type { Container, HttpGetAction, IntOrString, LifecycleHandler } from '../../core/types/index.ts'
import type { ContainerService } from '../../engine/engine.ts'
import { errorText } from '../error-text.ts'
import type { ProbeResult } from './probes.ts'

// Not by `import`, which reads every export of the module and thereby loads its WebSocket client: 14 MB for good.
const { request: httpRequest } = process.getBuiltinModule('node:http')

/** Bytes of a command's output or an HTTP body that are kept for a message. */
const KEEP_BYTES = 10 * 1024
const MESSAGE_CHARS = 500

export interface HandlerTarget { containers: Pick<ContainerService, 'exec'>; containerId: string; container: Container; podIP: string }

/** Never rejects: whatever goes wrong is a failed result. */
export async function runHandler(h: LifecycleHandler, target: HandlerTarget, timeoutMs: number): Promise<ProbeResult> {
  try {
    if (h.exec !== undefined) return await execCheck(h.exec.command, target, timeoutMs)
    if (h.httpGet !== undefined) return await httpCheck(h.httpGet, target, timeoutMs)
    if (h.tcpSocket !== undefined) {
      return await tcpCheck(h.tcpSocket.host ?? target.podIP, portNumber(h.tcpSocket.port, target.container), timeoutMs)
    }
    if (h.grpc !== undefined) return await grpcCheck(target.podIP, h.grpc.port, h.grpc.service ?? '', timeoutMs)
    if (h.sleep !== undefined) {
      const ms = Math.min(timeoutMs, h.sleep.seconds * 1000)
      await new Promise(resolve => { setTimeout(resolve, ms) })
    }
    return { ok: true, message: '' }
  } catch (e) {
    return { ok: false, message: errorText(e) }
  }
}

/** A container port's number, by number or by name. Throws an Error for an unknown name. */
export function portNumber(port: IntOrString, container: Container): number {
  if (typeof port === 'number') return port
  const named = container.ports?.find(p => p.name === port)
  if (named !== undefined) return named.containerPort
  if (/^\d+$/.test(port)) return Number(port)
  throw new Error(`container ${container.name} has no port named "${port}"`)
}

async function execCheck(command: string[], t: HandlerTarget, timeoutMs: number): Promise<ProbeResult> {
  const process = await t.containers.exec(t.containerId, { command })
  const chunks: Buffer[] = []
  let kept = 0
  const keep = (b: Buffer): void => {
    if (kept < KEEP_BYTES) chunks.push(b.subarray(0, KEEP_BYTES - kept))
    kept += b.length
  }
  for (const s of [process.stdout, process.stderr]) {
    s?.on('data', keep)
    s?.on('error', () => {})
  }
  let timer: NodeJS.Timeout | undefined
  try {
    const timeout = new Promise<'timeout'>(resolve => { timer = setTimeout(() => resolve('timeout'), timeoutMs) })
    const code = await Promise.race([process.exit, timeout])
    if (code === 'timeout') return { ok: false, message: `command timed out: ${command.join(' ')} timed out after ${timeoutMs / 1000}s` }
    return { ok: code === 0, message: Buffer.concat(chunks).toString('utf8').slice(0, MESSAGE_CHARS) }
  } finally {
    clearTimeout(timer)
    process.exit.catch(() => {})
    process.close()
  }
}

function httpCheck(a: HttpGetAction, t: HandlerTarget, timeoutMs: number): Promise<ProbeResult> {
  const host = a.host ?? t.podIP
  const headers: Record<string, string> = { 'user-agent': 'gantry-probe/1', accept: '*/*', connection: 'close' }
  for (const h of a.httpHeaders ?? []) headers[h.name.toLowerCase()] = h.value
  const options = {
    host, port: portNumber(a.port, t.container), path: a.path ?? '/', method: 'GET', headers, agent: false as const,
    signal: AbortSignal.timeout(timeoutMs),
  }
  return new Promise(resolve => {
    const fail = (e: Error): void => {
      const message = e.name === 'AbortError' || e.name === 'TimeoutError' ? 'context deadline exceeded' : e.message
      resolve({ ok: false, message: `Get "${a.scheme === 'HTTPS' ? 'https' : 'http'}://${host}:${options.port}${options.path}": ${message}` })
    }
    // A probe asks whether the process answers, not who it is: Kubernetes does not verify its certificate either.
    const request = a.scheme === 'HTTPS' ? httpsRequest({ ...options, rejectUnauthorized: false }) : httpRequest(options)
    request.on('error', fail)
    request.on('response', response => {
      const code = response.statusCode ?? 0
      response.on('error', () => {})
      response.destroy()
      resolve(code >= 200 && code < 400
        ? { ok: true, message: `HTTP probe answered ${code}` }
        : { ok: false, message: `HTTP probe failed with statuscode: ${code}` })
    })
    request.end()
  })
}

function tcpCheck(host: string, port: number, timeoutMs: number): Promise<ProbeResult> {
  return new Promise(resolve => {
    const socket = tcpConnect({ host, port })
    const end = (r: ProbeResult): void => {
      socket.destroy()
      resolve(r)
    }
    socket.setTimeout(timeoutMs, () => end({ ok: false, message: `dial tcp ${host}:${port}: i/o timeout` }))
    socket.on('connect', () => end({ ok: true, message: '' }))
    socket.on('error', e => end({ ok: false, message: `dial tcp ${host}:${port}: ${e.message}` }))
  })
}

/** `grpc.health.v1.Health/Check` by hand: its request is one string (field 1) and its answer one enum (field 1; 1 is SERVING). */
function grpcCheck(host: string, port: number, service: string, timeoutMs: number): Promise<ProbeResult> {
  return new Promise(resolve => {
    const session = http2Connect(`http://${host}:${port}`)
    const end = (r: ProbeResult): void => {
      clearTimeout(timer)
      session.destroy()
      resolve(r)
    }
    const timer = setTimeout(() => end({ ok: false, message: `timeout: failed to connect service "${host}:${port}" within ${timeoutMs / 1000}s` }), timeoutMs)
    session.on('error', e => end({ ok: false, message: e.message }))
    const name = Buffer.from(service).subarray(0, 127)
    const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name])
    const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message])
    const stream = session.request({
      ':method': 'POST', ':path': '/grpc.health.v1.Health/Check', 'content-type': 'application/grpc', te: 'trailers',
    })
    const chunks: Buffer[] = []
    stream.on('data', (b: Buffer) => chunks.push(b))
    stream.on('error', e => end({ ok: false, message: e.message }))
    stream.on('end', () => {
      const body = Buffer.concat(chunks)
      const serving = body.length >= 7 && body[5] === 0x08 && body[6] === 1
      end(serving ? { ok: true, message: '' } : { ok: false, message: `service unhealthy (responded with ${body[6] ?? 'an error'})` })
    })
    stream.end(frame)
  })
}
