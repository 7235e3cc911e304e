/** A cluster in memory: API, controllers, the real scheduler, and nodes whose agents do what they are told. */
import { nodes, leases, pods } from '../../core/kinds.ts'
import { formatTime } from '../../core/time.ts'
import type { Deployment, Pod, PodTemplateSpec, ReplicaSet, Service } from '../../core/types/index.ts'
import { startScheduler } from '../../scheduler/index.ts'
import { startControllers } from '../index.ts'
import { ManualClock, settle } from './manual-clock.ts'
import { MemoryClient } from './memory-client.ts'

export const quiet = { info() {}, warn() {}, error() {} }

export class TestCluster {
  readonly clock = new ManualClock()
  readonly client = new MemoryClient(this.clock)
  readonly #alive = new Set<string>()
  readonly #stops: (() => void | Promise<void>)[] = []
  #controllers: { stop(): Promise<void> } | undefined
  #ip = 0
  readonly #timers: unknown[] = []
  /** False: bound Pods start, and never become ready. */
  podsBecomeReady: (pod: Pod) => boolean = () => true
  /** Tunnels as the server would tell of them. */
  connection: ((node: string, connected: boolean) => void) | undefined

  startControllers(): void {
    this.#controllers = startControllers(this.client, {
      logger: quiet, clock: this.clock, rootCaPem: 'PEM',
      onNodeConnection: (handler) => {
        this.connection = handler
        return () => { this.connection = undefined }
      },
    })
  }

  /** As if the process had ended and another had begun. */
  async restartControllers(): Promise<void> {
    await this.#controllers?.stop()
    this.startControllers()
    await settle()
  }

  startScheduler(): void {
    const s = startScheduler(this.client, { logger: quiet, clock: this.clock, random: () => 0.5 })
    this.#stops.push(() => s.stop())
  }

  /** Agents: Pods bound to live nodes run and get ready; Pods to be deleted end. */
  startAgents(): void {
    const informer = this.client.informer(pods)
    informer.on((type, pod) => { if (type !== 'DELETED') void this.#agent(pod).catch(() => {}) })
    this.#stops.push(() => informer.stop())
  }

  async #agent(pod: Pod): Promise<void> {
    if (pod.spec.nodeName === undefined || !this.#alive.has(pod.spec.nodeName)) return
    if (pod.metadata.deletionTimestamp !== undefined) {
      await this.client.delete(pods, pod.metadata, { gracePeriodSeconds: 0, preconditions: { uid: pod.metadata.uid! } })
    } else if (pod.status?.phase !== 'Running') {
      await this.client.updateStatus(pods, {
        ...pod, status: {
          phase: 'Running', podIP: `10.0.${this.#ip >> 8}.${this.#ip++ & 255}`, startTime: formatTime(this.clock.now()),
          conditions: [{ type: 'Ready', status: this.podsBecomeReady(pod) ? 'True' : 'False', lastTransitionTime: formatTime(this.clock.now()) }],
        },
      })
    }
  }

  async addNode(name: string, options: { cpu?: string; labels?: Record<string, string> } = {}): Promise<void> {
    this.#alive.add(name)
    const allocatable = { cpu: options.cpu ?? '8', memory: '16Gi', pods: '110' }
    await this.client.create(nodes, {
      apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name, ...options.labels } }, spec: {},
      status: { allocatable, capacity: allocatable, conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady' }] },
    })
    await this.client.create(leases, {
      apiVersion: leases.apiVersion, kind: 'Lease', metadata: { name, namespace: 'kube-node-lease' }, spec: { holderIdentity: name, leaseDurationSeconds: 3 },
    })
    this.#beat(name)
  }

  #beat(name: string): void {
    if (this.#alive.has(name)) {
      void this.client.patch(leases, { namespace: 'kube-node-lease', name }, 'merge', { spec: { renewTime: new Date(this.clock.now()).toISOString() } })
    }
    this.#timers.push(this.clock.setTimeout(() => this.#beat(name), 1000))
  }

  kill(node: string): void {
    this.#alive.delete(node)
    this.connection?.(node, false)
  }

  revive(node: string): void {
    this.#alive.add(node)
    this.connection?.(node, true)
  }

  async stop(): Promise<void> {
    await this.#controllers?.stop()
    for (const s of this.#stops) await s()
  }
}

/** As the server's admission leaves it: with the tolerations it adds. */
export function template(app: string, image = 'web:1'): PodTemplateSpec {
  const tolerations = ['not-ready', 'unreachable'].map((k) =>
    ({ key: `node.kubernetes.io/${k}`, operator: 'Exists' as const, effect: 'NoExecute' as const, tolerationSeconds: 300 }))
  return {
    metadata: { labels: { app } },
    spec: { containers: [{ name: 'c', image, resources: { requests: { cpu: '100m', memory: '64Mi' } } }], tolerations },
  }
}

export function replicaSet(name: string, replicas: number): ReplicaSet {
  return {
    apiVersion: 'apps/v1', kind: 'ReplicaSet', metadata: { name, namespace: 'default' },
    spec: { replicas, selector: { matchLabels: { app: name } }, template: template(name) },
  }
}

export function deployment(name: string, replicas: number, spec: Partial<Deployment['spec']> = {}): Deployment {
  return {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name, namespace: 'default' },
    spec: { replicas, selector: { matchLabels: { app: name } }, template: template(name), progressDeadlineSeconds: 600, ...spec },
  }
}

export function service(name: string, app: string, spec: Partial<Service['spec']> = {}): Service {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' }, spec: { selector: { app }, ports: [{ port: 80, targetPort: 8080 }], ...spec } }
}
