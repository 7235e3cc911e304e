/**
 * What the scheduler needs to know of a Pod, computed once for all Pods that are the same to it: Pods of one owner with equal
 * requests, labels and constraints share one PodClass, and with it their prepared filters and scores.
 */
import { bytes, cpuMilli } from '../core/quantity.ts'
import type { Affinity, Container, Pod, PodAffinityTerm, Toleration, TopologySpreadConstraint } from '../core/types/index.ts'

/** Kubernetes' stand-ins for containers that state no request; they count for scores only, never for fit. */
const DEFAULT_CPU_MILLI = 100
const DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024

export interface Resources {
  cpuMilli: number
  memoryBytes: number
  /** Every other resource (`nvidia.com/gpu`, `ephemeral-storage`, …); undefined when there is none. */
  extended: Map<string, number> | undefined
}

/** `port * 4 + protocol` and the address the Pod listens on; `0.0.0.0` collides with every address. */
export interface HostPort { id: number; ip: string; text: string }

export interface PodClass {
  readonly key: string
  readonly namespace: string
  readonly labels: Record<string, string>
  readonly priority: number
  readonly mayPreempt: boolean
  /** Uid of the controlling owner; undefined for a lone Pod. */
  readonly ownerUid: string | undefined
  readonly request: Resources
  /** Requests as scores see them: with the stand-ins for what was left out. */
  readonly scoreCpuMilli: number
  readonly scoreMemoryBytes: number
  readonly hostPorts: readonly HostPort[]
  readonly images: readonly string[]
  readonly nodeSelector: Record<string, string> | undefined
  readonly affinity: Affinity | undefined
  readonly tolerations: readonly Toleration[]
  readonly spread: readonly TopologySpreadConstraint[]
  /** Pods (waiting or placed) that belong to this class; at zero the class is forgotten. */
  refs: number
}

const PROTOCOLS = ['TCP', 'UDP', 'SCTP']

/** Hands out classes and counts their users. */
export class PodClassTable {
  readonly #classes = new Map<string, PodClass>()
  /** Called when the last Pod of a class is gone. */
  onRelease: (cls: PodClass) => void = () => {}

