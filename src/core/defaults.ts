/** What Kubernetes fills into objects that leave it out, by kind. Each function changes the object it is given. */
import { canonical } from './quantity.ts'
import type {
  Container, Deployment, EndpointSlice, Endpoints, HttpGetAction, LifecycleHandler, Pod, PodSpec, PodTemplateSpec, Probe,
  ReplicaSet, ReplicationController, RoleBinding, Route, Secret, Service, Volume,
} from './types/index.ts'

const FILE_MODE = 0o644
const RBAC_GROUP = 'rbac.authorization.k8s.io'
/** The two classes that exist without a PriorityClass object. */
export const SYSTEM_PRIORITIES: Readonly<Record<string, number>> = {
  'system-cluster-critical': 2_000_000_000, 'system-node-critical': 2_000_001_000,
}

/** The tag `latest`, or none, means that the image may change behind its name. A digest pins it. */
function pullPolicyOf(image: string | undefined): 'Always' | 'IfNotPresent' {
  if (image === undefined || image.includes('@')) return 'IfNotPresent'
  const colon = image.indexOf(':', image.lastIndexOf('/') + 1)
  return colon === -1 || image.slice(colon + 1) === 'latest' ? 'Always' : 'IfNotPresent'
}

function defaultHttpGet(get: HttpGetAction): void {
  get.path ||= '/'
  get.scheme ||= 'HTTP'
}

function defaultProbe(probe: Probe | undefined): void {
  if (!probe) return
  if (probe.httpGet) defaultHttpGet(probe.httpGet)
  if (probe.grpc) probe.grpc.service ??= ''
  probe.timeoutSeconds ||= 1
  probe.periodSeconds ||= 10
  probe.successThreshold ||= 1
  probe.failureThreshold ||= 3
}

function defaultHandler(handler: LifecycleHandler | undefined): void {
  if (handler?.httpGet) defaultHttpGet(handler.httpGet)
}

function canonicalQuantities(quantities: Record<string, string> | undefined): void {
  for (const name in quantities) {
    const text = quantities[name] as string
    try {
      const c = canonical(text)
      if (c !== text) quantities[name] = c
    } catch {
      // Left as it is: validation names the field.
    }
  }
}

function defaultContainer(container: Container, hostNetwork: boolean): void {
  container.imagePullPolicy ||= pullPolicyOf(container.image)
  container.terminationMessagePath ||= '/dev/termination-log'
  container.terminationMessagePolicy ||= 'File'
  container.resources ??= {}
  canonicalQuantities(container.resources.limits)
  canonicalQuantities(container.resources.requests)
  for (const port of container.ports ?? []) {
    port.protocol ||= 'TCP'
    if (hostNetwork) port.hostPort ||= port.containerPort
  }
  for (const env of container.env ?? []) {
    if (env.valueFrom?.fieldRef) env.valueFrom.fieldRef.apiVersion ||= 'v1'
  }
  defaultProbe(container.livenessProbe)
  defaultProbe(container.readinessProbe)
  defaultProbe(container.startupProbe)
  defaultHandler(container.lifecycle?.postStart)
  defaultHandler(container.lifecycle?.preStop)
}

const PLAIN_VOLUME_FIELDS = new Set(['name'])

function defaultVolume(volume: Volume): void {
  if (volume.secret) volume.secret.defaultMode ??= FILE_MODE
  else if (volume.configMap) volume.configMap.defaultMode ??= FILE_MODE
  else if (volume.downwardAPI) volume.downwardAPI.defaultMode ??= FILE_MODE
  else if (volume.hostPath) volume.hostPath.type ??= ''
  else if (volume.projected) {
    volume.projected.defaultMode ??= FILE_MODE
    for (const source of volume.projected.sources ?? []) {
      if (source.serviceAccountToken) source.serviceAccountToken.expirationSeconds ??= 3600
    }
  } else if (volume.emptyDir?.sizeLimit !== undefined) canonicalQuantities(volume.emptyDir as Record<'sizeLimit', string>)
  else if (Object.keys(volume).every(field => PLAIN_VOLUME_FIELDS.has(field))) volume.emptyDir = {}
}

