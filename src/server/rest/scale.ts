/** The sub-resource `scale` of ReplicationControllers, ReplicaSets and Deployments: autoscaling/v1 Scale. */
import type { Kind } from '../../core/kinds.ts'
import { defineKind } from '../../core/kinds.ts'
import { ApiError } from '../../core/errors.ts'
import { formatLabelSelector } from '../../core/selectors.ts'
import type { ApiObject, LabelSelector } from '../../core/types/index.ts'

export interface Scale extends ApiObject {
  spec?: { replicas?: number }
  status?: { replicas: number; selector?: string }
}

export const scaleKind = defineKind<Scale>({ group: 'autoscaling', version: 'v1', kind: 'Scale', plural: 'scales' })

interface Scalable extends ApiObject {
  spec: { replicas?: number; selector?: LabelSelector | Record<string, string> }
  status?: { replicas?: number }
}

export function scaleOf(kind: Kind, object: ApiObject): Scale {
  const { metadata: { name, namespace, uid, resourceVersion, creationTimestamp }, spec, status } = object as Scalable
  const selector = kind.plural === 'replicationcontrollers' ? { matchLabels: spec.selector as Record<string, string> } : spec.selector as LabelSelector
  return {
    kind: 'Scale', apiVersion: 'autoscaling/v1', metadata: { name, namespace, uid, resourceVersion, creationTimestamp } as ApiObject['metadata'],
    spec: { replicas: spec.replicas ?? 0 }, status: { replicas: status?.replicas ?? 0, selector: formatLabelSelector(selector) },
  }
}

/** The object with the scale's replicas. Throws Invalid. */
export function withScale(old: ApiObject, scale: Scale): ApiObject {
  const replicas = scale.spec?.replicas ?? 0
  if (!Number.isInteger(replicas) || replicas < 0) {
    throw new ApiError('Invalid', `Scale.autoscaling "${old.metadata.name}" is invalid: spec.replicas: Invalid value: ${replicas}: must be greater than or equal to 0`, {
      name: old.metadata.name, group: 'autoscaling', kind: 'Scale',
      causes: [{ reason: 'FieldValueInvalid', message: 'must be greater than or equal to 0', field: 'spec.replicas' }],
    })
  }
  const metadata = { ...old.metadata }
  if (scale.metadata?.resourceVersion) metadata.resourceVersion = scale.metadata.resourceVersion
  return { ...old, metadata, spec: { ...(old as Scalable).spec, replicas } } as ApiObject
}
