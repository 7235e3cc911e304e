/**
 * The cluster as the scheduler sees it. It is changed by one Pod or one node at a time, from informer events and from the
 * scheduler's own decisions (assumed Pods), and is never rebuilt.
 */
import { bytes, cpuMilli } from '../core/quantity.ts'
import { equal } from '../core/clone.ts'
import type { Node, Pod, Taint } from '../core/types/index.ts'
import { LoadIndex } from './load-index.ts'
import { PodClassTable, type HostPort, type PodClass } from './pod-class.ts'
import { Topology, type NamespaceLabels } from './topology.ts'

export interface PlacedPod {
  uid: string
  pod: Pod
  cls: PodClass
  node: NodeInfo | undefined
  nodeName: string
  /** Decided by this scheduler and not yet seen bound. */
  assumed: boolean
}

/** One node; amounts are in milli-cores, bytes and Pods. */
export class NodeInfo {
  readonly name: string
  /** Stable for the node's life; reused after it is gone. */
  readonly index: number
  cpuMilli = 0
  memoryBytes = 0
  maxPods = 0
  usedCpuMilli = 0
  usedMemoryBytes = 0
  usedPods = 0
  /** Uses as scores see them (containers without requests count a little). */
  scoreCpuMilli = 0
  scoreMemoryBytes = 0
  extended: Map<string, number> = new Map()
  usedExtended: Map<string, number> = new Map()
  unschedulable = false
  taints: readonly Taint[] = []
  labels: Readonly<Record<string, string>> = {}
  /** Image name → bytes. */
  images: Map<string, number> = new Map()
  /** `port*4+protocol` → addresses in use. */
  readonly ports = new Map<number, string[]>()
  readonly pods = new Map<string, PlacedPod>()
  /** Unique for each state of labels, taints and unschedulable; what depends on these alone is cached under it. */
  staticVersion = 0
  /** Places in the load index; -1: in none. */
  bucket = -1
  slot = -1

  constructor(name: string, index: number) {
    this.name = name
    this.index = index
  }
}

export class Snapshot {
  readonly classes = new PodClassTable()
  readonly topology: Topology
  readonly load = new LoadIndex<NodeInfo>()
  /** Changes whenever a Pod that did not fit might now: a node came or changed, a Pod went. */
  releases = 0
  readonly #nodes = new Map<string, NodeInfo>()
  readonly #byIndex: (NodeInfo | undefined)[] = []
  readonly #free: number[] = []
  readonly #pods = new Map<string, PlacedPod>()
  /** Pods bound to nodes that are not known (yet). */
  readonly #strays = new Map<string, Map<string, PlacedPod>>()
  /** Owner uid → node index → Pods of this owner. */
  readonly #owners = new Map<string, Map<number, number>>()
  /** Image name → nodes that have it. */
  readonly #imageNodes = new Map<string, number>()
  /** Priority → Pods placed that have it. */
  readonly #priorities = new Map<number, number>()
  #statics = 0
  /** Nodes with PreferNoSchedule taints: without any, nobody needs to look. */
  discouragedNodes = 0

