/** One container of a Pod or of a template. */
import { dns1123Label, envName, labelKey, portName } from '../names.ts'
import { compareQuantity, isQuantity } from '../quantity.ts'
import type { Container, EnvVar, IntOrString, LifecycleHandler, Probe, ProbeHandler } from '../types/index.ts'
import type { FieldErrors } from './field-errors.ts'
import { validateMounts } from './volumes.ts'

const PROTOCOLS = ['SCTP', 'TCP', 'UDP']
const FIELD_PATHS = new Set([
  'metadata.name', 'metadata.namespace', 'metadata.uid', 'spec.nodeName', 'spec.serviceAccountName', 'status.hostIP',
  'status.hostIPs', 'status.podIP', 'status.podIPs',
])
const RESOURCES = /^(requests|limits)\.(cpu|memory|ephemeral-storage|hugepages-.+)$/

export interface PodFacts {
  /** `init` containers have no probes unless they are sidecars. */
  kind: 'init' | 'main'
  names: Set<string>
  volumes: ReadonlySet<string>
  hostNetwork: boolean
}

export function validateContainer(path: string, c: Container, facts: PodFacts, e: FieldErrors): void {
  if (!c.name) e.required(`${path}.name`)
  else {
    e.check(`${path}.name`, c.name, dns1123Label(c.name))
    if (facts.names.has(c.name)) e.duplicate(`${path}.name`, c.name)
    facts.names.add(c.name)
  }
  if (!c.image) e.required(`${path}.image`)
  else if (c.image !== c.image.trim()) e.invalid(`${path}.image`, c.image, 'must not have leading or trailing whitespace')
  e.oneOf(`${path}.imagePullPolicy`, c.imagePullPolicy, ['Always', 'IfNotPresent', 'Never'])
  e.oneOf(`${path}.terminationMessagePolicy`, c.terminationMessagePolicy, ['File', 'FallbackToLogsOnError'])
  validatePorts(`${path}.ports`, c, facts.hostNetwork, e)
  c.env?.forEach((env, i) => { validateEnv(`${path}.env[${i}]`, env, e) })
  c.envFrom?.forEach((source, i) => {
    const here = `${path}.envFrom[${i}]`
    if (source.configMapRef && source.secretRef) e.invalid(here, '', 'may not have more than one field specified at a time')
    else if (!source.configMapRef && !source.secretRef) e.invalid(here, '', 'must specify one of: `configMapRef` or `secretRef`')
    if (source.configMapRef && !source.configMapRef.name) e.required(`${here}.configMapRef.name`)
    if (source.secretRef && !source.secretRef.name) e.required(`${here}.secretRef.name`)
  })
  if (c.volumeMounts) validateMounts(`${path}.volumeMounts`, c.volumeMounts, facts.volumes, e)
  validateResources(`${path}.resources`, c.resources, e)
  const isSidecar = c.restartPolicy === 'Always'
  if (c.restartPolicy !== undefined) {
    if (facts.kind === 'init') e.oneOf(`${path}.restartPolicy`, c.restartPolicy, ['Always'])
    else e.forbidden(`${path}.restartPolicy`, 'may not be set for non-init containers')
  }
  const mayProbe = facts.kind === 'main' || isSidecar
  for (const field of ['livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    const probe = c[field]
    if (!probe) continue
    if (mayProbe) validateProbe(`${path}.${field}`, probe, field, e)
    else e.forbidden(`${path}.${field}`, 'may not be set for init containers without restartPolicy=Always')
  }
  for (const field of ['postStart', 'preStop'] as const) {
    const handler = c.lifecycle?.[field]
    if (!handler) continue
    if (mayProbe) validateHandler(`${path}.lifecycle.${field}`, handler, e)
    else e.forbidden(`${path}.lifecycle`, 'may not be set for init containers without restartPolicy=Always')
  }
  const security = c.securityContext
  if (security?.privileged === true && security.allowPrivilegeEscalation === false) {
    e.invalid(`${path}.securityContext`, security, 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true')
  }
  e.notNegative(`${path}.securityContext.runAsUser`, security?.runAsUser)
  e.notNegative(`${path}.securityContext.runAsGroup`, security?.runAsGroup)
}

function validatePorts(path: string, c: Container, hostNetwork: boolean, e: FieldErrors): void {
  if (!c.ports) return
  const names = new Set<string>()
  c.ports.forEach((port, i) => {
    const here = `${path}[${i}]`
    if (port.name !== undefined && port.name !== '') {
      e.check(`${here}.name`, port.name, portName(port.name))
      if (names.has(port.name)) e.duplicate(`${here}.name`, port.name)
      names.add(port.name)
    }
    e.port(`${here}.containerPort`, port.containerPort)
    if (port.hostPort !== undefined && port.hostPort !== 0) {
      e.port(`${here}.hostPort`, port.hostPort)
      if (hostNetwork && port.hostPort !== port.containerPort) {
        e.invalid(`${here}.hostPort`, port.hostPort, 'must match `containerPort` when `hostNetwork` is true')
      }
    }
    e.oneOf(`${here}.protocol`, port.protocol, PROTOCOLS)
  })
}

function validateEnv(path: string, env: EnvVar, e: FieldErrors): void {
  if (!env.name) e.required(`${path}.name`)
  else e.check(`${path}.name`, env.name, envName(env.name))
  const from = env.valueFrom
  if (!from) return
  if (env.value) e.invalid(`${path}.valueFrom`, '', 'may not be specified when `value` is not empty')
  const sources = Object.keys(from)
  if (sources.length !== 1) {
    e.invalid(`${path}.valueFrom`, '', sources.length === 0
      ? 'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`'
      : 'may not have more than one field specified at a time')
  }
  if (from.fieldRef) {
    const f = from.fieldRef.fieldPath
    if (!f) e.required(`${path}.valueFrom.fieldRef.fieldPath`)
    else if (!FIELD_PATHS.has(f) && !/^metadata\.(labels|annotations)\['[^']+'\]$/.test(f)) {
      e.notSupported(`${path}.valueFrom.fieldRef.fieldPath`, f, [...FIELD_PATHS].sort())
    }
  }
  if (from.resourceFieldRef) {
    const { resource } = from.resourceFieldRef
    if (!resource) e.required(`${path}.valueFrom.resourceFieldRef.resource`)
    else if (!RESOURCES.test(resource)) {
      e.notSupported(`${path}.valueFrom.resourceFieldRef.resource`, resource,
        ['cpu', 'ephemeral-storage', 'memory'].flatMap(r => [`limits.${r}`, `requests.${r}`]))
    }
  }
  for (const field of ['configMapKeyRef', 'secretKeyRef'] as const) {
    const ref = from[field]
    if (ref && !ref.name) e.required(`${path}.valueFrom.${field}.name`)
    if (ref && !ref.key) e.required(`${path}.valueFrom.${field}.key`)
  }
}

function validateResources(path: string, resources: Container['resources'], e: FieldErrors): void {
  if (!resources) return
  for (const side of ['limits', 'requests'] as const) {
    for (const [name, quantity] of Object.entries(resources[side] ?? {})) {
      const here = `${path}.${side}[${name}]`
      e.check(here, name, labelKey(name))
      if (!name.includes('/') && !STANDARD_RESOURCES.test(name)) {
        e.invalid(here, name, 'must be a standard resource for containers')
      }
      if (!isQuantity(quantity)) e.invalid(here, quantity, 'must be a quantity, e.g. "100m" or "64Mi"')
      else if (quantity.startsWith('-')) e.invalid(here, quantity, 'must be greater than or equal to 0')
    }
  }
  for (const [name, request] of Object.entries(resources.requests ?? {})) {
    const limit = resources.limits?.[name]
    if (limit === undefined || limit === request || !isQuantity(limit) || !isQuantity(request)) continue
    if (compareQuantity(request, limit) > 0) {
      e.invalid(`${path}.requests`, request, `must be less than or equal to ${name} limit of ${limit}`)
    }
  }
}

const STANDARD_RESOURCES = /^(cpu|memory|ephemeral-storage|hugepages-.+)$/

const PROBE_NUMBERS = [
  'initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold',
] as const

function validateProbe(path: string, probe: Probe, field: string, e: FieldErrors): void {
  validateHandler(path, probe, e)
  for (const number of PROBE_NUMBERS) {
    e.notNegative(`${path}.${number}`, probe[number])
  }
  if (field !== 'readinessProbe' && (probe.successThreshold ?? 1) !== 1) {
    e.invalid(`${path}.successThreshold`, probe.successThreshold, 'must be 1')
  }
  if (probe.terminationGracePeriodSeconds !== undefined) {
    if (field === 'readinessProbe') {
      e.invalid(`${path}.terminationGracePeriodSeconds`, probe.terminationGracePeriodSeconds,
        'must not be set for readinessProbes')
    } else if (probe.terminationGracePeriodSeconds <= 0) {
      e.invalid(`${path}.terminationGracePeriodSeconds`, probe.terminationGracePeriodSeconds, 'must be greater than 0')
    }
  }
}

const HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc', 'sleep'] as const

function validateHandler(path: string, handler: ProbeHandler & LifecycleHandler, e: FieldErrors): void {
  let count = 0
  for (const name of HANDLERS) {
    if (handler[name] === undefined) continue
    if (++count > 1) e.forbidden(`${path}.${name}`, 'may not specify more than 1 handler type')
  }
  if (count === 0) e.required(path, 'must specify a handler type')
  if (handler.exec && !handler.exec.command?.length) e.required(`${path}.exec.command`)
  if (handler.httpGet) {
    if (!handler.httpGet.path) e.required(`${path}.httpGet.path`)
    validatePortRef(`${path}.httpGet.port`, handler.httpGet.port, e)
    e.oneOf(`${path}.httpGet.scheme`, handler.httpGet.scheme, ['HTTP', 'HTTPS'])
  }
  if (handler.tcpSocket) validatePortRef(`${path}.tcpSocket.port`, handler.tcpSocket.port, e)
  if (handler.grpc) e.port(`${path}.grpc.port`, handler.grpc.port)
}

/** A port by number or by name. */
export function validatePortRef(path: string, port: IntOrString | undefined, e: FieldErrors): void {
  if (typeof port === 'string') e.check(path, port, portName(port))
  else e.port(path, port)
}
