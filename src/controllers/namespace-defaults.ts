/** Keeps what every namespace holds: makes it again when it was deleted, and gives a changed CA to all. */
import { Controller, watch, type Source } from '../core/controller.ts'
import { configMaps, namespaces, serviceAccounts, type Kind } from '../core/kinds.ts'
import { defaultServiceAccount, mayBeThere, ROOT_CA, rootCaConfigMap } from '../core/namespace-defaults.ts'
import { errorLog, type Context, type Running } from './context.ts'

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
      await client.create(serviceAccounts, defaultServiceAccount(namespace)).catch(mayBeThere)
    }
    const wanted = rootCaConfigMap(namespace, this.#rootCaPem)
    const ca = informers.of(configMaps).get(`${namespace}/${ROOT_CA}`)
    if (ca === undefined) await client.create(configMaps, wanted).catch(mayBeThere)
    else if (ca.data?.['ca.crt'] !== this.#rootCaPem) await client.update(configMaps, { ...ca, data: wanted.data! })
  }
}
