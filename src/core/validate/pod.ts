/** Pods and Pod templates. */
import { clone, equal } from '../clone.ts'
import { dns1123Label, dns1123Subdomain, labelKey } from '../names.ts'
import { isQuantity } from '../quantity.ts'
import { SYSTEM_PRIORITIES } from '../defaults.ts'
import type { Affinity, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, PodTemplateSpec, Toleration } from '../types/index.ts'
import { validateContainer } from './container.ts'
import type { PodFacts } from './container.ts'
import type { FieldErrors } from './field-errors.ts'
import { validateAnnotations, validateLabels, validateLabelSelector } from './metadata.ts'
import { validateVolumes } from './volumes.ts'

const EFFECTS = ['NoSchedule', 'PreferNoSchedule', 'NoExecute']
const MAX_USER_PRIORITY = 1_000_000_000

export function validatePod(pod: Pod, e: FieldErrors): void {
  if (!pod.spec) {
    e.required('spec')
    return
  }
  validatePodSpec('spec', pod.spec, e)
  const { priority, priorityClassName } = pod.spec
  if (priorityClassName && !Object.hasOwn(SYSTEM_PRIORITIES, priorityClassName)) {
    e.forbidden('spec.priorityClassName', `no PriorityClass with name ${priorityClassName} was found`)
  } else if (!priorityClassName && priority !== undefined && priority > MAX_USER_PRIORITY) {
    e.invalid('spec.priority', priority, `must be no more than ${MAX_USER_PRIORITY}`)
  }
}

export function validateTemplate(path: string, template: PodTemplateSpec, e: FieldErrors): void {
  validateLabels(`${path}.metadata.labels`, template.metadata?.labels, e)
  validateAnnotations(`${path}.metadata.annotations`, template.metadata?.annotations, e)
  if (template.spec) validatePodSpec(`${path}.spec`, template.spec, e)
  else e.required(`${path}.spec`)
}

