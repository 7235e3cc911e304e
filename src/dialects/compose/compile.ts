/** A Compose service as core objects: what runs it, the names it is found by, the routes to its published ports. Pure. */
import type {
  ApiObject, ComposeProject, ComposeService, Container, Deployment, OwnerReference, Pod, PodSpec, Probe, Route, Service, Volume, VolumeMount,
} from '../../core/types/index.ts'

export interface Compiled { workload: Deployment | Pod; services: Service[]; routes: Route[] }

export interface CompileOptions {
  /** Folder below which named volumes live on the nodes. */
  volumesDir: string
}

/** Labels of everything made for a service; docker-compose's own, so that its read-only commands recognise it. */
export function labelsOf(project: string, service: string): Record<string, string> {
  return { 'com.docker.compose.project': project, 'com.docker.compose.service': service }
}

/** Object names are DNS labels; service names of Compose may hold capitals, dots and underscores. */
export function objectName(service: string): string { return service.toLowerCase().replace(/[._]/g, '-') }

/** True if the service runs once: another one waits for its success. */
export function runsOnce(project: ComposeProject, service: string): boolean {
  return Object.values(project.spec.services).some(s => s.dependsOn?.[service] === 'service_completed_successfully')
}

export function compileService(project: ComposeProject, name: string, o: CompileOptions): Compiled {
  const s = project.spec.services[name]!
  const labels = labelsOf(project.metadata.name, name)
  const meta = (objectName: string) => ({
    name: objectName, namespace: project.metadata.namespace!, ownerReferences: [ownerOf(project)],
    labels: { ...s.labels && validLabels(s.labels), ...labels },
  })
  const once = runsOnce(project, name)
  const template = podSpec(project, name, s, once, o)
  const workload: Deployment | Pod = once
    ? { apiVersion: 'v1', kind: 'Pod', metadata: meta(`${objectName(name)}-1`), spec: template }
    : {
        apiVersion: 'apps/v1', kind: 'Deployment', metadata: meta(objectName(name)),
        spec: {
          replicas: s.scale ?? 1, selector: { matchLabels: labels },
          // Compose stops the old container before the new one: two must not share files, nor could they a node's port.
          strategy: (s.volumes ?? []).some(v => v.type === 'volume') || (s.ports ?? []).some(port => port.protocol === 'udp') ? { type: 'Recreate' } : { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          template: { metadata: { labels: meta('').labels }, spec: template },
        },
      }
  return {
    workload,
    services: namesOf(project, name).map(alias => ({
      apiVersion: 'v1', kind: 'Service', metadata: meta(alias),
      // Headless: the name leads straight to the instances, on any port, healthy or not, as in a Compose network.
      spec: { clusterIP: 'None', selector: labels, publishNotReadyAddresses: true },
    })),
    routes: (s.ports ?? []).filter(p => p.protocol === 'tcp').map(p => ({
      apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: meta(`${objectName(name)}-${p.published}`),
      spec: { tcpPort: p.published, backend: { selector: { matchLabels: labels }, port: p.target } },
    })),
  }
}

/** The service's own name, and every alias another service links it under. */
function namesOf(project: ComposeProject, name: string): string[] {
  const names = new Set([objectName(name)])
  for (const s of Object.values(project.spec.services)) {
    for (const [alias, target] of Object.entries(s.links ?? {})) if (target === name && project.spec.services[alias] === undefined) names.add(objectName(alias))
  }
  return [...names]
}

function ownerOf(p: ComposeProject): OwnerReference {
  return { apiVersion: p.apiVersion, kind: p.kind, name: p.metadata.name, uid: p.metadata.uid!, controller: true, blockOwnerDeletion: true }
}

/** Only what is a Kubernetes label too; Compose's labels may hold anything. */
function validLabels(all: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(all).filter(([k, v]) =>
    /^([a-z0-9.-]{1,253}\/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/.test(k) && /^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$/.test(v)))
}

function podSpec(project: ComposeProject, name: string, s: ComposeService, once: boolean, o: CompileOptions): PodSpec {
  const volumes: Volume[] = []
  const mounts: VolumeMount[] = []
  for (const [i, v] of (s.volumes ?? []).entries()) {
    const id = `v${i}`
    if (v.type === 'bind') volumes.push({ name: id, hostPath: { path: v.source!, type: 'DirectoryOrCreate' } })
    else if (v.type === 'tmpfs') volumes.push({ name: id, emptyDir: { medium: 'Memory' } })
    else if (v.source === undefined) volumes.push({ name: id, emptyDir: {} })
    else volumes.push({ name: id, hostPath: { path: `${o.volumesDir}/${project.metadata.namespace}/${project.metadata.name}/${v.source}`, type: 'DirectoryOrCreate' } })
    mounts.push({ name: id, mountPath: v.target, ...(v.readOnly && { readOnly: true }) })
  }
  const limits = { ...(s.cpuMilli !== undefined && { cpu: `${s.cpuMilli}m` }), ...(s.memoryBytes !== undefined && { memory: String(s.memoryBytes) }) }
  const [uid, gid] = (s.user ?? '').split(':')
  const security: Container['securityContext'] = {
    ...(s.privileged && { privileged: true }), ...(s.readOnly && { readOnlyRootFilesystem: true }),
    ...(/^\d+$/.test(uid!) && { runAsUser: Number(uid) }), ...(/^\d+$/.test(gid ?? '') && { runAsGroup: Number(gid) }),
    ...((s.capAdd ?? s.capDrop) !== undefined && { capabilities: { ...(s.capAdd && { add: s.capAdd }), ...(s.capDrop && { drop: s.capDrop }) } }),
  }
  const ports = new Map<string, { containerPort: number; protocol: 'TCP' | 'UDP'; hostPort?: number }>()
  for (const p of s.expose ?? []) ports.set(`${p}/TCP`, { containerPort: p, protocol: 'TCP' })
  for (const p of s.ports ?? []) {
    // The router carries TCP only: a UDP port is published by the node itself.
    ports.set(`${p.target}/${p.protocol}`, { containerPort: p.target, protocol: p.protocol === 'udp' ? 'UDP' : 'TCP', ...(p.protocol === 'udp' && { hostPort: p.published }) })
  }
  const container: Container = {
    name: objectName(name), image: s.image, imagePullPolicy: 'IfNotPresent',
    ...(s.entrypoint && { command: s.entrypoint }), ...(s.command && { args: s.command }),
    ...(s.environment && { env: Object.entries(s.environment).map(([n, value]) => ({ name: n, value: value.replaceAll('$(', '$$(') })) }),
    ...(s.workingDir !== undefined && { workingDir: s.workingDir }),
    ...(ports.size > 0 && { ports: [...ports.values()] }), ...(mounts.length > 0 && { volumeMounts: mounts }),
    ...(Object.keys(limits).length > 0 && { resources: { limits, requests: limits } }),
    ...(Object.keys(security).length > 0 && { securityContext: security }),
    ...(s.tty && { tty: true }), ...(s.stdinOpen && { stdin: true }),
    ...(s.healthcheck && { readinessProbe: probeOf(s.healthcheck) }),
  }
  return {
    containers: [container], ...(volumes.length > 0 && { volumes }),
    restartPolicy: once ? (s.restart === undefined || s.restart === 'no' ? 'Never' : 'OnFailure') : 'Always',
    terminationGracePeriodSeconds: Math.ceil((s.stopGraceMs ?? 10_000) / 1000),
    ...(s.hostname !== undefined && { hostname: s.hostname }),
    enableServiceLinks: false, automountServiceAccountToken: false,
  }
}

function probeOf(h: NonNullable<ComposeService['healthcheck']>): Probe {
  const seconds = (ms: number | undefined, fallback: number) => Math.max(1, Math.ceil((ms ?? fallback) / 1000))
  return {
    exec: { command: h.test }, periodSeconds: seconds(h.intervalMs, 30_000), timeoutSeconds: seconds(h.timeoutMs, 30_000),
    failureThreshold: h.retries ?? 3, ...(h.startPeriodMs !== undefined && { initialDelaySeconds: Math.ceil(h.startPeriodMs / 1000) }),
  }
}

/** All objects of one service, for comparing with what is there. */
export function objectsOf(c: Compiled): ApiObject[] { return [c.workload, ...c.services, ...c.routes] }
