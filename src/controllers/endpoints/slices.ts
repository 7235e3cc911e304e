/** Distributes endpoints over EndpointSlices so that few slices change: what is in place stays in place. Pure. */
import { equal } from '../../core/clone.ts'
import { endpointSlices } from '../../core/kinds.ts'
import type { Endpoint, EndpointSlice, OwnerReference } from '../../core/types/index.ts'
import type { Group } from './from-pods.ts'

export const MAX_ENDPOINTS = 100
export const SERVICE_NAME = 'kubernetes.io/service-name'
export const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by'

/** What all slices of one Service have in common. */
export interface SliceIdentity {
  service: string
  namespace: string
  labels: Record<string, string>
  owner: OwnerReference
}

export interface SlicePlan { create: EndpointSlice[]; update: EndpointSlice[]; delete: EndpointSlice[] }

export function planSlices(identity: SliceIdentity, existing: readonly EndpointSlice[], groups: readonly Group[]): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], delete: [] }
  const unused = new Set(existing)
  // A Service without endpoints keeps one empty slice, which tells readers that this is known.
  const wanted = groups.length > 0 ? groups : [{ ports: [], endpoints: [] }]
  for (const group of wanted) {
    for (const addressType of ['IPv4', 'IPv6'] as const) {
      const endpoints = group.endpoints.filter((e) => e.addresses[0]!.includes(':') === (addressType === 'IPv6'))
      if (endpoints.length === 0 && (group.endpoints.length > 0 || addressType === 'IPv6')) continue
      const own = existing.filter((s) => s.addressType === addressType && (group.endpoints.length === 0 || equal(s.ports ?? [], group.ports)))
        .filter((s) => unused.has(s))
      const kept = group.endpoints.length === 0 ? own.slice(0, 1) : own
      for (const s of kept) unused.delete(s)
      fill(identity, addressType, { ports: group.ports, endpoints }, kept, plan)
    }
  }
  plan.delete.push(...unused)
  return plan
}

function fill(identity: SliceIdentity, addressType: 'IPv4' | 'IPv6', { ports, endpoints }: Group, own: EndpointSlice[], plan: SlicePlan): void {
  const left = new Map(endpoints.map((e) => [idOf(e), e]))
  const contents = own.map((slice) => {
    const list: Endpoint[] = []
    for (const e of slice.endpoints) {
      const now = left.get(idOf(e))
      if (now === undefined) continue
      left.delete(idOf(e))
      list.push(now)
    }
    return { slice, list }
  })
  const rest = [...left.values()]
  // First into slices that change anyway, the fullest first.
  const isChanged = (c: (typeof contents)[number]) => !equal(c.list, c.slice.endpoints)
  for (const c of [...contents].sort((a, b) => Number(isChanged(b)) - Number(isChanged(a)) || b.list.length - a.list.length)) {
    c.list.push(...rest.splice(0, MAX_ENDPOINTS - c.list.length))
  }
  let placeholder = endpoints.length === 0
  for (const { slice, list } of contents) {
    if (list.length === 0 && !placeholder) {
      plan.delete.push(slice)
      continue
    }
    placeholder = false
    const next = { ...slice, metadata: { ...slice.metadata, labels: identity.labels }, endpoints: list, ports }
    if (!equal(next, slice)) plan.update.push(next)
  }
  while (rest.length > 0 || placeholder) {
    placeholder = false
    plan.create.push(makeSlice(identity, addressType, ports, rest.splice(0, MAX_ENDPOINTS)))
  }
}

function makeSlice(identity: SliceIdentity, addressType: 'IPv4' | 'IPv6', ports: Group['ports'], endpoints: Endpoint[]): EndpointSlice {
  return {
    apiVersion: endpointSlices.apiVersion, kind: endpointSlices.kind,
    metadata: {
      name: '', generateName: `${identity.service}-`, namespace: identity.namespace, labels: identity.labels, ownerReferences: [identity.owner],
    },
    addressType, endpoints, ports,
  }
}

function idOf(e: Endpoint): string { return `${e.targetRef?.uid ?? ''} ${e.addresses[0]}` }
