/** What every namespace holds from the start: the service account `default` and the cluster's CA for its Pods. */
import { Controller, watch, type Source } from '../core/controller.ts'
import { isReason } from '../core/errors.ts'
import { configMaps, namespaces, serviceAccounts, type Kind } from '../core/kinds.ts'
import type { ApiObject } from '../core/types/index.ts'
import { errorLog, type Context, type Running } from './context.ts'

const ROOT_CA = 'kube-root-ca.crt'

export class NamespaceDefaults implements Running {
  readonly #context: Context
  readonly #rootCaPem: string
  readonly #controller: Controller

  constructor(context: Context, rootCaPem: string) {
    this.#context = context
    this.#rootCaPem = rootCaPem
    this.#controller = new Controller({
      name: 'namespace-defaults',
      sources: [watch(context.informers.of(namespaces)), this.#named(serviceAccounts, 'default'), this.#named(configMaps, ROOT_CA)],
      reconcile: (key) => this.#reconcile(key),
      workers: 4,
      maxDelayMs: 5_000,
      onError: errorLog(context.logger, 'namespace-defaults'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  #named(kind: Kind, name: string): Source {
    return watch(this.#context.informers.of(kind), (o, _, type) => o.metadata.name === name && type !== 'ADDED' ? [o.metadata.namespace!] : [])
  }

  async #reconcile(namespace: string): Promise<void> {
    const { informers, client } = this.#context
    const object = informers.of(namespaces).get(namespace)
    if (object === undefined || object.metadata.deletionTimestamp !== undefined) return
    if (informers.of(serviceAccounts).get(`${namespace}/default`) === undefined) {
      await this.#create(serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } })
    }
    const data = { 'ca.crt': this.#rootCaPem }
    const ca = informers.of(configMaps).get(`${namespace}/${ROOT_CA}`)
    if (ca === undefined) {
      await this.#create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: ROOT_CA, namespace }, data })
    } else if (ca.data?.['ca.crt'] !== this.#rootCaPem) {
      await client.update(configMaps, { ...ca, data })
    }
  }

  async #create<T extends ApiObject>(kind: Kind<T>, object: T): Promise<void> {
    try {
      await this.#context.client.create(kind, object)
    } catch (e) {
      // The namespace may have begun to go meanwhile.
      if (!isReason(e, 'AlreadyExists') && !isReason(e, 'Forbidden') && !isReason(e, 'NotFound')) throw e
    }
  }
}
