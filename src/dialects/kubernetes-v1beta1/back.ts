/** From today's objects to v1beta1. Pure. */
import type { ApiError } from '../../core/errors.ts'
import type { ApiObject, Container, Endpoints, Event, Node, Pod, PodSpec, Probe, ReplicationController, Service, Volume } from '../../core/types/index.ts'
import { ORIGINAL_ID, UNSTATED_PORT } from './convert.ts'

export type Old = Record<string, unknown>

/** Members whose value is undefined are left out when this is written as JSON. */
function metadata(kind: string, resource: string, o: ApiObject): Old {
  const { name, namespace, uid, creationTimestamp, resourceVersion, labels } = o.metadata
  const { [ORIGINAL_ID]: id = name, [UNSTATED_PORT]: _, ...annotations } = o.metadata.annotations ?? {}
  const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`
  return {
    kind, apiVersion: 'v1beta1', id, uid, creationTimestamp, namespace, labels,
    selfLink: `/api/v1beta1/${resource}/${encodeURIComponent(name)}${query}`,
    resourceVersion: Number(resourceVersion ?? 0),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  }
}

export function oldPod(p: Pod): Old {
  return {
    ...metadata('Pod', 'pods', p),
    desiredState: { manifest: manifest(p.metadata.name, p.metadata.uid, p.spec), ...(p.spec.nodeName !== undefined && { host: p.spec.nodeName }) },
    currentState: podState(p),
    nodeSelector: p.spec.nodeSelector,
    serviceAccount: p.spec.serviceAccountName,
  }
}

const PHASES: Record<string, string> = { Pending: 'Waiting', Running: 'Running', Succeeded: 'Succeeded', Failed: 'Failed', Unknown: 'Unknown' }
const FULL: Record<string, string> = { True: 'Full', False: 'None', Unknown: 'Unknown' }

function podState(p: Pod): Old {
  const info: Old = {}
  for (const s of p.status?.containerStatuses ?? []) {
    const state = (x: typeof s.state) => x && { waiting: x.waiting, running: x.running, termination: x.terminated }
    info[s.name] = {
      state: state(s.state), lastState: state(s.lastState), ready: s.ready, restartCount: s.restartCount,
      image: s.image, imageID: s.imageID, containerID: s.containerID,
    }
  }
  return {
    manifest: { version: '', id: '', volumes: null, containers: null, restartPolicy: {} },
    status: PHASES[p.status?.phase ?? 'Pending'] ?? 'Unknown',
    Condition: (p.status?.conditions ?? []).map((c) => ({ kind: c.type, status: FULL[c.status] })),
    message: p.status?.message, host: p.spec.nodeName, hostIP: p.status?.hostIP, podIP: p.status?.podIP,
    ...(Object.keys(info).length > 0 && { info }),
  }
}

export function oldController(rc: ReplicationController): Old {
  const { template } = rc.spec
  return {
    ...metadata('ReplicationController', 'replicationControllers', rc),
    desiredState: {
      replicas: rc.spec.replicas ?? 1,
      replicaSelector: rc.spec.selector,
      podTemplate: template && {
        desiredState: { manifest: manifest('', undefined, template.spec) },
        labels: template.metadata?.labels, annotations: template.metadata?.annotations, nodeSelector: template.spec.nodeSelector,
      },
    },
    currentState: { replicas: rc.status?.replicas ?? 0, podTemplate: { desiredState: { manifest: { version: '', id: '', volumes: null, containers: null, restartPolicy: {} } } } },
  }
}

export function oldService(s: Service): Old {
  const ports = (s.spec.ports ?? []).map((p) => ({ name: p.name ?? '', protocol: p.protocol ?? 'TCP', port: p.port, containerPort: p.targetPort ?? p.port }))
  const [first] = ports
  return {
    ...metadata('Service', 'services', s),
    port: first?.port ?? 0, protocol: first?.protocol, portName: first?.name, containerPort: first?.containerPort, ports,
    selector: s.spec.selector ?? null, portalIP: s.spec.clusterIP, publicIPs: s.spec.externalIPs,
    createExternalLoadBalancer: s.spec.type === 'LoadBalancer', sessionAffinity: s.spec.sessionAffinity ?? 'None',
  }
}

export function oldEndpoints(e: Endpoints): Old {
  const list = (e.subsets ?? []).flatMap((s) => (s.ports ?? []).flatMap((p) => (s.addresses ?? []).map((a) => `${a.ip}:${p.port}`)))
  return { ...metadata('Endpoints', 'endpoints', e), endpoints: list, protocol: e.subsets?.[0]?.ports?.[0]?.protocol ?? 'TCP' }
}

export function oldMinion(n: Node): Old {
  const capacity: Old = {}
  for (const [k, v] of Object.entries(n.status?.capacity ?? {})) capacity[k] = /^\d+$/.test(v) && k !== 'cpu' ? Number(v) : v
  return {
    ...metadata('Minion', 'minions', n),
    hostIP: n.status?.addresses?.find((a) => a.type === 'InternalIP')?.address, resources: { capacity },
    status: { conditions: (n.status?.conditions ?? []).map((c) => ({ kind: c.type, status: FULL[c.status], reason: c.reason, message: c.message })) },
  }
}

export function oldEvent(e: Event): Old {
  return {
    ...metadata('Event', 'events', e),
    involvedObject: { kind: e.involvedObject.kind, namespace: e.involvedObject.namespace, name: e.involvedObject.name, uid: e.involvedObject.uid, apiVersion: 'v1beta1' },
    reason: e.reason, message: e.message, source: e.source?.component, host: e.source?.host, timestamp: e.lastTimestamp, count: e.count,
  }
}

/** Failures in the Status of the time. */
export function oldStatus(e: ApiError): Old {
  const { reason, message, code, details } = e
  return {
    kind: 'Status', creationTimestamp: null, apiVersion: 'v1beta1', status: 'Failure', message, reason, code,
    ...(details && { details: { id: details.name, kind: details.kind, causes: details.causes } }),
  }
}

function manifest(id: string, uuid: string | undefined, spec: PodSpec): Old {
  const policy = spec.restartPolicy ?? 'Always'
  return {
    version: 'v1beta2', id, uuid, volumes: spec.volumes?.map(volume) ?? null, containers: spec.containers.map(container),
    restartPolicy: policy === 'Never' ? { never: {} } : policy === 'OnFailure' ? { onFailure: {} } : { always: {} },
    dnsPolicy: spec.dnsPolicy, hostNetwork: spec.hostNetwork,
  }
}

const PULL = { Always: 'PullAlways', Never: 'PullNever', IfNotPresent: 'PullIfNotPresent' } as const

function container(c: Container): Old {
  const { limits = {} } = c.resources ?? {}
  const memory = Number(limits['memory'])
  const cpu = /^(\d+)m$/.exec(limits['cpu'] ?? '')
  return {
    name: c.name, image: c.image, command: c.args, entrypoint: c.command, workingDir: c.workingDir, ports: c.ports,
    env: c.env?.map((e) => ({ name: e.name, key: e.name, value: e.value ?? '' })),
    ...(cpu !== null ? { cpu: Number(cpu[1]) } : /^\d+$/.test(limits['cpu'] ?? '') && { cpu: Number(limits['cpu']) * 1000 }),
    ...(Number.isFinite(memory) && { memory }),
    resources: c.resources ?? {},
    volumeMounts: c.volumeMounts?.map((v) => ({ name: v.name, mountPath: v.mountPath, path: v.mountPath, readOnly: v.readOnly })),
    livenessProbe: c.livenessProbe && probe(c.livenessProbe), readinessProbe: c.readinessProbe && probe(c.readinessProbe),
    lifecycle: c.lifecycle, terminationMessagePath: c.terminationMessagePath,
    privileged: c.securityContext?.privileged, capabilities: c.securityContext?.capabilities ?? {},
    imagePullPolicy: c.imagePullPolicy && PULL[c.imagePullPolicy],
  }
}

function probe({ httpGet, tcpSocket, exec, initialDelaySeconds, timeoutSeconds }: Probe): Old {
  return { httpGet, tcpSocket, exec, initialDelaySeconds, timeoutSeconds }
}

function volume(v: Volume): Old {
  const source = v.hostPath !== undefined ? { hostDir: { path: v.hostPath.path } }
    : v.secret !== undefined ? { secret: { target: { kind: 'Secret', name: v.secret.secretName } } }
      : v.persistentVolumeClaim !== undefined ? { persistentVolumeClaim: v.persistentVolumeClaim } : { emptyDir: {} }
  return { name: v.name, source }
}
