/** From v1beta1 to today's objects. Pure; see back.ts for the other way. */
import { ApiError, badRequest } from '../../core/errors.ts'
import type {
  ApiObject, Container, Endpoints, Node, ObjectMeta, Pod, PodSpec, Probe, ProbeHandler, ReplicationController, Service, ServicePort, Volume,
} from '../../core/types/index.ts'
import type {
  OldContainer, OldController, OldEndpoints, OldManifest, OldMinion, OldObject, OldPod, OldProbe, OldService, OldVolume,
} from './shapes.ts'

/** The id as it was written, where today's rules for names did not allow it. */
export const ORIGINAL_ID = 'v1beta1.gantry.dev/id'
/** A Service that did not say which port its Pods listen on; the front asks the Pods. */
export const UNSTATED_PORT = 'v1beta1.gantry.dev/unstated-port'

/** `frontendController` → `frontend-controller`: ids of the time were often in camel case. */
export function nameOf(id: string): string {
  return id.replace(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase().replace(/[^a-z0-9.-]+/g, '-').replace(/^[-.]+|[-.]+$/g, '')
}

/** Converts a file's object, or each item of a list. Throws BadRequest for what v1beta1 does not know. */
export function convertV1beta1(object: OldObject): ApiObject[] {
  const items = (object as { items?: OldObject[] }).items
  if (object.kind?.endsWith('List') === true || object.kind === 'Config' && Array.isArray(items)) {
    const kind = object.kind.replace(/List$/, '')
    return (items ?? []).flatMap((i) => convertV1beta1({ ...i, kind: i.kind ?? kind, apiVersion: i.apiVersion ?? object.apiVersion ?? 'v1beta1' }))
  }
  switch (object.kind) {
    case 'Pod': return [podOf(object)]
    case 'ReplicationController': return [controllerOf(object)]
    case 'Service': return [serviceOf(object)]
    case 'Endpoints': return [endpointsOf(object)]
    case 'Minion':
    case 'Node': return [nodeOf(object)]
    default: throw badRequest(`v1beta1 has no kind ${JSON.stringify(object.kind ?? '')} that can be created; known are Pod, ReplicationController, Service, Endpoints and Minion`)
  }
}

function metadataOf(o: OldObject, namespaced = true): ObjectMeta {
  if (typeof o.id !== 'string' || o.id === '') throw invalid(o, 'id', 'Required value')
  const name = nameOf(o.id)
  const annotations = { ...o.annotations, ...(name !== o.id && { [ORIGINAL_ID]: o.id }) }
  return {
    name,
    ...(namespaced && { namespace: o.namespace === undefined || o.namespace === '' ? 'default' : nameOf(o.namespace) }),
    ...(o.labels && { labels: o.labels }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
    ...(o.resourceVersion !== undefined && Number(o.resourceVersion) > 0 && { resourceVersion: String(o.resourceVersion) }),
    ...(o.uid !== undefined && o.uid !== '' && { uid: o.uid }),
  }
}

export function podOf(o: OldPod): Pod {
  const { host } = o.desiredState ?? {}
  return {
    apiVersion: 'v1', kind: 'Pod', metadata: metadataOf(o),
    spec: {
      ...podSpec(o, o.desiredState?.manifest, 'desiredState.manifest'),
      ...(o.nodeSelector && { nodeSelector: o.nodeSelector }),
      ...(o.serviceAccount !== undefined && { serviceAccountName: o.serviceAccount }),
      ...(host !== undefined && host !== '' && { nodeName: nameOf(host) }),
    },
  }
}

export function controllerOf(o: OldController): ReplicationController {
  const state = o.desiredState ?? {}
  const template = state.podTemplate
  const path = 'desiredState.podTemplate.desiredState.manifest'
  const labels = { ...state.labels, ...o.labels }
  return {
    apiVersion: 'v1', kind: 'ReplicationController',
    metadata: metadataOf({ ...o, ...(Object.keys(labels).length > 0 && { labels }) }),
    spec: {
      replicas: state.replicas ?? 0,
      ...((state.replicaSelector ?? template?.labels) && { selector: state.replicaSelector ?? template!.labels! }),
      template: {
        metadata: { ...(template?.labels && { labels: template.labels }), ...(template?.annotations && { annotations: template.annotations }) },
        spec: { ...podSpec(o, template?.desiredState?.manifest, path), ...(template?.nodeSelector && { nodeSelector: template.nodeSelector }) },
      },
    },
  }
}

export function serviceOf(o: OldService): Service {
  const old = o.ports !== undefined && o.ports.length > 0 ? o.ports
    : o.port !== undefined && o.port !== 0 ? [{ name: o.portName ?? '', protocol: o.protocol ?? 'TCP', port: o.port, ...(o.containerPort !== undefined && { containerPort: o.containerPort }) }] : []
  if (old.length === 0) throw invalid(o, 'port', 'Required value')
  const stated = (p: number | string | undefined): p is number | string => p !== undefined && p !== 0 && p !== ''
  const metadata = metadataOf(o)
  const unstated = old.filter((p) => !stated(p.containerPort)).map((p) => p.port)
  if (unstated.length > 0) metadata.annotations = { ...metadata.annotations, [UNSTATED_PORT]: unstated.join(',') }
  return {
    apiVersion: 'v1', kind: 'Service', metadata,
    spec: {
      ports: old.map((p): ServicePort => ({
        ...(p.name !== undefined && p.name !== '' && { name: p.name }),
        protocol: protocolOf(p.protocol),
        port: p.port,
        ...(stated(p.containerPort) && { targetPort: p.containerPort }),
      })),
      ...(o.selector && { selector: o.selector }),
      ...(o.portalIP !== undefined && o.portalIP !== '' && { clusterIP: o.portalIP }),
      ...(o.publicIPs && o.publicIPs.length > 0 && { externalIPs: o.publicIPs }),
      type: o.createExternalLoadBalancer === true ? 'LoadBalancer' : 'ClusterIP',
      ...(o.sessionAffinity !== undefined && o.sessionAffinity !== '' && { sessionAffinity: o.sessionAffinity === 'ClientIP' ? 'ClientIP' as const : 'None' as const }),
    },
  }
}

export function endpointsOf(o: OldEndpoints): Endpoints {
  const byPort = new Map<number, { ip: string }[]>()
  for (const text of o.endpoints ?? []) {
    const colon = text.lastIndexOf(':')
    const port = Number(text.slice(colon + 1))
    if (colon <= 0 || !Number.isInteger(port) || port < 1 || port > 65535) throw invalid(o, 'endpoints', `Invalid value: ${JSON.stringify(text)}: must be ip:port`)
    byPort.set(port, [...byPort.get(port) ?? [], { ip: text.slice(0, colon) }])
  }
  return {
    apiVersion: 'v1', kind: 'Endpoints', metadata: metadataOf(o),
    subsets: [...byPort].map(([port, addresses]) => ({ addresses, ports: [{ port, protocol: protocolOf(o.protocol) }] })),
  }
}

export function nodeOf(o: OldMinion): Node {
  const capacity: Record<string, string> = {}
  for (const [name, v] of Object.entries(o.resources?.capacity ?? {})) capacity[name] = name === 'cpu' && typeof v === 'number' ? `${v}m` : String(v)
  return {
    apiVersion: 'v1', kind: 'Node', metadata: metadataOf(o, false), spec: {},
    status: {
      ...(Object.keys(capacity).length > 0 && { capacity, allocatable: capacity }),
      ...(o.hostIP !== undefined && o.hostIP !== '' && { addresses: [{ type: 'InternalIP' as const, address: o.hostIP }] }),
    },
  }
}

function podSpec(o: OldObject, m: OldManifest | undefined, path: string): PodSpec {
  if (m === undefined || !Array.isArray(m.containers) || m.containers.length === 0) throw invalid(o, `${path}.containers`, 'Required value')
  return {
    containers: m.containers.map(containerOf),
    ...(m.volumes && m.volumes.length > 0 && { volumes: m.volumes.map((v) => volumeOf(o, v)) }),
    restartPolicy: restartPolicyOf(m.restartPolicy),
    ...(m.dnsPolicy !== undefined && m.dnsPolicy !== '' && { dnsPolicy: m.dnsPolicy as NonNullable<PodSpec['dnsPolicy']> }),
    ...(m.hostNetwork !== undefined && { hostNetwork: m.hostNetwork }),
    ...(m.terminationGracePeriodSeconds !== undefined && { terminationGracePeriodSeconds: m.terminationGracePeriodSeconds }),
    ...(m.activeDeadlineSeconds !== undefined && { activeDeadlineSeconds: m.activeDeadlineSeconds }),
  }
}

function restartPolicyOf(p: OldManifest['restartPolicy']): 'Always' | 'OnFailure' | 'Never' {
  if (typeof p === 'string') return p.toLowerCase() === 'never' ? 'Never' : p.toLowerCase() === 'onfailure' ? 'OnFailure' : 'Always'
  return p?.never ? 'Never' : p?.onFailure ? 'OnFailure' : 'Always'
}

/** `command` was the image's command (today's args); `entrypoint` its entry point (today's command). */
function containerOf(c: OldContainer): Container {
  const limits: Record<string, string> = {}
  for (const [k, v] of Object.entries(c.resources?.limits ?? {})) limits[k] = String(v)
  if (c.cpu !== undefined && c.cpu > 0) limits['cpu'] = `${c.cpu}m`
  if (c.memory !== undefined && c.memory > 0) limits['memory'] = String(c.memory)
  const requests = Object.fromEntries(Object.entries(c.resources?.requests ?? {}).map(([k, v]) => [k, String(v)]))
  const pull: Record<string, Container['imagePullPolicy']> = {
    PullAlways: 'Always', PullNever: 'Never', PullIfNotPresent: 'IfNotPresent', Always: 'Always', Never: 'Never', IfNotPresent: 'IfNotPresent',
  }
  const imagePullPolicy = c.imagePullPolicy === undefined ? undefined : pull[c.imagePullPolicy]
  return {
    name: c.name, image: c.image,
    ...(c.entrypoint && { command: c.entrypoint }),
    ...(c.command && { args: c.command }),
    ...(c.workingDir !== undefined && c.workingDir !== '' && { workingDir: c.workingDir }),
    ...(c.ports && {
      ports: c.ports.map((p) => ({
        containerPort: p.containerPort, protocol: protocolOf(p.protocol),
        ...(p.name !== undefined && p.name !== '' && { name: p.name }),
        ...(p.hostPort !== undefined && p.hostPort > 0 && { hostPort: p.hostPort }),
        ...(p.hostIP !== undefined && p.hostIP !== '' && { hostIP: p.hostIP }),
      })),
    }),
    ...(c.env && { env: c.env.map((e) => ({ name: e.name ?? e.key ?? '', value: e.value ?? '' })) }),
    ...((Object.keys(limits).length > 0 || Object.keys(requests).length > 0) && {
      resources: { ...(Object.keys(limits).length > 0 && { limits }), ...(Object.keys(requests).length > 0 && { requests }) },
    }),
    ...(c.volumeMounts && {
      volumeMounts: c.volumeMounts.map((v) => ({ name: v.name, mountPath: v.mountPath ?? v.path ?? '', ...(v.readOnly === true && { readOnly: true }) })),
    }),
    ...(c.livenessProbe && { livenessProbe: probeOf(c.livenessProbe) }),
    ...(c.readinessProbe && { readinessProbe: probeOf(c.readinessProbe) }),
    ...(c.lifecycle && { lifecycle: lifecycleOf(c.lifecycle) }),
    ...(imagePullPolicy !== undefined && { imagePullPolicy }),
    ...((c.privileged === true || c.capabilities !== undefined) && {
      securityContext: { ...(c.privileged === true && { privileged: true }), ...(c.capabilities && { capabilities: c.capabilities }) },
    }),
    ...(c.terminationMessagePath !== undefined && c.terminationMessagePath !== '' && { terminationMessagePath: c.terminationMessagePath }),
  }
}

/** Ports were often strings of digits. */
function portOf(p: number | string | undefined): number | string {
  return typeof p === 'string' && /^\d+$/.test(p) ? Number(p) : p ?? ''
}

function handlerOf(p: OldProbe): ProbeHandler {
  return {
    ...(p.httpGet && { httpGet: { path: p.httpGet.path ?? '/', port: portOf(p.httpGet.port), ...(p.httpGet.host !== undefined && p.httpGet.host !== '' && { host: p.httpGet.host }) } }),
    ...(p.tcpSocket && { tcpSocket: { port: portOf(p.tcpSocket.port) } }),
    ...(p.exec && { exec: { command: p.exec.command ?? [] } }),
  }
}

function probeOf(p: OldProbe): Probe {
  return {
    ...handlerOf(p),
    ...(p.initialDelaySeconds !== undefined && { initialDelaySeconds: p.initialDelaySeconds }),
    ...(p.timeoutSeconds !== undefined && p.timeoutSeconds > 0 && { timeoutSeconds: p.timeoutSeconds }),
  }
}

function lifecycleOf(l: NonNullable<OldContainer['lifecycle']>): NonNullable<Container['lifecycle']> {
  return { ...(l.postStart && { postStart: handlerOf(l.postStart) }), ...(l.preStop && { preStop: handlerOf(l.preStop) }) }
}

function volumeOf(o: OldObject, v: OldVolume): Volume {
  const s = v.source
  if (s?.hostDir) return { name: v.name, hostPath: { path: s.hostDir.path } }
  if (s?.secret) return { name: v.name, secret: { secretName: s.secret.secretName ?? s.secret.target?.name ?? '' } }
  if (s?.persistentVolumeClaim) return { name: v.name, persistentVolumeClaim: s.persistentVolumeClaim }
  const other = Object.entries(s ?? {}).find(([k, x]) => k !== 'emptyDir' && x !== null && x !== undefined)
  if (other !== undefined) throw invalid(o, `volumes[${v.name}].source`, `Unsupported value: ${JSON.stringify(other[0])}: supported are emptyDir, hostDir, secret, persistentVolumeClaim`)
  return { name: v.name, emptyDir: {} }
}

function protocolOf(p: string | undefined): 'TCP' | 'UDP' | 'SCTP' {
  const upper = p?.toUpperCase()
  return upper === 'UDP' || upper === 'SCTP' ? upper : 'TCP'
}

function invalid(o: OldObject, field: string, why: string): ApiError {
  const name = o.id ?? ''
  return new ApiError('Invalid', `${o.kind} ${JSON.stringify(name)} is invalid: ${field}: ${why}`, { name, ...(o.kind !== undefined && { kind: o.kind }), causes: [{ field, message: why }] })
}
