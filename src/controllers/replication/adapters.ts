/** ReplicaSet and ReplicationController differ in their selector only. */
import { replicaSets, replicationControllers, type Kind } from '../../core/kinds.ts'
import { labelSelectorOf, labelsMatch, type LabelMatcher } from '../../core/selectors.ts'
import type { ApiObject, PodTemplateSpec, ReplicaSet, ReplicaStatus, ReplicationController } from '../../core/types/index.ts'

export interface Replicated extends ApiObject {
  spec: { replicas?: number; minReadySeconds?: number; template?: PodTemplateSpec }
  status?: ReplicaStatus
}

export interface ReplicationAdapter<T extends Replicated> {
  kind: Kind<T>
  component: string
  selector(object: T): LabelMatcher
}

export const replicaSetAdapter: ReplicationAdapter<ReplicaSet> = {
  kind: replicaSets,
  component: 'replicaset-controller',
  selector: (rs) => labelSelectorOf(rs.spec.selector),
}

export const replicationControllerAdapter: ReplicationAdapter<ReplicationController> = {
  kind: replicationControllers,
  component: 'replication-controller',
  selector: (rc) => (labels) => labelsMatch(rc.spec.selector ?? rc.spec.template?.metadata?.labels, labels),
}
