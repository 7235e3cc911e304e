/** The Service `default/kubernetes`, by which Pods reach the API, and its endpoints: the API servers themselves. */
import { equal } from '../core/clone.ts'
import { Controller, watch } from '../core/controller.ts'
import { isReason } from '../core/errors.ts'
import { endpoints, services } from '../core/kinds.ts'
import type { Endpoints, Service } from '../core/types/index.ts'
import { errorLog, type Context, type Running } from './context.ts'

export interface ApiAddresses {
  /** IPv4 addresses Pods can reach the API servers at. */
  addresses: string[]
  port: number
  /** Cluster address of the Service; left out: the server allocates one. */
  clusterIP?: string
}

const KEY = 'default/kubernetes'
const at = { name: 'kubernetes', namespace: 'default' }

export class ApiService implements Running {
  readonly #context: Context
  readonly #api: ApiAddresses
  readonly #controller: Controller

  constructor(context: Context, api: ApiAddresses) {
    this.#context = context
    this.#api = api
    const own = (o: { metadata: { name: string; namespace?: string } }) => o.metadata.name === at.name && o.metadata.namespace === at.namespace ? [KEY] : []
    this.#controller = new Controller({
      name: 'api-service',
      sources: [watch(context.informers.of(services), own), watch(context.informers.of(endpoints), own)],
      reconcile: () => this.#reconcile(),
      maxDelayMs: 5_000,
      onError: errorLog(context.logger, 'api-service'),
      clock: context.clock,
    })
  }

  async start(): Promise<void> {
    this.#controller.enqueue(KEY)
    await this.#controller.start()
  }

  stop(): Promise<void> { return this.#controller.stop() }

  async #reconcile(): Promise<void> {
    const { client, informers } = this.#context
    const { addresses, port, clusterIP } = this.#api
    const labels = { component: 'apiserver', provider: 'kubernetes' }
    if (informers.of(services).get(KEY) === undefined) {
      const service: Service = {
        apiVersion: 'v1', kind: 'Service', metadata: { ...at, labels },
        spec: {
          type: 'ClusterIP', sessionAffinity: 'None', ports: [{ name: 'https', protocol: 'TCP', port: 443, targetPort: port }],
          ...(clusterIP !== undefined && { clusterIP }),
        },
      }
      await client.create(services, service).catch((e: unknown) => { if (!isReason(e, 'AlreadyExists')) throw e })
    }
    const subsets: Endpoints['subsets'] = addresses.length === 0 ? []
      : [{ addresses: [...addresses].sort().map((ip) => ({ ip })), ports: [{ name: 'https', port, protocol: 'TCP' }] }]
    const old = informers.of(endpoints).get(KEY)
    if (old === undefined) {
      await client.create(endpoints, { apiVersion: 'v1', kind: 'Endpoints', metadata: { ...at }, subsets })
        .catch((e: unknown) => { if (!isReason(e, 'AlreadyExists')) throw e })
    } else if (!equal(old.subsets ?? [], subsets)) {
      await client.update(endpoints, { ...old, subsets })
    }
  }
}
