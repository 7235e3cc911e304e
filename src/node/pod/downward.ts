/** The downward API: a Pod's own fields as text. */
import { parseQuantity } from '../../core/quantity.ts'
import type { Container, Pod, Quantity } from '../../core/types/index.ts'

export interface DownwardContext {
  pod: Pod
  podIP: string
  hostIP: string
  nodeName: string
  /** What a container without a limit may use: the node's allocatable amounts. */
  allocatable: Record<string, Quantity>
}

/** `k="v"` lines sorted by key, as Kubernetes writes whole label and annotation maps. */
function mapText(map: Record<string, string> | undefined): string {
  return Object.keys(map ?? {}).sort().map(k => `${k}=${JSON.stringify(map![k])}`).join('\n')
}

/** Throws an Error naming a path that is not supported. */
export function fieldText(fieldPath: string, c: DownwardContext): string {
  const { metadata, spec } = c.pod
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(fieldPath)
  if (keyed !== null) return metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2]!] ?? ''
  switch (fieldPath) {
    case 'metadata.name': return metadata.name
    case 'metadata.namespace': return metadata.namespace ?? ''
    case 'metadata.uid': return metadata.uid ?? ''
    case 'metadata.labels': return mapText(metadata.labels)
    case 'metadata.annotations': return mapText(metadata.annotations)
    case 'spec.nodeName': return c.nodeName
    case 'spec.serviceAccountName': return spec.serviceAccountName ?? 'default'
    case 'status.hostIP': case 'status.hostIPs': return c.hostIP
    case 'status.podIP': case 'status.podIPs': return c.podIP
    default: throw new Error(`fieldPath "${fieldPath}" is not supported by the downward API`)
  }
}

/**
 * `limits.cpu`, `requests.memory` … of a container, divided by `divisor` (default 1) and rounded up. A limit that is not
 * set is the node's allocatable amount; a request that is not set is the limit, else 0.
 */
export function resourceText(container: Container, resource: string, divisor: Quantity | undefined, c: DownwardContext): string {
  const m = /^(limits|requests)\.(.+)$/.exec(resource)
  if (m === null) throw new Error(`resource "${resource}" is not supported: use limits.NAME or requests.NAME`)
  const limit = container.resources?.limits?.[m[2]!]
  const value = m[1] === 'limits'
    ? limit ?? c.allocatable[m[2]!] ?? '0'
    : container.resources?.requests?.[m[2]!] ?? limit ?? '0'
  const by = divisor === undefined || divisor === '' || divisor === '0' ? 1_000_000_000n : parseQuantity(divisor).nano
  return String((parseQuantity(value).nano + by - 1n) / by)
}

/** The container a resourceFieldRef speaks of. */
export function containerNamed(pod: Pod, name: string): Container {
  const found = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find(c => c.name === name)
  if (found === undefined) throw new Error(`container "${name}" not found in pod ${pod.metadata.name}`)
  return found
}
