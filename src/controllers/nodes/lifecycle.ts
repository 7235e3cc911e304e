/** Nodes' conditions and taints follow their heartbeats, and their Machines' phase follows them. */
import { equal } from '../../core/clone.ts'
import { Controller, watch } from '../../core/controller.ts'
import { isReason } from '../../core/errors.ts'
import type { EventRecorder } from '../../core/event-recorder.ts'
import { machines, nodes } from '../../core/kinds.ts'
import { formatTime } from '../../core/time.ts'
import type { Condition, Machine, Node, Taint } from '../../core/types/index.ts'
import { errorLog, type Context, type Running } from '../context.ts'
import { Heartbeats, type NodeConnections } from './heartbeats.ts'

const COMPONENT = 'node-controller'
const WORKERS = 8
const SILENT = 'NodeStatusUnknown'
const PRESSURES: Record<string, string> = {
  MemoryPressure: 'node.kubernetes.io/memory-pressure', DiskPressure: 'node.kubernetes.io/disk-pressure',
  PIDPressure: 'node.kubernetes.io/pid-pressure', NetworkUnavailable: 'node.kubernetes.io/network-unavailable',
}
export const NOT_READY = 'node.kubernetes.io/not-ready'
export const UNREACHABLE = 'node.kubernetes.io/unreachable'
const CORDONED = 'node.kubernetes.io/unschedulable'
const MANAGED = new Set([NOT_READY, UNREACHABLE, CORDONED, ...Object.values(PRESSURES)])

export class NodeLifecycle implements Running {
  readonly heartbeats: Heartbeats
  readonly #context: Context
  readonly #events: EventRecorder
  readonly #controller: Controller

  /** `judged` is called when a node may have become dead or alive. */
  constructor(context: Context, connections: NodeConnections | undefined, judged: (node: string) => void) {
    this.#context = context
    this.#events = context.recorder(COMPONENT)
    this.#controller = new Controller({
      name: COMPONENT,
      sources: [watch(context.informers.of(nodes)), watch(context.informers.of(machines))],
      reconcile: async (name) => {
        await this.#reconcile(name)
        judged(name)
      },
      workers: WORKERS,
      maxDelayMs: 1_000,
      onError: errorLog(context.logger, COMPONENT),
      clock: context.clock,
    })
    this.heartbeats = new Heartbeats(context, connections, (node) => this.#controller.enqueue(node))
  }

  start(): Promise<void> { return this.#controller.start() }

  async stop(): Promise<void> {
    this.heartbeats.stop()
    await this.#controller.stop()
  }

  async #reconcile(name: string): Promise<void> {
    let node = this.#context.informers.of(nodes).get(name)
    if (node === undefined) return
    const state = this.heartbeats.state(name)
    const next = this.heartbeats.nextChangeMs(name)
    if (next !== undefined) this.#controller.enqueueAfter(name, Math.max(1, next))
    const now = formatTime(this.#context.clock.now())
    const ready = readyOf(node)
    if (state === 'silent' && ready?.status !== 'Unknown') {
      node = await this.#writeConditions(node, silenced(node.status?.conditions, now))
      this.#events.record(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`)
    } else if (state === 'fresh' && ready?.status === 'Unknown' && ready.reason === SILENT) {
      node = await this.#writeConditions(node, resumed(node.status?.conditions, now))
      this.#events.record(node, 'Normal', 'NodeReady', `Node ${name} status is now: NodeReady`)
    }
    const taints = taintsFor(node, now)
    if (!equal(taints, node.spec.taints ?? [])) {
      const { uid, resourceVersion } = node.metadata
      node = await this.#context.client.patch(nodes, { name }, 'merge', { metadata: { uid, resourceVersion }, spec: { taints } })
    }
    await this.#writeMachine(name, readyOf(node)?.status === 'Unknown' ? 'Lost' : 'Running')
  }

  async #writeConditions(node: Node, conditions: Condition[]): Promise<Node> {
    const { name, uid, resourceVersion } = node.metadata
    return this.#context.client.patch(nodes, { name }, 'merge', { metadata: { uid, resourceVersion }, status: { conditions } }, { subresource: 'status' })
  }

  async #writeMachine(name: string, phase: NonNullable<Machine['status']>['phase']): Promise<void> {
    const machine = this.#context.informers.of(machines).get(name)
    if (machine === undefined || machine.status?.phase === phase || machine.status?.phase === 'Stopped') return
    await this.#context.client.patch(machines, { name }, 'merge', { status: { phase } }, { subresource: 'status' })
      .catch((e: unknown) => { if (!isReason(e, 'NotFound')) throw e })
  }
}

export function readyOf(node: Node): Condition | undefined { return node.status?.conditions?.find((c) => c.type === 'Ready') }

function silenced(conditions: Condition[] = [], now: string): Condition[] {
  const types = new Set(['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure', ...conditions.map((c) => c.type)])
  return [...types].map((type) => {
    const old = conditions.find((c) => c.type === type)
    if (old?.status === 'Unknown') return old
    return { ...old, type, status: 'Unknown', reason: SILENT, message: 'The agent stopped posting node status.', lastTransitionTime: now }
  })
}

/** The agent is heard again. What it has to say in detail it says itself, in its next status. */
function resumed(conditions: Condition[] = [], now: string): Condition[] {
  return conditions.map((c) => c.status !== 'Unknown' || c.reason !== SILENT ? c : {
    ...c, status: c.type === 'Ready' ? 'True' : 'False', reason: 'HeartbeatResumed', message: 'The agent renews its lease again.', lastTransitionTime: now,
  })
}

/** The taints that follow from conditions and the cordon; others stay as they are. A node that has never told its state has none. */
export function taintsFor(node: Node, now: string): Taint[] {
  const wanted: Taint[] = []
  const ready = readyOf(node)
  if (ready !== undefined && ready.status !== 'True') {
    const key = ready.status === 'Unknown' ? UNREACHABLE : NOT_READY
    wanted.push({ key, effect: 'NoSchedule' }, { key, effect: 'NoExecute' })
  }
  if (node.spec.unschedulable === true) wanted.push({ key: CORDONED, effect: 'NoSchedule' })
  for (const c of node.status?.conditions ?? []) {
    const key = PRESSURES[c.type]
    if (key !== undefined && c.status === 'True') wanted.push({ key, effect: 'NoSchedule' })
  }
  const old = node.spec.taints ?? []
  const same = (a: Taint, b: Taint) => a.key === b.key && a.effect === b.effect
  return [
    ...old.filter((t) => !MANAGED.has(t.key) || wanted.some((w) => same(w, t))),
    ...wanted.filter((w) => !old.some((t) => same(w, t))).map((w) => ({ ...w, timeAdded: now })),
  ]
}
