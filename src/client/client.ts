/** The Client of core/client.ts over HTTPS, for agents, routers, dialects' tools and the CLI. */
import type { OutgoingHttpHeaders } from 'node:http2'
import { setTimeout as delay } from 'node:timers/promises'
import type { Readable } from 'node:stream'
import type {
  Client, DeleteOptions, Informer, InformerOptions, Key, ListOptions, PatchType, WriteOptions,
} from '../core/client.ts'
import { pods } from '../core/kinds.ts'
import type { Kind } from '../core/kinds.ts'
import type { ApiObject, ObjectList } from '../core/types/index.ts'
import { errorOfAnswer, retryAfterMs } from './answers.ts'
import { openExec } from './exec.ts'
import type { ExecOptions, ExecStream } from './exec.ts'
import { RemoteInformer } from './informer.ts'
import { PATCH_CONTENT_TYPE, collectionPath, listQuery, objectPath, withQuery, writeQuery } from './paths.ts'
import { ConnectionError, Transport, readText } from './transport.ts'
import type { RawAnswer, RawRequest, TransportOptions } from './transport.ts'

export type ConnectOptions = TransportOptions

/** A server that holds a write longer than this is taken for dead; Kubernetes' own servers give up after 34 s. */
const REQUEST_TIMEOUT_MS = 40_000
/** Refusals with Retry-After that are waited out before the caller hears of them. */
const MAX_RETRIES = 10

/** Opens no connection yet: the first request does. */
export function connect(options: ConnectOptions): RemoteClient {
  return new RemoteClient(options)
}

export class RemoteClient implements Client {
  readonly #transport: Transport
  readonly #informers = new Set<{ stop(): void }>()

  constructor(options: ConnectOptions) { this.#transport = new Transport(options) }

  /** The API server in use. */
  get server(): string { return this.#transport.server }

  get<T extends ApiObject>(kind: Kind<T>, key: Key): Promise<T> {
    return this.#json('GET', objectPath(kind, key))
  }

  async list<T extends ApiObject>(kind: Kind<T>, options: ListOptions = {}): Promise<ObjectList<T>> {
    const list = await this.#json<ObjectList<T>>('GET', withQuery(collectionPath(kind, options.namespace), listQuery(options)))
    for (const item of list.items) {
      // Kubernetes leaves both out of the items of a list.
      item.apiVersion ??= kind.apiVersion
      item.kind ??= kind.kind
    }
    return list
  }

  create<T extends ApiObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): Promise<T> {
    const { namespace, name } = object.metadata
    const path = options.subresource === undefined
      ? collectionPath(kind, namespace)
      : objectPath(kind, { namespace, name }, options.subresource)
    return this.#json('POST', withQuery(path, writeQuery(options)), object)
  }

  update<T extends ApiObject>(kind: Kind<T>, object: T, options: WriteOptions = {}): Promise<T> {
    return this.#json('PUT', withQuery(objectPath(kind, object.metadata, options.subresource), writeQuery(options)), object)
  }

  updateStatus<T extends ApiObject>(kind: Kind<T>, object: T): Promise<T> {
    return this.update(kind, object, { subresource: 'status' })
  }

  patch<T extends ApiObject>(kind: Kind<T>, key: Key, type: PatchType, body: unknown, options: WriteOptions = {}): Promise<T> {
    const path = withQuery(objectPath(kind, key, options.subresource), writeQuery(options))
    return this.#json('PATCH', path, body, PATCH_CONTENT_TYPE[type])
  }

  async delete<T extends ApiObject>(kind: Kind<T>, key: Key, options: DeleteOptions = {}): Promise<void> {
    await this.#json('DELETE', objectPath(kind, key), { kind: 'DeleteOptions', apiVersion: 'v1', ...options })
  }

  async bind(pod: { namespace: string; name: string; uid?: string }, nodeName: string): Promise<void> {
    await this.#json('POST', objectPath(pods, pod, 'binding'), {
      apiVersion: 'v1', kind: 'Binding', metadata: pod, target: { apiVersion: 'v1', kind: 'Node', name: nodeName },
    })
  }

  informer<T extends ApiObject>(kind: Kind<T>, options: InformerOptions<T> = {}): Informer<T> {
    const informer = new RemoteInformer(this.#transport, kind, options, () => this.#informers.delete(informer))
    this.#informers.add(informer)
    return informer
  }

  /**
   * Any request, e.g. below `/gantry/v1/`. Bodies stream both ways. Resolves with whatever the server answers; rejects with
   * ApiError (ServiceUnavailable) when it does not.
   */
  request(method: string, path: string, request: RawRequest = {}): Promise<RawAnswer> {
    return this.#transport.send(method, path, request)
  }

  /** Like {@link request}, but an answer with an error code rejects with its ApiError. */
  async requestOk(method: string, path: string, request: RawRequest = {}): Promise<Readable> {
    const { status, body } = await this.request(method, path, request)
    if (status >= 400) throw errorOfAnswer(status, await readText(body))
    return body
  }

  /** Any request with a JSON body (or none) and a JSON answer; for resources without a Kind of their own. */
  call<R>(method: string, path: string, body?: unknown): Promise<R> {
    return this.#json(method, path, body)
  }

  /** Runs a command in a container, or attaches to it (`command` left out). */
  execStream(options: ExecOptions): Promise<ExecStream> {
    return openExec(this.#transport, options)
  }

  /** Stops all informers and cuts off what is under way. */
  close(): void {
    for (const informer of [...this.#informers]) informer.stop()
    this.#transport.close()
  }

  async #json<R>(method: string, path: string, body?: unknown, contentType = 'application/json'): Promise<R> {
    const headers: OutgoingHttpHeaders = { accept: 'application/json', ...(body !== undefined && { 'content-type': contentType }) }
    const text = body === undefined ? undefined : JSON.stringify(body)
    for (let attempt = 0; ; attempt++) {
      try {
        const answer = await this.#transport.send(method, path, { headers, body: text, timeoutMs: REQUEST_TIMEOUT_MS })
        const answerText = await readText(answer.body)
        if (answer.status < 400) return JSON.parse(answerText) as R
        const waitMs = retryAfterMs(answer.headers['retry-after'])
        const refused = answer.status === 429 || answer.status === 503
        if (!refused || waitMs === undefined || attempt >= MAX_RETRIES) throw errorOfAnswer(answer.status, answerText)
        await delay(waitMs)
      } catch (e) {
        // A read may be asked twice; whether a broken-off write happened only the caller can find out.
        if (!(e instanceof ConnectionError && e.sent && method === 'GET' && attempt === 0)) throw e
      }
    }
  }
}
