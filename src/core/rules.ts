/**
 * What is particular to each kind: its defaults and its semantic checks. A dialect adds its kinds' rules with
 * {@link addRules}.
 */
import {
  defaultDeployment, defaultEndpoints, defaultEndpointSlice, defaultPod, defaultReplicaSet, defaultReplicationController,
  defaultRoleBinding, defaultRoute, defaultSecret, defaultService,
} from './defaults.ts'
import * as kinds from './kinds.ts'
import type { Kind } from './kinds.ts'
import type { ApiObject } from './types/index.ts'
import * as cluster from './validate/cluster.ts'
import type { FieldErrors } from './validate/field-errors.ts'
import * as gantry from './validate/gantry.ts'
import { validatePod, validatePodUpdate } from './validate/pod.ts'
import * as workloads from './validate/workloads.ts'

export interface KindRules<T extends ApiObject> {
  /** Fills in what was left out; changes the object. Runs on create and on update. */
  defaults?: (object: T) => void
  /** Adds what is wrong with an object, old or new. */
  validate?: (object: T, errors: FieldErrors) => void
  /** Adds what may not have changed. Runs besides `validate`. */
  validateUpdate?: (object: T, old: T, errors: FieldErrors) => void
  /** The status a new object starts with, when the kind has the sub-resource `status`; the client's is dropped. */
  initialStatus?: (object: T) => unknown
  /** The agent registers a Node with its status. */
  keepsStatusOnCreate?: boolean
}

const rules = new Map<string, KindRules<ApiObject>>()

export function addRules<T extends ApiObject>(kind: Kind<T>, r: KindRules<T>): void {
  rules.set(`${kind.apiVersion}/${kind.kind}`, r as unknown as KindRules<ApiObject>)
}

const NO_RULES: KindRules<ApiObject> = {}
export function rulesOf(kind: Kind): KindRules<ApiObject> { return rules.get(`${kind.apiVersion}/${kind.kind}`) ?? NO_RULES }

addRules(kinds.pods, {
  defaults: defaultPod, validate: validatePod, validateUpdate: validatePodUpdate, initialStatus: () => ({ phase: 'Pending' }),
})
addRules(kinds.services, {
  defaults: defaultService, validate: cluster.validateService, validateUpdate: cluster.validateServiceUpdate,
  initialStatus: () => ({ loadBalancer: {} }),
})
addRules(kinds.replicationControllers, {
  defaults: defaultReplicationController, validate: workloads.validateReplicationController,
  initialStatus: () => ({ replicas: 0 }),
})
addRules(kinds.nodes, { validate: cluster.validateNode, validateUpdate: cluster.validateNodeUpdate, keepsStatusOnCreate: true })
addRules(kinds.namespaces, {
  defaults: n => {
    n.spec ??= {}
    n.spec.finalizers ??= ['kubernetes']
    n.metadata.labels = { ...n.metadata.labels, 'kubernetes.io/metadata.name': n.metadata.name }
  },
  validate: cluster.validateNamespace, initialStatus: () => ({ phase: 'Active' }),
})
addRules(kinds.events, { validate: cluster.validateEvent })
addRules(kinds.configMaps, { validate: cluster.validateConfigMap, validateUpdate: cluster.validateConfigMapUpdate })
addRules(kinds.secrets, {
  defaults: defaultSecret, validate: cluster.validateSecret, validateUpdate: cluster.validateSecretUpdate,
})
addRules(kinds.endpoints, { defaults: defaultEndpoints, validate: cluster.validateEndpoints })
addRules(kinds.deployments, {
  defaults: defaultDeployment, validate: workloads.validateDeployment, validateUpdate: workloads.validateSelectorUpdate,
})
addRules(kinds.replicaSets, {
  defaults: defaultReplicaSet, validate: workloads.validateReplicaSet, validateUpdate: workloads.validateSelectorUpdate,
  initialStatus: () => ({ replicas: 0 }),
})
addRules(kinds.endpointSlices, {
  defaults: defaultEndpointSlice, validate: cluster.validateEndpointSlice, validateUpdate: cluster.validateEndpointSliceUpdate,
})
addRules(kinds.leases, { validate: cluster.validateLease })
addRules(kinds.roles, { validate: cluster.validateRole })
addRules(kinds.clusterRoles, { validate: cluster.validateRole })
addRules(kinds.roleBindings, {
  defaults: defaultRoleBinding, validate: cluster.validateRoleBinding, validateUpdate: cluster.validateRoleBindingUpdate,
})
addRules(kinds.clusterRoleBindings, {
  defaults: defaultRoleBinding, validate: cluster.validateRoleBinding, validateUpdate: cluster.validateRoleBindingUpdate,
})
addRules(kinds.machines, { validate: gantry.validateMachine, validateUpdate: gantry.validateMachineUpdate })
addRules(kinds.routes, { defaults: defaultRoute, validate: gantry.validateRoute })
addRules(kinds.composeProjects, { validate: gantry.validateComposeProject })
