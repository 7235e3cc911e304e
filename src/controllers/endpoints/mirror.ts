/** EndpointSlices for Endpoints that a user wrote by hand, for Services without a selector. */
import { watch } from '../../core/controller.ts'
import { endpoints as endpointsKind, services } from '../../core/kinds.ts'
import type { Endpoint, Endpoints } from '../../core/types/index.ts'
import { controllerReference, type Context, type Running } from '../context.ts'
import type { Group } from './from-pods.ts'
import { SliceLoop } from './slice-loop.ts'
import { planSlices } from './slices.ts'

const SKIP = 'endpointslice.kubernetes.io/skip-mirror'

export class EndpointsMirror implements Running {
  readonly #context: Context
  readonly #loop: SliceLoop

  constructor(context: Context) {
    this.#context = context
    const { informers } = context
    this.#loop = new SliceLoop(context, {
      name: 'endpoints-mirror', manager: 'endpointslicemirroring-controller.k8s.io', workers: 1,
      sources: [watch(informers.of(endpointsKind)), watch(informers.of(services))],
      reconcile: (key) => this.#reconcile(key),
    })
  }

  start(): Promise<void> { return this.#loop.start() }
  stop(): Promise<void> { return this.#loop.stop() }

  async #reconcile(key: string): Promise<void> {
    const source = this.#context.informers.of(endpointsKind).get(key)
    if (source === undefined) return this.#loop.forget(key)
    const existing = this.#loop.slicesOf(source)
    if (!this.#isMirrored(key, source)) return this.#loop.write(key, { create: [], update: [], delete: existing })
    const { name, namespace } = source.metadata
    const plan = planSlices({
      service: name, namespace: namespace!, owner: controllerReference(endpointsKind, source),
      labels: { ...source.metadata.labels, ...this.#loop.labels(name) },
    }, existing, groupsOf(source))
    await this.#loop.write(key, plan)
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