  constructor(namespaces: NamespaceLabels = { get: () => undefined }) {
    this.topology = new Topology(() => this.#nodes.values(), namespaces)
    this.classes.onRelease = (cls) => this.topology.uncarry(cls)
  }

  get nodeCount(): number { return this.#nodes.size }
  get podCount(): number { return this.#pods.size }
  nodes(): Iterable<NodeInfo> { return this.#nodes.values() }
  node(name: string): NodeInfo | undefined { return this.#nodes.get(name) }
  /** The node at this index, or undefined where there is a gap. */
  nodeAt(index: number): NodeInfo | undefined { return this.#byIndex[index] }
  get indexes(): number { return this.#byIndex.length }
  placed(uid: string): PlacedPod | undefined { return this.#pods.get(uid) }
  /** Node index → Pods of this owner there. */
  ownerPods(ownerUid: string): ReadonlyMap<number, number> | undefined { return this.#owners.get(ownerUid) }
  hasPriorityBelow(priority: number): boolean { return [...this.#priorities.keys()].some((p) => p < priority) }
  nodesWithImage(image: string): number { return this.#imageNodes.get(image) ?? 0 }

  setNode(node: Node): void {
    let info = this.#nodes.get(node.metadata.name)
    if (info === undefined) {
      info = new NodeInfo(node.metadata.name, this.#free.pop() ?? this.#byIndex.length)
      this.#nodes.set(info.name, info)
      this.#byIndex[info.index] = info
      info.staticVersion = ++this.#statics
      this.#describe(info, node)
      for (const p of this.#strays.get(info.name)?.values() ?? []) this.#put(p, info)
      this.#strays.delete(info.name)
      this.releases++
    } else if (this.#describe(info, node)) {
      this.releases++
    }
    this.#reindex(info)
  }

  removeNode(name: string): void {
    const info = this.#nodes.get(name)
    if (info === undefined) return
    for (const p of [...info.pods.values()]) {
      this.#take(p)
      this.#stray(p)
    }
    if (info.taints.some(isDiscouraging)) this.discouragedNodes--
    for (const image of info.images.keys()) this.#countImage(image, -1)
    this.load.remove(info)
    this.#nodes.delete(name)
    this.#byIndex[info.index] = undefined
    this.#free.push(info.index)
  }

  /** Takes note of a Pod bound to `nodeName`; replaces what was known of it. `cls`: its class, if the caller has it at hand. */
  setPod(pod: Pod, nodeName: string, assumed = false, cls?: PodClass): void {
    const uid = pod.metadata.uid!
    const known = this.#pods.get(uid)
    if (known !== undefined) {
      if (known.nodeName === nodeName && sameForScheduling(known.pod, pod)) {
        known.pod = pod
        known.assumed &&= assumed
        return
      }
      this.removePod(uid)
    }
    const placed: PlacedPod = { uid, pod, cls: cls === undefined ? this.classes.acquire(pod) : this.classes.share(cls), node: undefined, nodeName, assumed }
    this.#pods.set(uid, placed)
    this.#countPriority(placed.cls.priority, 1)
    const info = this.#nodes.get(nodeName)
    if (info === undefined) return this.#stray(placed)
    this.#put(placed, info)
    this.#reindex(info)
  }

  removePod(uid: string): void {
    const placed = this.#pods.get(uid)
    if (placed === undefined) return
    this.#pods.delete(uid)
    this.#countPriority(placed.cls.priority, -1)
    this.releases++
    const info = placed.node
    if (info === undefined) {
      const strays = this.#strays.get(placed.nodeName)
      strays?.delete(uid)
      if (strays?.size === 0) this.#strays.delete(placed.nodeName)
    } else {
      this.#take(placed)
      this.#reindex(info)
    }
    this.classes.release(placed.cls)
  }

  /** Takes a Pod off its node for a what-if, and puts it back with {@link restore}; nothing else may change in between. */
  lift(placed: PlacedPod): void { this.#take(placed) }
  restore(placed: PlacedPod, node: NodeInfo): void { this.#put(placed, node) }

  #stray(p: PlacedPod): void {
    let strays = this.#strays.get(p.nodeName)
    if (strays === undefined) this.#strays.set(p.nodeName, strays = new Map())
    strays.set(p.uid, p)
  }

  #put(p: PlacedPod, node: NodeInfo): void {
    p.node = node
    node.pods.set(p.uid, p)
    this.topology.carry(p.cls)
    this.topology.podAdded(p.cls, node.index)
    this.#use(p.cls, node, 1)
    for (const port of p.cls.hostPorts) addPort(node.ports, port)
  }

  #take(p: PlacedPod): void {
    const node = p.node!
    p.node = undefined
    node.pods.delete(p.uid)
    this.topology.podRemoved(p.cls, node.index)
    this.#use(p.cls, node, -1)
    for (const port of p.cls.hostPorts) removePort(node.ports, port)
  }

  #use(cls: PodClass, node: NodeInfo, sign: 1 | -1): void {
    node.usedCpuMilli += sign * cls.request.cpuMilli
    node.usedMemoryBytes += sign * cls.request.memoryBytes
    node.usedPods += sign
    node.scoreCpuMilli += sign * cls.scoreCpuMilli
    node.scoreMemoryBytes += sign * cls.scoreMemoryBytes
    if (cls.request.extended !== undefined) {
      for (const [k, v] of cls.request.extended) node.usedExtended.set(k, (node.usedExtended.get(k) ?? 0) + sign * v)
    }
    if (cls.ownerUid === undefined) return
    let counts = this.#owners.get(cls.ownerUid)
    if (counts === undefined) this.#owners.set(cls.ownerUid, counts = new Map())
    const n = (counts.get(node.index) ?? 0) + sign
    if (n > 0) counts.set(node.index, n)
    else if (counts.delete(node.index) && counts.size === 0) this.#owners.delete(cls.ownerUid)
  }

  /** True if something changed that may matter to a Pod which did not fit. */
  #describe(info: NodeInfo, node: Node): boolean {
    const allocatable = node.status?.allocatable ?? node.status?.capacity ?? {}
    const cpu = cpuMilli(allocatable.cpu ?? '0')
    const memory = bytes(allocatable.memory ?? '0')
    const maxPods = bytes(allocatable.pods ?? '110')
    let changed = cpu !== info.cpuMilli || memory !== info.memoryBytes || maxPods !== info.maxPods
    info.cpuMilli = cpu
    info.memoryBytes = memory
    info.maxPods = maxPods
    const extended = new Map<string, number>()
    for (const [k, v] of Object.entries(allocatable)) if (k !== 'cpu' && k !== 'memory' && k !== 'pods') extended.set(k, bytes(v))
    changed ||= !sameMap(extended, info.extended)
    info.extended = extended
    const taints = node.spec.taints ?? []
    const labels = node.metadata.labels ?? {}
    const unschedulable = node.spec.unschedulable === true
    if (unschedulable !== info.unschedulable || !equal(taints, info.taints) || !equal(labels, info.labels)) {
      changed = true
      this.discouragedNodes += Number(taints.some(isDiscouraging)) - Number(info.taints.some(isDiscouraging))
      info.unschedulable = unschedulable
      info.taints = taints
      info.staticVersion = ++this.#statics
    }
    // Also for a node without labels: a reused index must not keep the domains of the node before.
    if (!equal(labels, info.labels) || info.bucket === -1) this.topology.relabel(info, () => { info.labels = labels })
    this.#setImages(info, node)
    return changed
  }

  #setImages(info: NodeInfo, node: Node): void {
    const images = new Map<string, number>()
    for (const i of node.status?.images ?? []) for (const name of i.names) images.set(name, i.sizeBytes ?? 0)
    for (const name of images.keys()) if (!info.images.has(name)) this.#countImage(name, 1)
    for (const name of info.images.keys()) if (!images.has(name)) this.#countImage(name, -1)
    info.images = images
  }

  #countPriority(priority: number, n: number): void {
    const count = (this.#priorities.get(priority) ?? 0) + n
    if (count > 0) this.#priorities.set(priority, count)
    else this.#priorities.delete(priority)
  }

  #countImage(image: string, n: number): void {
    const count = (this.#imageNodes.get(image) ?? 0) + n
    if (count > 0) this.#imageNodes.set(image, count)
    else this.#imageNodes.delete(image)
  }

  #reindex(info: NodeInfo): void { this.load.place(info, loadOf(info)) }
}

/** How full a node is, 0 to 1: the mean of cpu and memory. A node without room for one more Pod counts as full. */
function loadOf(n: NodeInfo): number {
  if (n.usedPods >= n.maxPods) return 1
  const cpu = n.cpuMilli > 0 ? n.scoreCpuMilli / n.cpuMilli : 1
  const memory = n.memoryBytes > 0 ? n.scoreMemoryBytes / n.memoryBytes : 1
  return (cpu + memory) / 2
}

function isDiscouraging(t: Taint): boolean { return t.effect === 'PreferNoSchedule' }

function sameMap(a: Map<string, number>, b: Map<string, number>): boolean {
  if (a.size !== b.size) return false
  for (const [k, v] of a) if (b.get(k) !== v) return false
  return true
}

/** A bound Pod's status changes often and its spec hardly ever: only labels and the spec matter here. */
function sameForScheduling(a: Pod, b: Pod): boolean {
  return a === b || equal(a.metadata.labels, b.metadata.labels) && equal(a.metadata.ownerReferences, b.metadata.ownerReferences)
    && equal(a.spec, { ...b.spec, nodeName: a.spec.nodeName })
}

function addPort(ports: Map<number, string[]>, p: HostPort): void {
  const ips = ports.get(p.id)
  if (ips === undefined) ports.set(p.id, [p.ip])
  else ips.push(p.ip)
}

function removePort(ports: Map<number, string[]>, p: HostPort): void {
  const ips = ports.get(p.id)
  const at = ips?.indexOf(p.ip) ?? -1
  if (at === -1) return
  ips!.splice(at, 1)
  if (ips!.length === 0) ports.delete(p.id)
}
