/** Typed calls to etcd's v3 gRPC API: what `etcd.proto` describes. */
import { randomInt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { checkServerIdentity } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import type { ChannelCredentials, ClientDuplexStream, GrpcObject, ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** A dead member answers nothing: the call fails, and the next one goes to another. */
const CALL_TIMEOUT_MS = 10_000
/** A watch answers a large transaction, or a long catch-up, in one message. */
const MAX_MESSAGE_BYTES = 256 << 20

export interface KeyValue { key: Buffer; mod_revision: number; value: Buffer }
export interface Header { revision: number }
export interface RangeResponse { header: Header; kvs: KeyValue[]; more: boolean }
export interface TxnResponse { header: Header; succeeded: boolean; responses: { response_range?: RangeResponse }[] }
export interface WatchEvent { type: 'PUT' | 'DELETE'; kv: KeyValue; prev_kv: KeyValue | null }
export interface WatchResponse {
  header: Header; created: boolean; canceled: boolean; compact_revision: number; cancel_reason: string; events: WatchEvent[]
}

export interface EtcdOptions {
  /** `http://host:port`, `https://host:port` or `host:port`. */
  endpoints: string[]
  /** PEM files. */
  tls?: { ca: string; cert: string; key: string }
}

type Duplex<I, O> = ClientDuplexStream<I, O>

/** A member's certificate must be for one of the endpoints (`host:port`). */
function identityOf(endpoints: string[]): typeof checkServerIdentity {
  const names = endpoints.map(e => e.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''))
  return (_name, certificate) => {
    const errors = names.map(n => checkServerIdentity(n, certificate))
    return errors.includes(undefined) ? undefined : errors[0]
  }
}

export class EtcdClient {
  readonly #kv: InstanceType<ServiceClientConstructor>
  readonly #watch: InstanceType<ServiceClientConstructor>
  readonly #lease: InstanceType<ServiceClientConstructor>

  constructor({ endpoints, tls }: EtcdOptions) {
    const definition = loadSync(fileURLToPath(new URL('./etcd.proto', import.meta.url)), { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: false })
    const services = (loadPackageDefinition(definition)['etcdserverpb'] as GrpcObject) as unknown as Record<'KV' | 'Watch' | 'Lease', ServiceClientConstructor>
    const hosts = endpoints.map(e => e.replace(/^https?:\/\//, '').replace(/\/$/, ''))
    const numeric = hosts.every(h => /^\d+\.\d+\.\d+\.\d+:\d+$/.test(h))
    const channel: ChannelCredentials = tls === undefined ? credentials.createInsecure()
      : credentials.createSsl(readFileSync(tls.ca), readFileSync(tls.key), readFileSync(tls.cert), { checkServerIdentity: identityOf(hosts) })
    const target = numeric ? `ipv4:${hosts.join(',')}` : hosts[0]!
    const options = {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES, 'grpc.keepalive_time_ms': 10_000, 'grpc.keepalive_timeout_ms': 5000,
      'grpc.max_reconnect_backoff_ms': 2000,
      // Node refuses an address as TLS server name; the certificate is checked against the endpoints all the same.
      ...(numeric && { 'grpc.ssl_target_name_override': 'etcd' }),
    }
    this.#kv = new services.KV(target, channel, options)
    this.#watch = new services.Watch(target, channel, options)
    this.#lease = new services.Lease(target, channel, options)
  }

  #call<R>(client: InstanceType<ServiceClientConstructor>, method: string, request: object): Promise<R> {
    return new Promise((resolve, reject) => {
      const call = client[method] as (r: object, o: object, done: (e: Error | null, answer: R) => void) => void
      call.call(client, request, { deadline: Date.now() + CALL_TIMEOUT_MS }, (e, answer) => e ? reject(e) : resolve(answer))
    })
  }

  range(request: object): Promise<RangeResponse> { return this.#call(this.#kv, 'Range', request) }
  txn(request: object): Promise<TxnResponse> { return this.#call(this.#kv, 'Txn', request) }
  compact(revision: number): Promise<unknown> { return this.#call(this.#kv, 'Compact', { revision }) }
  /** The id is chosen here: etcd's own do not fit into a number. */
  grant(ttlS: number): Promise<{ ID: number }> { return this.#call(this.#lease, 'LeaseGrant', { TTL: ttlS, ID: randomInt(1, 2 ** 48 - 1) }) }
  revoke(id: number): Promise<unknown> { return this.#call(this.#lease, 'LeaseRevoke', { ID: id }) }
  watch(): Duplex<object, WatchResponse> { return (this.#watch['Watch'] as () => Duplex<object, WatchResponse>).call(this.#watch) }

  /** Renews once. Resolves with the seconds left; 0 if the lease is gone. */
  keepAlive(id: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const open = this.#lease['LeaseKeepAlive'] as (o: object) => Duplex<object, { TTL: number }>
      const stream = open.call(this.#lease, { deadline: Date.now() + CALL_TIMEOUT_MS })
      stream.on('data', ({ TTL }: { TTL: number }) => {
        resolve(TTL)
        stream.end()
      })
      stream.on('error', reject)
      stream.on('end', () => reject(new Error('etcd ended the lease stream')))
      stream.write({ ID: id })
    })
  }

  close(): void { for (const c of [this.#kv, this.#watch, this.#lease]) c.close() }
}
