/** Names, labels, annotations, owners and finalizers: the same for every kind, but for the name's grammar. */
import type { Kind } from '../kinds.ts'
import { dns1035Label, dns1123Label, dns1123Subdomain, labelKey, labelValue, pathSegment } from '../names.ts'
import type { LabelSelector, ObjectMeta } from '../types/index.ts'
import type { FieldErrors } from './field-errors.ts'

const MAX_ANNOTATION_BYTES = 256 * 1024

const NAME_RULES: Record<string, (name: string) => string | undefined> = {
  'v1/Namespace': dns1123Label,
  'v1/Service': dns1035Label,
  'rbac.authorization.k8s.io/v1/Role': pathSegment,
  'rbac.authorization.k8s.io/v1/RoleBinding': pathSegment,
  'rbac.authorization.k8s.io/v1/ClusterRole': pathSegment,
  'rbac.authorization.k8s.io/v1/ClusterRoleBinding': pathSegment,
}

export function validateMetadata(kind: Kind, meta: ObjectMeta, e: FieldErrors): void {
  if (typeof meta.name !== 'string' || meta.name === '') e.required('metadata.name', 'name or generateName is required')
  else e.check('metadata.name', meta.name, (NAME_RULES[`${kind.apiVersion}/${kind.kind}`] ?? dns1123Subdomain)(meta.name))
  if (kind.namespaced) {
    if (!meta.namespace) e.required('metadata.namespace')
    else e.check('metadata.namespace', meta.namespace, dns1123Label(meta.namespace))
  } else if (meta.namespace !== undefined && meta.namespace !== '') e.forbidden('metadata.namespace', 'not allowed on this type')
  validateLabels('metadata.labels', meta.labels, e)
  validateAnnotations('metadata.annotations', meta.annotations, e)
  if (meta.ownerReferences) validateOwners(meta.ownerReferences, e)
  for (const finalizer of meta.finalizers ?? []) e.check('metadata.finalizers', finalizer, labelKey(finalizer))
}

export function validateLabels(path: string, labels: Record<string, string> | undefined, e: FieldErrors): void {
  for (const key in labels) {
    e.check(path, key, labelKey(key))
    e.check(path, labels[key] as string, labelValue(labels[key] as string))
  }
}

export function validateAnnotations(path: string, annotations: Record<string, string> | undefined, e: FieldErrors): void {
  let size = 0
  for (const key in annotations) {
    e.check(path, key, labelKey(key.toLowerCase()))
    size += key.length + (annotations[key] as string).length
  }
  if (size > MAX_ANNOTATION_BYTES) e.tooLong(path, MAX_ANNOTATION_BYTES)
}

function validateOwners(owners: NonNullable<ObjectMeta['ownerReferences']>, e: FieldErrors): void {
  let controllers = 0
  owners.forEach((owner, i) => {
    const path = `metadata.ownerReferences[${i}]`
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (!owner[field]) e.required(`${path}.${field}`)
    }
    if (owner.controller && ++controllers === 2) {
      e.invalid('metadata.ownerReferences', owners, 'only one reference can have controller set to true')
    }
  })
}

/** What may not change after creation; unset server-owned fields have been filled in from `old` before. */
export function validateMetadataUpdate(meta: ObjectMeta, old: ObjectMeta, e: FieldErrors): void {
  if (meta.name !== old.name) e.invalid('metadata.name', meta.name, 'field is immutable')
  if (meta.namespace !== old.namespace) e.invalid('metadata.namespace', meta.namespace, 'field is immutable')
  if (old.deletionTimestamp === undefined) return
  const added = (meta.finalizers ?? []).filter(f => !old.finalizers?.includes(f))
  if (added.length > 0) {
    e.forbidden('metadata.finalizers',
      `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`)
  }
}

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist']

export function validateLabelSelector(path: string, selector: LabelSelector | undefined, e: FieldErrors): void {
  if (!selector) return
  validateLabels(`${path}.matchLabels`, selector.matchLabels, e)
  selector.matchExpressions?.forEach((x, i) => {
    const here = `${path}.matchExpressions[${i}]`
    e.check(`${here}.key`, x.key ?? '', labelKey(x.key ?? ''))
    if (!OPERATORS.includes(x.operator)) e.invalid(`${here}.operator`, x.operator, 'not a valid selector operator')
    const wantsValues = x.operator === 'In' || x.operator === 'NotIn'
    if (wantsValues && !x.values?.length) e.required(`${here}.values`, "must be specified when `operator` is 'In' or 'NotIn'")
    if (!wantsValues && x.values?.length) {
      e.forbidden(`${here}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    }
    for (const value of x.values ?? []) e.check(`${here}.values`, value, labelValue(value))
  })
}
