/** The older Endpoints form of the same facts, which `kubectl get endpoints` shows. Pure. */
import type { Endpoint, Endpoints } from '../../core/types/index.ts'
import type { Group } from './from-pods.ts'

/** Addresses an Endpoints object holds at most. */
export const MAX_ADDRESSES = 1000
export const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity'

type Subsets = NonNullable<Endpoints['subsets']>

export function subsetsOf(groups: readonly Group[]): { subsets: Subsets; truncated: boolean } {
  let room = MAX_ADDRESSES
  let truncated = false
  const subsets: Subsets = []
  for (const { ports, endpoints } of groups) {
    // A Pod on its way out is in neither list.
    const listed = endpoints.filter((e) => e.conditions?.terminating !== true || e.conditions.ready === true).sort(byAddress)
    const shown = listed.slice(0, room)
    room -= shown.length
    truncated ||= shown.length < listed.length
    const ready = shown.filter((e) => e.conditions?.ready === true).map(addressOf)
    const notReady = shown.filter((e) => e.conditions?.ready !== true).map(addressOf)
    if (ready.length + notReady.length === 0) continue
    subsets.push({
      ...(ready.length > 0 && { addresses: ready }),
      ...(notReady.length > 0 && { notReadyAddresses: notReady }),
      ...(ports.length > 0 && {
        ports: ports.map((p) => ({ ...(p.name !== undefined && p.name !== '' && { name: p.name }), port: p.port!, protocol: p.protocol ?? 'TCP' })),
      }),
    })
  }
  return { subsets, truncated }
}

function addressOf(e: Endpoint) {
  return {
    ip: e.addresses[0]!,
    ...(e.hostname !== undefined && { hostname: e.hostname }),
    ...(e.nodeName !== undefined && { nodeName: e.nodeName }),
    ...(e.targetRef !== undefined && { targetRef: e.targetRef }),
  }
}

function byAddress(a: Endpoint, b: Endpoint): number { return a.addresses[0]! < b.addresses[0]! ? -1 : 1 }
