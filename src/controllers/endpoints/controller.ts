/** EndpointSlices and Endpoints of Services that select Pods. */
import { keyOf } from '../../core/client.ts'
import { equal } from '../../core/clone.ts'
import { watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import { endpoints as endpointsKind, nodes, pods, services } from '../../core/kinds.ts'
import { labelsMatch } from '../../core/selectors.ts'
import type { Endpoints, Node, Pod, Service } from '../../core/types/index.ts'
import { controllerReference, type Context, type Running } from '../context.ts'
import { endpointGroups, isLost, type Group } from './from-pods.ts'
import { SliceLoop } from './slice-loop.ts'
import { planSlices } from './slices.ts'
import { OVER_CAPACITY, subsetsOf } from './subsets.ts'

const HEADLESS = 'service.kubernetes.io/headless'

export class EndpointsLoop implements Running {
  readonly #context: Context
  readonly #loop: SliceLoop

  constructor(context: Context) {
    this.#context = context
    const { informers } = context
    this.#loop = new SliceLoop(context, {
      name: 'endpoints', manager: 'endpointslice-controller.k8s.io', workers: 4,
      sources: [
        watch(informers.of(services)),
        watch(informers.of(pods), (pod, old) => this.#servicesOf(pod, old)),
        watch(informers.of(nodes), (node, old) => this.#servicesOn(node, old)),
        watch(informers.of(endpointsKind)),
      ],
      reconcile: (key) => this.#reconcile(key),
    })
  }

  start(): Promise<void> { return this.#loop.start() }
  stop(): Promise<void> { return this.#loop.stop() }

  #servicesOf(pod: Pod, old: Pod | undefined): Set<string> {
    const keys = new Set<string>()
    if (old !== undefined && sameEndpoint(pod, old)) return keys
    for (const s of this.#context.informers.of(services).byIndex('namespace', pod.metadata.namespace ?? '')) {
      if (labelsMatch(s.spec.selector, pod.metadata.labels) || old !== undefined && labelsMatch(s.spec.selector, old.metadata.labels)) keys.add(keyOf(s))
    }
    return keys
  }

  /** A node that is lost, or back, changes what all its Pods can serve. */
  #servicesOn(node: Node, old: Node | undefined): Set<string> {
    const keys = new Set<string>()
    const zone = (n: Node) => n.metadata.labels?.['topology.kubernetes.io/zone']
    if (old === undefined || isLost(node) === isLost(old) && zone(node) === zone(old)) return keys
    for (const pod of this.#context.informers.of(pods).byIndex('node', node.metadata.name)) {
      for (const key of this.#servicesOf(pod, undefined)) keys.add(key)
    }
    return keys
  }

  async #reconcile(key: string): Promise<void> {
    const service = this.#context.informers.of(services).get(key)
    if (service === undefined) return this.#serviceGone(key)
    // Without a selector the endpoints are somebody else's business (and the mirror's).
    if (service.metadata.deletionTimestamp !== undefined || Object.keys(service.spec.selector ?? {}).length === 0 || service.spec.type === 'ExternalName') return
    const groups = endpointGroups(service, this.#podsOf(service), (name) => this.#context.informers.of(nodes).get(name))
    await Promise.all([this.#writeSlices(key, service, groups), this.#writeEndpoints(service, groups)])
  }

  *#podsOf(service: Service): Iterable<Pod> {
    for (const pod of this.#context.informers.of(pods).byIndex('namespace', service.metadata.namespace ?? '')) {
      if (labelsMatch(service.spec.selector, pod.metadata.labels)) yield pod
    }
  }

  async #writeSlices(key: string, service: Service, groups: Group[]): Promise<void> {
    const { name, namespace } = service.metadata
    const plan = planSlices({
      service: name, namespace: namespace!, owner: controllerReference(services, service),
      labels: { ...service.metadata.labels, ...this.#loop.labels(name), ...(service.spec.clusterIP === 'None' && { [HEADLESS]: '' }) },
    }, this.#loop.slicesOf(service), groups)
    await this.#loop.write(key, plan)
  }

  async #writeEndpoints(service: Service, groups: Group[]): Promise<void> {
    const { client, informers } = this.#context
    const { subsets, truncated } = subsetsOf(groups)
    const old = informers.of(endpointsKind).get(keyOf(service))
    const { [OVER_CAPACITY]: _, ...annotations } = old?.metadata.annotations ?? {}
    if (truncated) annotations[OVER_CAPACITY] = 'truncated'
    const labels = { ...service.metadata.labels, 'endpoints.kubernetes.io/managed-by': 'endpoint-controller', ...(service.spec.clusterIP === 'None' && { [HEADLESS]: '' }) }
    const next: Endpoints = {
      apiVersion: 'v1', kind: 'Endpoints',
      metadata: {
        ...(old?.metadata ?? { name: service.metadata.name, namespace: service.metadata.namespace! }), labels,
        ...(Object.keys(annotations).length > 0 && { annotations }),
      },
      ...(subsets.length > 0 && { subsets }),
    }
    if (old === undefined) {
      // Made already, and not in the cache yet: its event comes here again.
      await client.create(endpointsKind, next).catch((e: unknown) => { if (!isReason(e, 'AlreadyExists')) throw e })
    } else if (!equal(next.subsets ?? [], old.subsets ?? []) || !equal(next.metadata, old.metadata)) {
      await client.update(endpointsKind, next)
    }
  }

  /** Slices go with their owner; the Endpoints object has none. */
  async #serviceGone(key: string): Promise<void> {
    this.#loop.forget(key)
    const left = this.#context.informers.of(endpointsKind).get(key)
    if (left?.metadata.labels?.['endpoints.kubernetes.io/managed-by'] === undefined) return
    await this.#context.client.delete(endpointsKind, left.metadata, { preconditions: { uid: left.metadata.uid! } })
  }
}

/** Most of a Pod's changes (restarts, probes of single containers) do not touch its endpoint. */
function sameEndpoint(a: Pod, b: Pod): boolean {
  const ready = (p: Pod) => p.status?.conditions?.find((c) => c.type === 'Ready')?.status
  return a.status?.podIP === b.status?.podIP && ready(a) === ready(b) && a.status?.phase === b.status?.phase
    && a.metadata.deletionTimestamp === b.metadata.deletionTimestamp && a.spec.nodeName === b.spec.nodeName
    && equal(a.metadata.labels, b.metadata.labels)
}
