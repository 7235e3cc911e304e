/**
 * The kinds the API serves: where each lives in the URL space and how clients may name it. Schemas are in `schema/`.
 * A dialect adds its own kinds by calling {@link KindTable.add} when the server starts.
 */
import type {
  ApiObject, ClusterRole, ClusterRoleBinding, ComposeProject, ConfigMap, Deployment, Endpoints, EndpointSlice, Event, Lease,
  Machine, Namespace, Node, Pod, ReplicaSet, ReplicationController, Role, RoleBinding, Route, Secret, Service, ServiceAccount,
} from './types/index.ts'

/** Static facts of one kind. `T` is the TypeScript shape of its objects. */
export interface Kind<T extends ApiObject = ApiObject> {
  /** API group; empty for Kubernetes' core group. */
  group: string
  version: string
  /** `v1` or `group/version`. */
  apiVersion: string
  kind: string
  /** Plural, lower case: the URL segment and RBAC's resource name. */
  plural: string
  singular: string
  namespaced: boolean
  shortNames?: string[]
  categories?: string[]
  /** Sub-resources served besides the object itself, e.g. `status`, `scale`, `log`. */
  subresources?: string[]
  /** Type only; never set. */
  readonly shape?: T
}

type KindInput = Omit<Kind, 'apiVersion' | 'singular' | 'namespaced' | 'shape'> & { singular?: string; namespaced?: boolean }

export function defineKind<T extends ApiObject>(k: KindInput): Kind<T> {
  return {
    ...k,
    apiVersion: k.group === '' ? k.version : `${k.group}/${k.version}`,
    singular: k.singular ?? k.kind.toLowerCase(),
    namespaced: k.namespaced ?? true,
  }
}

export const pods = defineKind<Pod>({
  group: '', version: 'v1', kind: 'Pod', plural: 'pods', shortNames: ['po'], categories: ['all'],
  subresources: ['status', 'log', 'exec', 'attach', 'portforward', 'binding', 'eviction'],
})
export const services = defineKind<Service>({
  group: '', version: 'v1', kind: 'Service', plural: 'services', shortNames: ['svc'], categories: ['all'], subresources: ['status'],
})
export const replicationControllers = defineKind<ReplicationController>({
  group: '', version: 'v1', kind: 'ReplicationController', plural: 'replicationcontrollers', shortNames: ['rc'],
  categories: ['all'], subresources: ['status', 'scale'],
})
export const nodes = defineKind<Node>({
  group: '', version: 'v1', kind: 'Node', plural: 'nodes', shortNames: ['no'], namespaced: false, subresources: ['status', 'proxy'],
})
export const namespaces = defineKind<Namespace>({
  group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces', shortNames: ['ns'], namespaced: false,
  subresources: ['status', 'finalize'],
})
export const events = defineKind<Event>({ group: '', version: 'v1', kind: 'Event', plural: 'events', shortNames: ['ev'] })
export const configMaps = defineKind<ConfigMap>({ group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps', shortNames: ['cm'] })
export const secrets = defineKind<Secret>({ group: '', version: 'v1', kind: 'Secret', plural: 'secrets' })
export const serviceAccounts = defineKind<ServiceAccount>({
  group: '', version: 'v1', kind: 'ServiceAccount', plural: 'serviceaccounts', shortNames: ['sa'], subresources: ['token'],
})
export const endpoints = defineKind<Endpoints>({ group: '', version: 'v1', kind: 'Endpoints', plural: 'endpoints', singular: 'endpoints', shortNames: ['ep'] })
export const deployments = defineKind<Deployment>({
  group: 'apps', version: 'v1', kind: 'Deployment', plural: 'deployments', shortNames: ['deploy'], categories: ['all'],
  subresources: ['status', 'scale'],
})
export const replicaSets = defineKind<ReplicaSet>({
  group: 'apps', version: 'v1', kind: 'ReplicaSet', plural: 'replicasets', shortNames: ['rs'], categories: ['all'],
  subresources: ['status', 'scale'],
})
export const endpointSlices = defineKind<EndpointSlice>({ group: 'discovery.k8s.io', version: 'v1', kind: 'EndpointSlice', plural: 'endpointslices' })
export const leases = defineKind<Lease>({ group: 'coordination.k8s.io', version: 'v1', kind: 'Lease', plural: 'leases' })
export const roles = defineKind<Role>({ group: 'rbac.authorization.k8s.io', version: 'v1', kind: 'Role', plural: 'roles' })
export const clusterRoles = defineKind<ClusterRole>({
  group: 'rbac.authorization.k8s.io', version: 'v1', kind: 'ClusterRole', plural: 'clusterroles', namespaced: false,
})
export const roleBindings = defineKind<RoleBinding>({ group: 'rbac.authorization.k8s.io', version: 'v1', kind: 'RoleBinding', plural: 'rolebindings' })
export const clusterRoleBindings = defineKind<ClusterRoleBinding>({
  group: 'rbac.authorization.k8s.io', version: 'v1', kind: 'ClusterRoleBinding', plural: 'clusterrolebindings', namespaced: false,
})
export const machines = defineKind<Machine>({
  group: 'gantry.dev', version: 'v1', kind: 'Machine', plural: 'machines', namespaced: false, subresources: ['status'],
})
export const routes = defineKind<Route>({ group: 'gantry.dev', version: 'v1', kind: 'Route', plural: 'routes', categories: ['all'], subresources: ['status'] })
export const composeProjects = defineKind<ComposeProject>({
  group: 'gantry.dev', version: 'v1', kind: 'ComposeProject', plural: 'composeprojects', subresources: ['status'],
})

/** The kinds built into the core. `composeProjects` is added by its dialect. */
export const coreKinds: readonly Kind[] = [
  pods, services, replicationControllers, nodes, namespaces, events, configMaps, secrets, serviceAccounts, endpoints,
  deployments, replicaSets, endpointSlices, leases, roles, clusterRoles, roleBindings, clusterRoleBindings, machines, routes,
]

/** The kinds of one running server, found by URL or by apiVersion and kind. */
export class KindTable {
  readonly #byResource = new Map<string, Kind>()
  readonly #byKind = new Map<string, Kind>()

  constructor(kinds: readonly Kind[] = coreKinds) {
    for (const k of kinds) this.add(k)
  }

  add(k: Kind): void {
    this.#byResource.set(`${k.apiVersion}/${k.plural}`, k)
    this.#byKind.set(`${k.apiVersion}/${k.kind}`, k)
  }

  /** By `v1` + `pods` or `apps/v1` + `deployments`. */
  byResource(apiVersion: string, plural: string): Kind | undefined { return this.#byResource.get(`${apiVersion}/${plural}`) }
  byKind(apiVersion: string, kind: string): Kind | undefined { return this.#byKind.get(`${apiVersion}/${kind}`) }
  all(): Kind[] { return [...this.#byKind.values()] }
}