  get size(): number { return this.#classes.size }

  acquire(pod: Pod): PodClass {
    const key = classKey(pod)
    let cls = this.#classes.get(key)
    if (cls === undefined) this.#classes.set(key, cls = makeClass(key, pod))
    cls.refs++
    return cls
  }

  share(cls: PodClass): PodClass {
    cls.refs++
    return cls
  }

  release(cls: PodClass): void {
    if (--cls.refs > 0) return
    this.#classes.delete(cls.key)
    this.onRelease(cls)
  }
}

export function priorityOf(pod: Pod): number { return pod.spec.priority ?? 0 }

/** Every term of required pod affinity (or anti-affinity) with its namespaces resolved to the Pod's own where none is given. */
export function requiredTerms(cls: PodClass, which: 'podAffinity' | 'podAntiAffinity'): readonly PodAffinityTerm[] {
  return cls.affinity?.[which]?.requiredDuringSchedulingIgnoredDuringExecution ?? []
}

function controllerUid(pod: Pod): string | undefined {
  return pod.metadata.ownerReferences?.find((r) => r.controller === true)?.uid
}

function classKey(pod: Pod): string {
  const s = pod.spec
  const container = (c: Container) => [c.image, c.resources?.requests, c.restartPolicy, c.ports?.filter((p) => p.hostPort !== undefined)]
  return JSON.stringify([
    pod.metadata.namespace, pod.metadata.labels, controllerUid(pod), s.priority, s.preemptionPolicy, s.nodeSelector, s.affinity,
    s.tolerations, s.topologySpreadConstraints, s.overhead, s.hostNetwork, s.containers.map(container), s.initContainers?.map(container),
  ])
}

function makeClass(key: string, pod: Pod): PodClass {
  const s = pod.spec
  const request = podRequest(pod)
  const score = nonZeroRequest(pod)
  return {
    key,
    namespace: pod.metadata.namespace ?? 'default',
    labels: pod.metadata.labels ?? {},
    priority: priorityOf(pod),
    mayPreempt: s.preemptionPolicy !== 'Never',
    ownerUid: controllerUid(pod),
    request,
    scoreCpuMilli: score.cpuMilli,
    scoreMemoryBytes: score.memoryBytes,
    hostPorts: hostPortsOf(pod),
    images: [...new Set([...s.containers, ...s.initContainers ?? []].map((c) => c.image).filter((i) => i !== undefined))],
    nodeSelector: s.nodeSelector,
    affinity: s.affinity,
    tolerations: s.tolerations ?? [],
    spread: s.topologySpreadConstraints ?? [],
    refs: 0,
  }
}

/** With hostNetwork every declared port is the node's. */
function hostPortsOf(pod: Pod): HostPort[] {
  const out: HostPort[] = []
  for (const c of [...pod.spec.containers, ...(pod.spec.initContainers ?? []).filter((i) => i.restartPolicy === 'Always')]) {
    for (const p of c.ports ?? []) {
      const port = p.hostPort ?? (pod.spec.hostNetwork === true ? p.containerPort : 0)
      if (port === 0) continue
      const protocol = PROTOCOLS.indexOf(p.protocol ?? 'TCP')
      out.push({ id: port * 4 + protocol, ip: p.hostIP === undefined || p.hostIP === '' ? '0.0.0.0' : p.hostIP, text: `${port}/${PROTOCOLS[protocol]}` })
    }
  }
  return out
}

type Amounts = Map<string, number>

function amountsOf(list: Record<string, string> | undefined): Amounts {
  const out: Amounts = new Map()
  for (const [name, q] of Object.entries(list ?? {})) out.set(name, name === 'cpu' ? cpuMilli(q) : bytes(q))
  return out
}

function addTo(sum: Amounts, more: Amounts): void {
  for (const [k, v] of more) sum.set(k, (sum.get(k) ?? 0) + v)
}

function raiseTo(sum: Amounts, floor: Amounts): void {
  for (const [k, v] of floor) sum.set(k, Math.max(sum.get(k) ?? 0, v))
}

/**
 * What a Pod takes at its worst moment: all containers and sidecars together, or the largest init container beside the sidecars
 * started before it; plus the overhead.
 */
function sumRequests(pod: Pod, of: (c: Container) => Amounts): Amounts {
  const total: Amounts = new Map()
  for (const c of pod.spec.containers) addTo(total, of(c))
  const sidecars: Amounts = new Map()
  const peak: Amounts = new Map()
  for (const c of pod.spec.initContainers ?? []) {
    const now = of(c)
    if (c.restartPolicy === 'Always') {
      addTo(sidecars, now)
      raiseTo(peak, sidecars)
    } else {
      addTo(now, sidecars)
      raiseTo(peak, now)
    }
  }
  addTo(total, sidecars)
  raiseTo(total, peak)
  addTo(total, amountsOf(pod.spec.overhead))
  return total
}

export function podRequest(pod: Pod): Resources {
  const sum = sumRequests(pod, (c) => amountsOf(c.resources?.requests))
  const extended = new Map([...sum].filter(([name, v]) => name !== 'cpu' && name !== 'memory' && v > 0))
  return { cpuMilli: sum.get('cpu') ?? 0, memoryBytes: sum.get('memory') ?? 0, extended: extended.size > 0 ? extended : undefined }
}

function nonZeroRequest(pod: Pod): { cpuMilli: number; memoryBytes: number } {
  const sum = sumRequests(pod, (c) => {
    const stated = amountsOf(c.resources?.requests)
    return new Map([['cpu', stated.get('cpu') ?? DEFAULT_CPU_MILLI], ['memory', stated.get('memory') ?? DEFAULT_MEMORY_BYTES]])
  })
  return { cpuMilli: sum.get('cpu')!, memoryBytes: sum.get('memory')! }
}
