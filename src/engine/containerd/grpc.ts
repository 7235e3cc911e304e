/** gRPC calls as promises and streams, with containerd's metadata. */
import { Call } from './call.ts'
import type { CallHandlers, Method } from './call.ts'
import { services } from './messages.ts'
import { SessionKeeper } from './session.ts'
import { Code, ContainerdError } from './status.ts'
import type { CallOptions } from './types.ts'

/** Messages that a slow reader of a stream may have waiting before containerd is made to wait. */
const MAX_QUEUED = 16

function method(service: string, name: string): Method {
  const types = services[service]?.[name]
  if (types === undefined) throw new Error(`messages.ts has no ${service}/${name}`)
  return { path: `/${service}/${name}`, name, request: types[0], response: types[1] }
}

export class Connection {
  readonly #sessions: SessionKeeper
  readonly #namespace: string

  constructor(socket: string, namespace: string) {
    this.#sessions = new SessionKeeper(socket)
    this.#namespace = namespace
  }

  #call(m: Method, options: CallOptions, handlers: CallHandlers): Call {
    const metadata: Record<string, string> = { 'containerd-namespace': this.#namespace }
    if (options.lease !== undefined) metadata['containerd-lease'] = options.lease
    return new Call(this.#sessions, m, metadata, options, handlers)
  }

  /** A typed function for one unary method. */
  unary<Req extends object, Res>(service: string, name: string): (request: Req, options?: CallOptions) => Promise<Res> {
    const m = method(service, name)
    return (request, options = {}) => new Promise<Res>((resolve, reject) => {
      options.signal?.throwIfAborted()
      let answer: object | undefined
      const call = this.#call(m, options, {
        onMessage: (message) => { answer = message },
        onEnd: (error) => {
          if (error !== undefined) reject(error)
          else if (answer === undefined) reject(new ContainerdError(Code.internal, 'containerd answered with nothing', name))
          else resolve(answer as Res)
        },
      })
      call.send(request)
      call.finish()
    })
  }

  /** A server stream; ends or throws ContainerdError. Leaving the loop cancels the call. */
  async *serverStream<Res>(service: string, name: string, request: object, options: CallOptions = {}): AsyncGenerator<Res> {
    options.signal?.throwIfAborted()
    const queue: Res[] = []
    let end: { error: Error | undefined } | undefined
    let wake = (): void => undefined
    const call = this.#call(method(service, name), options, {
      onMessage: (message) => {
        if (queue.push(message as Res) >= MAX_QUEUED) call.pause()
        wake()
      },
      onEnd: (error) => { end = { error }; wake() },
    })
    try {
      call.send(request)
      call.finish()
      while (true) {
        const next = queue.shift()
        if (next !== undefined) {
          if (queue.length === 0) call.resume()
          yield next
        } else if (end !== undefined) {
          if (end.error !== undefined) throw end.error
          return
        } else {
          await new Promise<void>((resolve) => { wake = resolve })
        }
      }
    } finally {
      call.cancel()
    }
  }

  /** A stream both ways. */
  duplex(service: string, name: string, options: CallOptions, handlers: CallHandlers): Call {
    options.signal?.throwIfAborted()
    return this.#call(method(service, name), options, handlers)
  }

  /** Resolves when containerd answers; rejects after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void> { return this.#sessions.ready(timeoutMs) }

  /** Calls under way reject with `unavailable`. */
  close(): void { this.#sessions.close() }
}
