/** Deployments, ReplicaSets and ReplicationControllers. */
import { equal } from '../clone.ts'
import { percentOf } from '../int-or-string.ts'
import { labelSelectorOf, labelsMatch } from '../selectors.ts'
import type {
  Deployment, IntOrString, LabelSelector, PodTemplateSpec, ReplicaSet, ReplicationController,
} from '../types/index.ts'
import type { FieldErrors } from './field-errors.ts'
import { validateLabels, validateLabelSelector } from './metadata.ts'
import { validateTemplate } from './pod.ts'

function validateSelector(selector: LabelSelector | undefined, template: PodTemplateSpec | undefined, e: FieldErrors): void {
  if (!selector) {
    e.required('spec.selector')
    return
  }
  const before = e.causes.length
  validateLabelSelector('spec.selector', selector, e)
  if (!Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length) {
    e.invalid('spec.selector', selector, 'empty selector is invalid for deployment')
  } else if (e.causes.length === before && template && !labelSelectorOf(selector)(template.metadata?.labels)) {
    e.invalid('spec.template.metadata.labels', template.metadata?.labels ?? {}, '`selector` does not match template `labels`')
  }
}

function validateReplicatedTemplate(template: PodTemplateSpec | undefined, e: FieldErrors): void {
  if (!template) {
    e.required('spec.template')
    return
  }
  validateTemplate('spec.template', template, e)
  const policy = template.spec?.restartPolicy
  if (policy !== undefined && policy !== 'Always') e.notSupported('spec.template.spec.restartPolicy', policy, ['Always'])
  if (template.spec?.activeDeadlineSeconds !== undefined) {
    e.forbidden('spec.template.spec.activeDeadlineSeconds', 'activeDeadlineSeconds in ReplicaSet is not Supported')
  }
}

function validateAmount(path: string, value: IntOrString | undefined, e: FieldErrors): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number') {
    e.notNegative(path, value)
    return value
  }
  const percent = percentOf(value)
  if (percent === undefined) {
    e.invalid(path, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%' or '93%')")
  }
  return percent
}

export function validateDeployment(d: Deployment, e: FieldErrors): void {
  const { spec } = d
  if (!spec) {
    e.required('spec')
    return
  }
  e.notNegative('spec.replicas', spec.replicas)
  validateSelector(spec.selector, spec.template, e)
  validateReplicatedTemplate(spec.template, e)
  e.notNegative('spec.minReadySeconds', spec.minReadySeconds)
  e.notNegative('spec.revisionHistoryLimit', spec.revisionHistoryLimit)
  if (spec.progressDeadlineSeconds !== undefined) {
    e.notNegative('spec.progressDeadlineSeconds', spec.progressDeadlineSeconds)
    if (spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0)) {
      e.invalid('spec.progressDeadlineSeconds', spec.progressDeadlineSeconds, 'must be greater than minReadySeconds')
    }
  }
  const strategy = spec.strategy ?? {}
  e.oneOf('spec.strategy.type', strategy.type, ['Recreate', 'RollingUpdate'])
  const rolling = strategy.rollingUpdate
  if (strategy.type === 'Recreate' && rolling) {
    e.forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'")
  } else if (rolling) {
    const unavailable = validateAmount('spec.strategy.rollingUpdate.maxUnavailable', rolling.maxUnavailable, e)
    const surge = validateAmount('spec.strategy.rollingUpdate.maxSurge', rolling.maxSurge, e)
    if (unavailable === 0 && surge === 0) {
      e.invalid('spec.strategy.rollingUpdate.maxUnavailable', rolling.maxUnavailable, 'may not be 0 when `maxSurge` is 0')
    }
    if (unavailable !== undefined && unavailable > 100 && typeof rolling.maxUnavailable === 'string') {
      e.invalid('spec.strategy.rollingUpdate.maxUnavailable', rolling.maxUnavailable, 'must not be greater than 100%')
    }
  }
}

export function validateReplicaSet(rs: ReplicaSet, e: FieldErrors): void {
  if (!rs.spec) {
    e.required('spec')
    return
  }
  e.notNegative('spec.replicas', rs.spec.replicas)
  e.notNegative('spec.minReadySeconds', rs.spec.minReadySeconds)
  validateSelector(rs.spec.selector, rs.spec.template, e)
  validateReplicatedTemplate(rs.spec.template, e)
}

export function validateReplicationController(rc: ReplicationController, e: FieldErrors): void {
  const { spec } = rc
  if (!spec) {
    e.required('spec')
    return
  }
  e.notNegative('spec.replicas', spec.replicas)
  e.notNegative('spec.minReadySeconds', spec.minReadySeconds)
  if (!spec.selector || Object.keys(spec.selector).length === 0) e.required('spec.selector')
  else {
    validateLabels('spec.selector', spec.selector, e)
    if (spec.template && !labelsMatch(spec.selector, spec.template.metadata?.labels)) {
      e.invalid('spec.template.metadata.labels', spec.template.metadata?.labels ?? {},
        '`selector` does not match template `labels`')
    }
  }
  validateReplicatedTemplate(spec.template, e)
}

export function validateSelectorUpdate(now: Deployment | ReplicaSet, old: Deployment | ReplicaSet, e: FieldErrors): void {
  if (!equal(now.spec?.selector, old.spec.selector)) e.invalid('spec.selector', now.spec?.selector, 'field is immutable')
}
