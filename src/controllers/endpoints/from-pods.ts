/** From the Pods behind a Service to endpoints, grouped by the ports they listen on. Pure. */
import type { Endpoint, EndpointSlice, Node, Pod, Service } from '../../core/types/index.ts'
import { isFinished, isReady } from '../pod-state.ts'

export type SlicePort = NonNullable<EndpointSlice['ports']>[number]
export interface Group { ports: SlicePort[]; endpoints: Endpoint[] }

/** `nodeOf` gives the Pod's Node, if it is known: a lost node's Pods serve nothing, whatever they said last. */
export function endpointGroups(service: Service, pods: Iterable<Pod>, nodeOf: (name: string) => Node | undefined): Group[] {
  const groups = new Map<string, Group>()
  for (const pod of pods) {
    const ip = pod.status?.podIP
    if (ip === undefined || ip === '' || isFinished(pod)) continue
    const ports = portsOf(service, pod)
    if (ports === undefined) continue
    const id = JSON.stringify(ports)
    let group = groups.get(id)
    if (group === undefined) groups.set(id, group = { ports, endpoints: [] })
    group.endpoints.push(endpointOf(service, pod, ip, nodeOf))
  }
  return [...groups.values()]
}

function endpointOf(service: Service, pod: Pod, ip: string, nodeOf: (name: string) => Node | undefined): Endpoint {
  const node = pod.spec.nodeName === undefined ? undefined : nodeOf(pod.spec.nodeName)
  const serving = isReady(pod) && (node === undefined || !isLost(node))
  const terminating = pod.metadata.deletionTimestamp !== undefined
  const zone = node?.metadata.labels?.['topology.kubernetes.io/zone']
  const { namespace, name, uid } = pod.metadata
  return {
    addresses: [ip],
    conditions: { ready: service.spec.publishNotReadyAddresses === true || serving && !terminating, serving, terminating },
    ...(pod.spec.hostname !== undefined && pod.spec.subdomain === service.metadata.name && { hostname: pod.spec.hostname }),
    ...(pod.spec.nodeName !== undefined && { nodeName: pod.spec.nodeName }),
    ...(zone !== undefined && { zone }),
    targetRef: { kind: 'Pod', namespace: namespace!, name, uid: uid! },
  }
}

export function isLost(node: Node): boolean {
  return node.status?.conditions?.find((c) => c.type === 'Ready')?.status === 'Unknown'
}

/** Undefined when the Service has ports and this Pod offers none of them. A headless Service may have none at all. */
function portsOf(service: Service, pod: Pod): SlicePort[] | undefined {
  const wanted = service.spec.ports ?? []
  const out: SlicePort[] = []
  for (const p of wanted) {
    const protocol = p.protocol ?? 'TCP'
    const target = p.targetPort ?? p.port
    const port = typeof target === 'number' ? target : containerPort(pod, target, protocol)
    if (port === undefined) continue
    out.push({ name: p.name ?? '', protocol, port, ...(p.appProtocol !== undefined && { appProtocol: p.appProtocol }) })
  }
  return wanted.length > 0 && out.length === 0 ? undefined : out
}

function containerPort(pod: Pod, name: string, protocol: string): number | undefined {
  for (const c of pod.spec.containers) {
    for (const p of c.ports ?? []) if (p.name === name && (p.protocol ?? 'TCP') === protocol) return p.containerPort
  }
  return undefined
}