function validatePodSpec(path: string, spec: PodSpec, e: FieldErrors): void {
  const volumes = spec.volumes ? validateVolumes(`${path}.volumes`, spec.volumes, e) : new Set<string>()
  const facts: PodFacts = { kind: 'main', names: new Set(), volumes, hostNetwork: spec.hostNetwork === true }
  if (!spec.containers?.length) e.required(`${path}.containers`)
  else spec.containers.forEach((c, i) => { validateContainer(`${path}.containers[${i}]`, c, facts, e) })
  spec.initContainers?.forEach((c, i) => { validateContainer(`${path}.initContainers[${i}]`, c, { ...facts, kind: 'init' }, e) })
  validateHostPorts(path, spec, e)
  e.oneOf(`${path}.restartPolicy`, spec.restartPolicy, ['Always', 'OnFailure', 'Never'])
  e.oneOf(`${path}.dnsPolicy`, spec.dnsPolicy, ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'])
  if (spec.dnsPolicy === 'None' && !spec.dnsConfig?.nameservers?.length) {
    e.required(`${path}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None')
  }
  e.notNegative(`${path}.terminationGracePeriodSeconds`, spec.terminationGracePeriodSeconds)
  if (spec.activeDeadlineSeconds !== undefined && spec.activeDeadlineSeconds < 1) {
    e.invalid(`${path}.activeDeadlineSeconds`, spec.activeDeadlineSeconds, 'must be between 1 and 2147483647, inclusive')
  }
  if (spec.hostname) e.check(`${path}.hostname`, spec.hostname, dns1123Label(spec.hostname))
  if (spec.subdomain) e.check(`${path}.subdomain`, spec.subdomain, dns1123Label(spec.subdomain))
  if (spec.nodeName) e.check(`${path}.nodeName`, spec.nodeName, dns1123Subdomain(spec.nodeName))
  const account = spec.serviceAccountName
  if (account) e.check(`${path}.serviceAccountName`, account, dns1123Subdomain(account))
  if (spec.shareProcessNamespace && spec.hostPID) {
    e.invalid(`${path}.shareProcessNamespace`, true, 'ShareProcessNamespace and HostPID cannot both be enabled')
  }
  validateLabels(`${path}.nodeSelector`, spec.nodeSelector, e)
  spec.tolerations?.forEach((t, i) => { validateToleration(`${path}.tolerations[${i}]`, t, e) })
  if (spec.affinity) validateAffinity(`${path}.affinity`, spec.affinity, e)
  spec.topologySpreadConstraints?.forEach((t, i) => {
    const here = `${path}.topologySpreadConstraints[${i}]`
    if (!(t.maxSkew > 0)) e.invalid(`${here}.maxSkew`, t.maxSkew ?? 0, 'must be greater than zero')
    if (!t.topologyKey) e.required(`${here}.topologyKey`, 'can not be empty')
    e.oneOf(`${here}.whenUnsatisfiable`, t.whenUnsatisfiable ?? '', ['DoNotSchedule', 'ScheduleAnyway'])
    validateLabelSelector(`${here}.labelSelector`, t.labelSelector, e)
  })
  const gates = new Set<string>()
  spec.schedulingGates?.forEach((gate, i) => {
    e.check(`${path}.schedulingGates[${i}].name`, gate.name ?? '', labelKey(gate.name ?? ''))
    if (gates.has(gate.name)) e.duplicate(`${path}.schedulingGates[${i}].name`, gate.name)
    gates.add(gate.name)
  })
  for (const name in spec.overhead) {
    if (!isQuantity(spec.overhead[name])) e.invalid(`${path}.overhead[${name}]`, spec.overhead[name], 'must be a quantity')
  }
}

/** A host port can be bound once by a Pod. */
function validateHostPorts(path: string, spec: PodSpec, e: FieldErrors): void {
  const used = new Set<string>()
  spec.containers?.forEach((c, i) => {
    c.ports?.forEach((port, j) => {
      if (!port.hostPort) return
      const key = `${port.hostIP ?? ''}/${port.hostPort}/${port.protocol ?? 'TCP'}`
      if (used.has(key)) e.duplicate(`${path}.containers[${i}].ports[${j}].hostPort`, key)
      used.add(key)
    })
  })
}

function validateToleration(path: string, t: Toleration, e: FieldErrors): void {
  if (t.key) e.check(`${path}.key`, t.key, labelKey(t.key))
  else if (t.operator !== 'Exists') {
    e.invalid(`${path}.operator`, t.operator ?? '',
      "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")
  }
  e.oneOf(`${path}.operator`, t.operator, ['Equal', 'Exists'])
  if (t.operator === 'Exists' && t.value) e.invalid(`${path}.operator`, t, "value must be empty when `operator` is 'Exists'")
  if (t.effect) e.oneOf(`${path}.effect`, t.effect, EFFECTS)
  if (t.tolerationSeconds !== undefined && t.effect !== 'NoExecute') {
    e.invalid(`${path}.effect`, t.effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set")
  }
}

function validateAffinity(path: string, affinity: Affinity, e: FieldErrors): void {
  const required = affinity.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  const node = `${path}.nodeAffinity`
  if (required) {
    const here = `${node}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`
    if (!required.nodeSelectorTerms?.length) e.required(here, 'must have at least one node selector term')
    else required.nodeSelectorTerms.forEach((t, i) => { validateTerm(`${here}[${i}]`, t, e) })
  }
  affinity.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution?.forEach((p, i) => {
    const here = `${node}.preferredDuringSchedulingIgnoredDuringExecution[${i}]`
    validateWeight(here, p.weight, e)
    validateTerm(`${here}.preference`, p.preference ?? {}, e)
  })
  for (const side of ['podAffinity', 'podAntiAffinity'] as const) {
    const pod = affinity[side]
    pod?.requiredDuringSchedulingIgnoredDuringExecution?.forEach((t, i) => {
      validatePodTerm(`${path}.${side}.requiredDuringSchedulingIgnoredDuringExecution[${i}]`, t, e)
    })
    pod?.preferredDuringSchedulingIgnoredDuringExecution?.forEach((p, i) => {
      const here = `${path}.${side}.preferredDuringSchedulingIgnoredDuringExecution[${i}]`
      validateWeight(here, p.weight, e)
      if (p.podAffinityTerm) validatePodTerm(`${here}.podAffinityTerm`, p.podAffinityTerm, e)
      else e.required(`${here}.podAffinityTerm`)
    })
  }
}

function validateWeight(path: string, weight: number | undefined, e: FieldErrors): void {
  if (weight === undefined || weight < 1 || weight > 100) e.invalid(`${path}.weight`, weight ?? 0, 'must be in the range 1-100')
}

function validateTerm(path: string, term: NodeSelectorTerm, e: FieldErrors): void {
  for (const part of ['matchExpressions', 'matchFields'] as const) {
    term[part]?.forEach((x, i) => {
      const here = `${path}.${part}[${i}]`
      if (part === 'matchExpressions') e.check(`${here}.key`, x.key ?? '', labelKey(x.key ?? ''))
      else if (x.key !== 'metadata.name') e.invalid(`${here}.key`, x.key ?? '', 'not a valid field selector key')
      const values = x.values?.length ?? 0
      switch (x.operator) {
        case 'In': case 'NotIn':
          if (values === 0) e.required(`${here}.values`, "must be specified when `operator` is 'In' or 'NotIn'")
          break
        case 'Exists': case 'DoesNotExist':
          if (values > 0) e.forbidden(`${here}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
          break
        case 'Gt': case 'Lt':
          if (values !== 1) e.required(`${here}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'")
          break
        default: e.invalid(`${here}.operator`, x.operator, 'not a valid selector operator')
      }
    })
  }
}

function validatePodTerm(path: string, term: PodAffinityTerm, e: FieldErrors): void {
  if (!term.topologyKey) e.required(`${path}.topologyKey`, 'can not be empty')
  else e.check(`${path}.topologyKey`, term.topologyKey, labelKey(term.topologyKey))
  validateLabelSelector(`${path}.labelSelector`, term.labelSelector, e)
  validateLabelSelector(`${path}.namespaceSelector`, term.namespaceSelector, e)
}

const MUTABLE = 'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,'
  + '`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations)'

/** The few parts of a Pod's spec that may change. A Pod held by scheduling gates may also be narrowed to fewer nodes. */
export function validatePodUpdate(pod: Pod, old: Pod, e: FieldErrors): void {
  if (equal(pod.spec, old.spec)) return
  const allowed = clone(pod.spec)
  for (const list of ['containers', 'initContainers'] as const) {
    const before = old.spec[list]
    if (allowed[list]?.length !== before?.length) {
      e.forbidden('spec', `${MUTABLE}: containers may not be added or removed`)
      return
    }
    allowed[list]?.forEach((c, i) => {
      if (before?.[i]?.image !== undefined) c.image = before[i].image
    })
  }
  const deadline = pod.spec.activeDeadlineSeconds
  const oldDeadline = old.spec.activeDeadlineSeconds
  if (oldDeadline !== undefined && (deadline === undefined || deadline > oldDeadline)) {
    e.invalid('spec.activeDeadlineSeconds', deadline, 'must be less than or equal to previous value')
  }
  restore(allowed, old.spec, 'activeDeadlineSeconds')
  const kept = (old.spec.tolerations ?? []).every(t => pod.spec.tolerations?.some(now =>
    equal({ ...now, tolerationSeconds: 0 }, { ...t, tolerationSeconds: 0 })))
  if (!kept) e.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds')
  restore(allowed, old.spec, 'tolerations')
  const gates = new Set(old.spec.schedulingGates?.map(g => g.name))
  const addedGate = pod.spec.schedulingGates?.find(g => !gates.has(g.name))
  if (addedGate) {
    e.forbidden('spec.schedulingGates', `only deletion is allowed, but found new scheduling gate '${addedGate.name}'`)
  }
  restore(allowed, old.spec, 'schedulingGates')
  if (gates.size > 0) {
    restore(allowed, old.spec, 'nodeSelector')
    restore(allowed, old.spec, 'affinity')
  }
  if (!equal(allowed, old.spec)) e.forbidden('spec', `${MUTABLE}${changedFields(allowed, old.spec)}`)
}

function restore<K extends keyof PodSpec>(spec: PodSpec, old: PodSpec, field: K): void {
  if (old[field] === undefined) delete spec[field]
  else spec[field] = old[field]
}

function changedFields(now: PodSpec, old: PodSpec): string {
  const names = new Set([...Object.keys(now), ...Object.keys(old)])
  const changed = [...names].filter(n => !equal(now[n as keyof PodSpec], old[n as keyof PodSpec]))
  return `: changed ${changed.map(n => `spec.${n}`).join(', ')}`
}
