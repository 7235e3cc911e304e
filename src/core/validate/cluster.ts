/** Services, endpoints, nodes, configuration, RBAC and the other small kinds. */
import { isIP } from 'node:net'
import { equal } from '../clone.ts'
import { configKey, dns1123Label, dns1123Subdomain, labelKey, labelValue } from '../names.ts'
import type {
  ConfigMap, Endpoints, EndpointSlice, Event, Lease, Namespace, Node, Role, RoleBinding, Secret, Service, ServicePort,
} from '../types/index.ts'
import { validatePortRef } from './container.ts'
import type { FieldErrors } from './field-errors.ts'
import { validateLabels } from './metadata.ts'

const PROTOCOLS = ['SCTP', 'TCP', 'UDP']
const MAX_DATA_BYTES = 1024 * 1024

export function validateService(s: Service, e: FieldErrors): void {
  const { spec } = s
  if (!spec) {
    e.required('spec')
    return
  }
  e.oneOf('spec.type', spec.type, ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'])
  e.oneOf('spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None'])
  const isHeadless = spec.clusterIP === 'None'
  if (spec.type === 'ExternalName') {
    if (!spec.externalName) e.required('spec.externalName')
    else e.check('spec.externalName', spec.externalName, dns1123Subdomain(spec.externalName.replace(/\.$/, '')))
    if (spec.clusterIP) e.forbidden('spec.clusterIP', 'may not be set when `type` is ExternalName')
  } else if (!spec.ports?.length && !isHeadless) e.required('spec.ports')
  if (isHeadless && (spec.type === 'NodePort' || spec.type === 'LoadBalancer')) {
    e.invalid('spec.clusterIP', spec.clusterIP, `may not be set to 'None' for ${spec.type} services`)
  } else if (spec.clusterIP && !isHeadless && isIP(spec.clusterIP) === 0) {
    e.invalid('spec.clusterIP', spec.clusterIP, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')
  }
  validateLabels('spec.selector', spec.selector, e)
  spec.externalIPs?.forEach((ip, i) => {
    if (isIP(ip) === 0) e.invalid(`spec.externalIPs[${i}]`, ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')
  })
  const timeout = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds
  if (timeout !== undefined && (timeout < 1 || timeout > 86_400)) {
    e.invalid('spec.sessionAffinityConfig.clientIP.timeoutSeconds', timeout, 'must be greater than 0 and less than 86400')
  }
  e.oneOf('spec.internalTrafficPolicy', spec.internalTrafficPolicy, ['Cluster', 'Local'])
  e.oneOf('spec.externalTrafficPolicy', spec.externalTrafficPolicy, ['Cluster', 'Local'])
  if (spec.ports) validateServicePorts(spec.ports, e)
}

function validateServicePorts(ports: readonly ServicePort[], e: FieldErrors): void {
  const names = new Set<string>()
  const numbers = new Set<string>()
  const nodePorts = new Set<string>()
  ports.forEach((port, i) => {
    const path = `spec.ports[${i}]`
    if (ports.length > 1 && !port.name) e.required(`${path}.name`)
    if (port.name) {
      e.check(`${path}.name`, port.name, dns1123Label(port.name))
      if (names.has(port.name)) e.duplicate(`${path}.name`, port.name)
      names.add(port.name)
    }
    e.port(`${path}.port`, port.port)
    e.oneOf(`${path}.protocol`, port.protocol, PROTOCOLS)
    if (port.targetPort !== undefined) validatePortRef(`${path}.targetPort`, port.targetPort, e)
    const key = `${port.protocol ?? 'TCP'}/${port.port}`
    if (numbers.has(key)) e.duplicate(path, key)
    numbers.add(key)
    if (!port.nodePort) return
    e.port(`${path}.nodePort`, port.nodePort)
    const nodeKey = `${port.protocol ?? 'TCP'}/${port.nodePort}`
    if (nodePorts.has(nodeKey)) e.duplicate(`${path}.nodePort`, port.nodePort)
    nodePorts.add(nodeKey)
  })
}

export function validateServiceUpdate(s: Service, old: Service, e: FieldErrors): void {
  const was = old.spec.clusterIP
  if (was && s.spec?.type !== 'ExternalName' && old.spec.type !== 'ExternalName' && s.spec?.clusterIP !== was) {
    e.invalid('spec.clusterIP', s.spec?.clusterIP, 'field is immutable')
  }
}

export function validateConfigMap(c: ConfigMap, e: FieldErrors): void {
  let size = 0
  for (const key in c.data) {
    e.check(`data[${key}]`, key, configKey(key))
    if (c.binaryData && Object.hasOwn(c.binaryData, key)) e.invalid(`data[${key}]`, key, 'duplicate of key present in binaryData')
    size += (c.data[key] as string).length
  }
  for (const key in c.binaryData) {
    e.check(`binaryData[${key}]`, key, configKey(key))
    size += (c.binaryData[key] as string).length * 3 / 4
  }
  if (size > MAX_DATA_BYTES) e.tooLong('data', MAX_DATA_BYTES)
}

export function validateConfigMapUpdate(c: ConfigMap, old: ConfigMap, e: FieldErrors): void {
  validateImmutable(c, old, ['data', 'binaryData'], e)
}

function validateImmutable<T extends ConfigMap | Secret>(
  now: T, old: T, fields: readonly (keyof T & string)[], e: FieldErrors,
): void {
  if (old.immutable !== true) return
  if (now.immutable !== true) e.forbidden('immutable', 'field is immutable when `immutable` is set')
  for (const field of fields) {
    if (!equal(now[field] ?? {}, old[field] ?? {})) e.forbidden(field, 'field is immutable when `immutable` is set')
  }
}

const REQUIRED_SECRET_KEYS: Record<string, string[]> = {
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
}

export function validateSecret(s: Secret, e: FieldErrors): void {
  let size = 0
  for (const key in s.data) {
    e.check(`data[${key}]`, key, configKey(key))
    size += (s.data[key] as string).length * 3 / 4
  }
  if (size > MAX_DATA_BYTES) e.tooLong('data', MAX_DATA_BYTES)
  for (const key of REQUIRED_SECRET_KEYS[s.type ?? ''] ?? []) {
    if (!s.data || !Object.hasOwn(s.data, key)) e.required(`data[${key}]`)
  }
}

export function validateSecretUpdate(s: Secret, old: Secret, e: FieldErrors): void {
  if (s.type !== old.type) e.invalid('type', s.type, 'field is immutable')
  validateImmutable(s, old, ['data'], e)
}

export function validateNamespace(n: Namespace, e: FieldErrors): void {
  n.spec?.finalizers?.forEach((f, i) => { e.check(`spec.finalizers[${i}]`, f, labelKey(f)) })
}

export function validateNode(n: Node, e: FieldErrors): void {
  const seen = new Set<string>()
  n.spec?.taints?.forEach((taint, i) => {
    const path = `spec.taints[${i}]`
    e.check(`${path}.key`, taint.key ?? '', labelKey(taint.key ?? ''))
    if (taint.value) e.check(`${path}.value`, taint.value, labelValue(taint.value))
    e.oneOf(`${path}.effect`, taint.effect ?? '', ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])
    const key = `${taint.key}:${taint.effect}`
    if (seen.has(key)) e.duplicate(path, key)
    seen.add(key)
  })
}

export function validateNodeUpdate(n: Node, old: Node, e: FieldErrors): void {
  if (old.spec?.podCIDR && n.spec?.podCIDR !== old.spec.podCIDR) {
    e.forbidden('spec.podCIDR', 'node updates may not change podCIDR except from "" to valid')
  }
}

export function validateEndpointSlice(s: EndpointSlice, e: FieldErrors): void {
  if (!s.addressType) e.required('addressType')
  else e.oneOf('addressType', s.addressType, ['FQDN', 'IPv4', 'IPv6'])
  const family = s.addressType === 'IPv4' ? 4 : s.addressType === 'IPv6' ? 6 : 0
  if ((s.endpoints?.length ?? 0) > 1000) e.invalid('endpoints', s.endpoints.length, 'must have at most 1000 items')
  s.endpoints?.forEach((endpoint, i) => {
    if (!endpoint.addresses?.length) e.required(`endpoints[${i}].addresses`, 'must contain at least 1 address')
    endpoint.addresses?.forEach((address, j) => {
      const path = `endpoints[${i}].addresses[${j}]`
      if (family === 0) e.check(path, address, dns1123Subdomain(address))
      else if (isIP(address) !== family) e.invalid(path, address, `must be an ${s.addressType} address`)
    })
  })
  const names = new Set<string>()
  s.ports?.forEach((port, i) => {
    const name = port.name ?? ''
    if (name !== '') e.check(`ports[${i}].name`, name, dns1123Label(name))
    if (names.has(name)) e.duplicate(`ports[${i}].name`, name)
    names.add(name)
    e.oneOf(`ports[${i}].protocol`, port.protocol, PROTOCOLS)
  })
}

export function validateEndpointSliceUpdate(s: EndpointSlice, old: EndpointSlice, e: FieldErrors): void {
  if (s.addressType !== old.addressType) e.invalid('addressType', s.addressType, 'field is immutable')
}

export function validateEndpoints(ep: Endpoints, e: FieldErrors): void {
  ep.subsets?.forEach((subset, i) => {
    const path = `subsets[${i}]`
    if (!subset.addresses?.length && !subset.notReadyAddresses?.length) {
      e.required(path, 'must specify `addresses` or `notReadyAddresses`')
    }
    for (const list of ['addresses', 'notReadyAddresses'] as const) {
      subset[list]?.forEach((a, j) => {
        if (isIP(a.ip ?? '') === 0) {
          e.invalid(`${path}.${list}[${j}].ip`, a.ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)')
        }
      })
    }
    subset.ports?.forEach((port, j) => {
      if ((subset.ports?.length ?? 0) > 1 && !port.name) e.required(`${path}.ports[${j}].name`)
      if (port.name) e.check(`${path}.ports[${j}].name`, port.name, dns1123Label(port.name))
      e.port(`${path}.ports[${j}].port`, port.port)
    })
  })
}

export function validateEvent(event: Event, e: FieldErrors): void {
  if (!event.involvedObject) {
    e.required('involvedObject')
    return
  }
  const namespace = event.involvedObject.namespace ?? ''
  const own = event.metadata.namespace ?? ''
  if (namespace === '' ? own !== 'default' && own !== 'kube-system' : own !== namespace) {
    e.invalid('involvedObject.namespace', namespace, 'does not match event.namespace')
  }
}

export function validateLease(l: Lease, e: FieldErrors): void {
  const seconds = l.spec?.leaseDurationSeconds
  if (seconds !== undefined && seconds <= 0) e.invalid('spec.leaseDurationSeconds', seconds, 'must be greater than 0')
  const transitions = l.spec?.leaseTransitions
  if (transitions !== undefined && transitions < 0) {
    e.invalid('spec.leaseTransitions', transitions, 'must be greater than or equal to 0')
  }
}

/** Only ClusterRoles may hold nonResourceURLs. */
export function validateRole(r: Role, e: FieldErrors): void {
  r.rules?.forEach((rule, i) => {
    const path = `rules[${i}]`
    if (!rule.verbs?.length) e.required(`${path}.verbs`, 'verbs must contain at least one value')
    if (rule.nonResourceURLs?.length) {
      if (r.kind === 'Role') {
        e.invalid(`${path}.nonResourceURLs`, rule.nonResourceURLs, 'namespaced rules cannot apply to non-resource URLs')
      }
      if (rule.apiGroups?.length || rule.resources?.length || rule.resourceNames?.length) {
        e.invalid(`${path}.nonResourceURLs`, rule.nonResourceURLs,
          'rules cannot apply to both regular resources and non-resource URLs')
      }
      return
    }
    if (!rule.apiGroups?.length) e.required(`${path}.apiGroups`, 'resource rules must supply at least one api group')
    if (!rule.resources?.length) e.required(`${path}.resources`, 'resource rules must supply at least one resource')
  })
}

export function validateRoleBinding(b: RoleBinding, e: FieldErrors): void {
  const ref = b.roleRef
  if (ref?.apiGroup !== 'rbac.authorization.k8s.io') {
    e.notSupported('roleRef.apiGroup', ref?.apiGroup ?? '', ['rbac.authorization.k8s.io'])
  }
  e.oneOf('roleRef.kind', ref?.kind ?? '', b.kind === 'RoleBinding' ? ['Role', 'ClusterRole'] : ['ClusterRole'])
  if (!ref?.name) e.required('roleRef.name')
  b.subjects?.forEach((subject, i) => {
    const path = `subjects[${i}]`
    if (!subject.name) e.required(`${path}.name`)
    e.oneOf(`${path}.kind`, subject.kind ?? '', ['ServiceAccount', 'User', 'Group'])
    if (subject.kind === 'ServiceAccount') {
      if (!subject.namespace) e.required(`${path}.namespace`)
      if (subject.apiGroup) e.notSupported(`${path}.apiGroup`, subject.apiGroup, [''])
    } else if (subject.apiGroup !== 'rbac.authorization.k8s.io') {
      e.notSupported(`${path}.apiGroup`, subject.apiGroup ?? '', ['rbac.authorization.k8s.io'])
    }
  })
}

export function validateRoleBindingUpdate(b: RoleBinding, old: RoleBinding, e: FieldErrors): void {
  if (!equal(b.roleRef, old.roleRef)) e.invalid('roleRef', b.roleRef, 'cannot change roleRef')
}