export function defaultPodSpec(spec: PodSpec): void {
  spec.restartPolicy ||= 'Always'
  spec.dnsPolicy ||= 'ClusterFirst'
  spec.terminationGracePeriodSeconds ??= 30
  spec.schedulerName ||= 'default-scheduler'
  spec.securityContext ??= {}
  const legacy = spec as PodSpec & { serviceAccount?: string }
  if (legacy.serviceAccount) spec.serviceAccountName ||= legacy.serviceAccount
  const hostNetwork = spec.hostNetwork === true
  for (const container of spec.initContainers ?? []) defaultContainer(container, hostNetwork)
  for (const container of spec.containers ?? []) defaultContainer(container, hostNetwork)
  for (const volume of spec.volumes ?? []) defaultVolume(volume)
  canonicalQuantities(spec.overhead)
}

/** What holds for Pods but not for the templates they come from. */
export function defaultPod(pod: Pod): void {
  const { spec } = pod
  if (!spec) return
  defaultPodSpec(spec)
  spec.enableServiceLinks ??= true
  spec.serviceAccountName ||= 'default'
  spec.priority ??= SYSTEM_PRIORITIES[spec.priorityClassName ?? ''] ?? 0
  spec.preemptionPolicy ??= 'PreemptLowerPriority'
  for (const container of spec.initContainers ?? []) requestsFromLimits(container)
  for (const container of spec.containers ?? []) requestsFromLimits(container)
}

function requestsFromLimits(container: Container): void {
  const resources = container.resources
  if (!resources?.limits) return
  resources.requests ??= {}
  for (const name in resources.limits) resources.requests[name] ??= resources.limits[name] as string
}

function defaultTemplate(template: PodTemplateSpec | undefined): void {
  if (template?.spec) defaultPodSpec(template.spec)
}

export function defaultDeployment(d: Deployment): void {
  const { spec } = d
  if (!spec) return
  spec.replicas ??= 1
  spec.revisionHistoryLimit ??= 10
  spec.progressDeadlineSeconds ??= 600
  spec.strategy ??= {}
  spec.strategy.type ||= 'RollingUpdate'
  if (spec.strategy.type === 'RollingUpdate') {
    spec.strategy.rollingUpdate ??= {}
    spec.strategy.rollingUpdate.maxUnavailable ??= '25%'
    spec.strategy.rollingUpdate.maxSurge ??= '25%'
  }
  defaultTemplate(spec.template)
}

export function defaultReplicaSet(rs: ReplicaSet): void {
  if (!rs.spec) return
  rs.spec.replicas ??= 1
  defaultTemplate(rs.spec.template)
}

export function defaultReplicationController(rc: ReplicationController): void {
  const { spec } = rc
  if (!spec) return
  spec.replicas ??= 1
  const labels = spec.template?.metadata?.labels
  if (labels && Object.keys(labels).length > 0) {
    if (!spec.selector || Object.keys(spec.selector).length === 0) spec.selector = { ...labels }
    if (!rc.metadata.labels || Object.keys(rc.metadata.labels).length === 0) rc.metadata.labels = { ...labels }
  }
  defaultTemplate(spec.template)
}

export function defaultService(s: Service): void {
  const { spec } = s
  if (!spec) return
  spec.type ||= 'ClusterIP'
  spec.sessionAffinity ||= 'None'
  if (spec.sessionAffinity === 'ClientIP') {
    spec.sessionAffinityConfig ??= {}
    spec.sessionAffinityConfig.clientIP ??= {}
    spec.sessionAffinityConfig.clientIP.timeoutSeconds ??= 10_800
  }
  for (const port of spec.ports ?? []) {
    port.protocol ||= 'TCP'
    port.targetPort ||= port.port
  }
  if (spec.type === 'ExternalName') return
  spec.internalTrafficPolicy ||= 'Cluster'
  if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') spec.externalTrafficPolicy ||= 'Cluster'
  if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true
}

export function defaultSecret(s: Secret): void { s.type ||= 'Opaque' }

export function defaultEndpoints(e: Endpoints): void {
  for (const subset of e.subsets ?? []) for (const port of subset.ports ?? []) port.protocol ||= 'TCP'
}

export function defaultEndpointSlice(s: EndpointSlice): void {
  for (const port of s.ports ?? []) {
    port.name ??= ''
    port.protocol ||= 'TCP'
  }
}

export function defaultRoleBinding(b: RoleBinding): void {
  if (b.roleRef) b.roleRef.apiGroup ||= RBAC_GROUP
  for (const subject of b.subjects ?? []) {
    if (subject.kind === 'User' || subject.kind === 'Group') subject.apiGroup ||= RBAC_GROUP
  }
}

export function defaultRoute(r: Route): void {
  if (r.spec?.host !== undefined && r.spec.tcpPort === undefined) r.spec.path ||= '/'
}
