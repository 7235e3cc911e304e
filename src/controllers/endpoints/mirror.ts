/** EndpointSlices for Endpoints that a user wrote by hand, for Services without a selector. */
import { Controller, watch } from '../../core/controller.ts'
import { endpoints as endpointsKind, endpointSlices, services } from '../../core/kinds.ts'
import type { Endpoint, Endpoints, EndpointSlice } from '../../core/types/index.ts'
import { controllerReference, errorLog, type Context, type Running } from '../context.ts'
import { PendingWrites } from '../pending-writes.ts'
import { writePlan } from './controller.ts'
import type { Group } from './from-pods.ts'
import { MANAGED_BY, planSlices, SERVICE_NAME } from './slices.ts'

const MANAGER = 'endpointslicemirroring-controller.k8s.io'
const SKIP = 'endpointslice.kubernetes.io/skip-mirror'

export class EndpointsMirror implements Running {
  readonly #context: Context
  readonly #pending: PendingWrites<EndpointSlice>
  readonly #controller: Controller

  constructor(context: Context) {
    this.#context = context
    const { informers } = context
    this.#pending = new PendingWrites(informers.of(endpointSlices), () => context.clock.now())
    this.#controller = new Controller({
      name: 'endpoints-mirror',
      sources: [
        watch(informers.of(endpointsKind)),
        watch(informers.of(services)),
        watch(informers.of(endpointSlices), (s) => s.metadata.labels?.[MANAGED_BY] === MANAGER
          ? [`${s.metadata.namespace}/${s.metadata.labels[SERVICE_NAME]}`] : []),
      ],
      reconcile: (key) => this.#reconcile(key),
      onError: errorLog(context.logger, 'endpoints-mirror'),
      clock: context.clock,
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  async #reconcile(key: string): Promise<void> {
    const { informers } = this.#context
    const source = informers.of(endpointsKind).get(key)
    if (source === undefined) return
    const waitMs = this.#pending.waitMs(key)
    if (waitMs > 0) return this.#controller.enqueueAfter(key, waitMs)
    const { name, namespace, uid } = source.metadata
    const existing = [...informers.of(endpointSlices).byIndex('controller', uid!)].filter((s) => s.metadata.deletionTimestamp === undefined)
    if (!this.#isMirrored(key, source)) {
      await writePlan(this.#context, { create: [], update: [], delete: existing }, () => {})
      return
    }
    const plan = planSlices({
      service: name, namespace: namespace!, owner: controllerReference(endpointsKind, source),
      labels: { ...source.metadata.labels, [SERVICE_NAME]: name, [MANAGED_BY]: MANAGER },
    }, existing, groupsOf(source))
    await writePlan(this.#context, plan, (s) => this.#pending.wrote(key, s))
  }

  #isMirrored(key: string, source: Endpoints): boolean {
    const service = this.#context.informers.of(services).get(key)
    return service !== undefined && Object.keys(service.spec.selector ?? {}).length === 0
      && source.metadata.labels?.[SKIP] !== 'true' && source.metadata.deletionTimestamp === undefined
  }
}

type Subset = NonNullable<Endpoints['subsets']>[number]

function groupsOf({ subsets = [] }: Endpoints): Group[] {
  return subsets.map((s) => ({
    ports: (s.ports ?? []).map((p) => ({ name: p.name ?? '', protocol: p.protocol ?? 'TCP', port: p.port })),
    endpoints: [...(s.addresses ?? []).map((a) => endpointOf(a, true)), ...(s.notReadyAddresses ?? []).map((a) => endpointOf(a, false))],
  }))
}

function endpointOf(a: NonNullable<Subset['addresses']>[number], ready: boolean): Endpoint {
  return {
    addresses: [a.ip],
    conditions: { ready, serving: ready, terminating: false },
    ...(a.hostname !== undefined && { hostname: a.hostname }),
    ...(a.nodeName !== undefined && { nodeName: a.nodeName }),
    ...(a.targetRef !== undefined && { targetRef: a.targetRef }),
  }
}
