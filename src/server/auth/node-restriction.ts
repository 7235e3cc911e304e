/**
 * What RBAC cannot say about nodes: `system:node:NAME` writes only its own Node, Machine and Lease and the Pods bound to it,
 * and reads only the Secrets and ConfigMaps that those Pods name. (Kubernetes' node authorizer and NodeRestriction.)
 * A router, `system:gantry:router:NAME`, writes only its own Machine.
 */
import type { Client, Informer } from '../../core/client.ts'
import { pods } from '../../core/kinds.ts'
import type { ApiObject, Lease, Pod } from '../../core/types/index.ts'
import type { Attributes, User } from '../host.ts'

const READS = new Set(['get', 'list', 'watch'])
const OWN_OBJECTS = new Set(['nodes', 'machines', 'leases'])
const NODE_LEASES = 'kube-node-lease'
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror'

const NODE_PREFIX = 'system:node:'
const ROUTER_PREFIX = 'system:gantry:router:'
export const ROUTERS = 'system:gantry:routers'

/** The node a user is, by its certificate's name and group; undefined for anyone else. */
export function nodeOf(user: { name: string; groups: string[] }): string | undefined {
  return user.name.startsWith(NODE_PREFIX) && user.groups.includes('system:nodes') ? user.name.slice(NODE_PREFIX.length) : undefined
}

/** Likewise the name of a router's Machine; empty for a router without a name. */
function routerOf(user: { name: string; groups: string[] }): string | undefined {
  if (!user.groups.includes(ROUTERS)) return undefined
  return user.name.startsWith(ROUTER_PREFIX) ? user.name.slice(ROUTER_PREFIX.length) : ''
}

/** True for a Pod that a node made up to show what runs on it. */
export function isMirror(pod: Pod): boolean { return pod.metadata.annotations?.[MIRROR_ANNOTATION] !== undefined }

export class NodeRestriction {
  readonly #pods: Informer<Pod>
  readonly ready: Promise<void>

  constructor(client: Client) {
    this.#pods = client.informer(pods, { indexes: { needed: neededBy } })
    this.ready = this.#pods.synced
  }

  /** Why a node may not do what its role allows; undefined if it may, or if the user is no node. */
  refusal(user: User, a: Attributes): string | undefined {
    const { resource, name } = a
    const router = routerOf(user)
    if (router !== undefined && resource === 'machines' && !READS.has(a.verb) && name && name !== router) {
      return `router "${router}" is not allowed to modify machines "${name}"`
    }
    const node = nodeOf(user)
    if (node === undefined || !resource) return undefined
    if (READS.has(a.verb)) {
      if (resource !== 'secrets' && resource !== 'configmaps') return undefined
      if (!name) return `node "${node}" may read ${resource} one by one only (by name, or with fieldSelector metadata.name)`
      return this.#needs(node, resource, `${a.namespace}/${name}`)
        ? undefined : `no pod on node "${node}" refers to it`
    }
    if (OWN_OBJECTS.has(resource)) {
      if (resource === 'leases' && a.namespace !== NODE_LEASES) return `node "${node}" may write leases in the namespace ${NODE_LEASES} only`
      // A creation bears its name in the body: admitObject sees it.
      return !name || name === node ? undefined : `node "${node}" is not allowed to modify ${resource} "${name}"`
    }
    if (resource === 'pods' && name) {
      const pod = this.#pods.get(`${a.namespace}/${name}`)
      return pod === undefined || pod.spec.nodeName === node ? undefined : `node "${node}" may only write pods that are bound to it`
    }
    return undefined
  }

  /** The same for what only the object tells. `old` is undefined for a creation. */
  objectRefusal(user: User, resource: string, object: ApiObject, old: ApiObject | undefined): string | undefined {
    const router = routerOf(user)
    if (router !== undefined && resource === 'machines' && object.metadata.name !== router) {
      return `router "${router}" is not allowed to write machines "${object.metadata.name}"`
    }
    const node = nodeOf(user)
    if (node === undefined) return undefined
    if (OWN_OBJECTS.has(resource)) {
      if (object.metadata.name !== node) return `node "${node}" is not allowed to write ${resource} "${object.metadata.name}"`
      const holder = resource === 'leases' ? (object as Lease).spec?.holderIdentity : undefined
      return holder === undefined || holder === node ? undefined : `the lease of node "${node}" cannot be held by "${holder}"`
    }
    if (resource === 'pods') {
      const pod = object as Pod
      if (pod.spec.nodeName !== node || (old !== undefined && (old as Pod).spec.nodeName !== node)) {
        return `node "${node}" may only write pods that are bound to it`
      }
      if (old !== undefined) return undefined
      if (!isMirror(pod)) return `node "${node}" may only create mirror pods (annotation ${MIRROR_ANNOTATION})`
      // Otherwise a node could read any Secret by making up a Pod that names it.
      if (neededBy(pod).length > 0) return `mirror pods of node "${node}" may not refer to secrets or configmaps`
      if ((pod.spec.serviceAccountName || 'default') !== 'default') return `mirror pods of node "${node}" may not have a service account`
    }
    return undefined
  }

  /** The live Pod, if it is bound to the node. */
  podOn(node: string, namespace: string, name: string): Pod | undefined {
    const pod = this.#pods.get(`${namespace}/${name}`)
    return pod?.spec.nodeName === node ? pod : undefined
  }

  stop(): void { this.#pods.stop() }

  #needs(node: string, resource: string, key: string): boolean {
    for (const _ of this.#pods.byIndex('needed', `${node}/${resource}/${key}`)) return true
    return false
  }
}

/** `NODE/RESOURCE/NAMESPACE/NAME` of every Secret and ConfigMap that a bound Pod names. */
export function neededBy(pod: Pod): string[] {
  const { spec } = pod
  if (!spec.nodeName) return []
  const found = new Set<string>()
  const add = (resource: 'secrets' | 'configmaps', name: string | undefined) => {
    if (name) found.add(`${spec.nodeName}/${resource}/${pod.metadata.namespace}/${name}`)
  }
  for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
    for (const from of container.envFrom ?? []) {
      add('configmaps', from.configMapRef?.name)
      add('secrets', from.secretRef?.name)
    }
    for (const { valueFrom } of container.env ?? []) {
      add('configmaps', valueFrom?.configMapKeyRef?.name)
      add('secrets', valueFrom?.secretKeyRef?.name)
    }
  }
  for (const volume of spec.volumes ?? []) {
    add('configmaps', volume.configMap?.name)
    add('secrets', volume.secret?.secretName)
    for (const source of volume.projected?.sources ?? []) {
      add('configmaps', source.configMap?.name)
      add('secrets', source.secret?.name)
    }
  }
  for (const { name } of spec.imagePullSecrets ?? []) add('secrets', name)
  return [...found]
}
