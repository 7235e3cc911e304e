/** gRPC calls as promises: one HTTP/2 connection over a unix socket, containerd's metadata, plain status errors. */
import { Client, Metadata, credentials, status } from '@grpc/grpc-js'
import type { CallOptions as GrpcOptions, ClientDuplexStream, ClientReadableStream, ServiceError } from '@grpc/grpc-js'
import { method } from './protos.ts'
import type { CallOptions } from './types.ts'

export const Code = {
  canceled: status.CANCELLED, unknown: status.UNKNOWN, invalidArgument: status.INVALID_ARGUMENT,
  deadlineExceeded: status.DEADLINE_EXCEEDED, notFound: status.NOT_FOUND, alreadyExists: status.ALREADY_EXISTS,
  failedPrecondition: status.FAILED_PRECONDITION, outOfRange: status.OUT_OF_RANGE, unimplemented: status.UNIMPLEMENTED,
  unavailable: status.UNAVAILABLE,
} as const

/** containerd refused or could not be reached. `code` is a gRPC status (see Code); the message is containerd's own text. */
export class ContainerdError extends Error {
  readonly code: number
  readonly call: string
  constructor(code: number, text: string, call: string) {
    super(text)
    this.name = 'ContainerdError'
    this.code = code
    this.call = call
  }
}

export function hasCode(e: unknown, ...codes: number[]): boolean {
  return e instanceof ContainerdError && codes.includes(e.code)
}

/** Resolves with undefined where the object is not there. */
export async function orAbsent<T>(p: Promise<T>): Promise<T | undefined> {
  try {
    return await p
  } catch (e) {
    if (hasCode(e, Code.notFound)) return undefined
    throw e
  }
}

const MAX_MESSAGE_BYTES = 64 << 20

export class Connection {
  readonly #client: Client
  readonly #namespace: string
  readonly #plain: Metadata

  constructor(socket: string, namespace: string) {
    this.#namespace = namespace
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.default_authority': 'localhost',
      // A local daemon that restarts is back within a second: do not back off for longer.
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.min_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000,
    })
    this.#plain = this.#metadata(undefined)
  }

  #metadata(lease: string | undefined): Metadata {
    const m = new Metadata({ waitForReady: false })
    m.set('containerd-namespace', this.#namespace)
    if (lease !== undefined) m.set('containerd-lease', lease)
    return m
  }

  #prepare(options: CallOptions | undefined): { metadata: Metadata; grpc: GrpcOptions } {
    return {
      metadata: options?.lease === undefined ? this.#plain : this.#metadata(options.lease),
      grpc: options?.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs },
    }
  }

  /** A typed function for one unary method. */
  unary<Req extends object, Res>(service: string, name: string): (request: Req, options?: CallOptions) => Promise<Res> {
    const m = method(service, name)
    return (request, options) => new Promise<Res>((resolve, reject) => {
      const { metadata, grpc } = this.#prepare(options)
      const signal = options?.signal
      if (signal?.aborted) { reject(signal.reason as Error); return }
      const call = this.#client.makeUnaryRequest(
        m.path, m.requestSerialize, m.responseDeserialize, request, metadata, grpc,
        (e: ServiceError | null, value?: object) => {
          signal?.removeEventListener('abort', cancel)
          if (e === null) resolve(value as Res)
          else reject(toError(e, name))
        })
      const cancel = (): void => { call.cancel() }
      signal?.addEventListener('abort', cancel, { once: true })
    })
  }

  /** A server stream; ends or throws ContainerdError. Leaving the loop cancels the call. */
  async *serverStream<Res>(service: string, name: string, request: object, options?: CallOptions): AsyncGenerator<Res> {
    const call = this.openStream(service, name, request, options)
    try {
      for await (const item of call) yield item as Res
    } catch (e) {
      throw toError(e, name)
    } finally {
      call.cancel()
    }
  }

  openStream(service: string, name: string, request: object, options?: CallOptions): ClientReadableStream<object> {
    const m = method(service, name)
    const { metadata, grpc } = this.#prepare(options)
    const call = this.#client.makeServerStreamRequest(m.path, m.requestSerialize, m.responseDeserialize, request, metadata, grpc)
    if (options?.signal !== undefined) {
      const signal = options.signal
      const cancel = (): void => { call.cancel() }
      if (signal.aborted) cancel()
      else {
        signal.addEventListener('abort', cancel, { once: true })
        call.once('close', () => { signal.removeEventListener('abort', cancel) })
      }
    }
    return call
  }

  duplex(service: string, name: string, options?: CallOptions): ClientDuplexStream<object, object> {
    const m = method(service, name)
    const { metadata, grpc } = this.#prepare(options)
    return this.#client.makeBidiStreamRequest(m.path, m.requestSerialize, m.responseDeserialize, metadata, grpc)
  }

  /** Resolves when containerd answers; rejects after `timeoutMs`. */
  ready(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + timeoutMs, (e) => { if (e === undefined) resolve(); else reject(e) })
    })
  }

  close(): void { this.#client.close() }
}

export function toError(e: unknown, call: string): Error {
  const s = e as Partial<ServiceError>
  if (typeof s.code !== 'number') return e instanceof Error ? e : new Error(String(e))
  return new ContainerdError(s.code, s.details ?? s.message ?? 'unknown error', call)
}
