/** The tables `kubectl get` prints: columns and cells per kind, as Kubernetes' API server renders them. */
import type { Kind } from './kinds.ts'
import { formatLabelSelector } from './selectors.ts'
import type {
  ApiObject, ClusterRoleBinding, ComposeProject, ConfigMap, Container, Deployment, Endpoints, EndpointSlice, Event, Lease,
  Machine, Namespace, Node, Pod, PodSpec, ReplicaSet, ReplicationController, RoleBinding, Route, Secret, Service, ServiceAccount,
} from './types/index.ts'
import { podStatus } from './pod-status.ts'

export interface TableColumn {
  name: string
  type: 'string' | 'integer' | 'date'
  format: '' | 'name'
  description: string
  /** 1: shown by `-o wide` only. */
  priority: 0 | 1
}

export type Cell = string | number

interface Printer<T> {
  columns: TableColumn[]
  cells: (object: T, now: Date) => Cell[]
}

/** `Name Ready | IP Node`: what stands after the bar is for `-o wide`; `#` marks numbers, `_` a space in a name. */
function columns(text: string): TableColumn[] {
  const [shown = '', wide = ''] = text.split('|')
  const parse = (names: string, priority: 0 | 1): TableColumn[] => names.trim().split(/\s+/).filter(n => n !== '').map(raw => {
    const name = raw.replace('#', '').replaceAll('_', ' ')
    return {
      name, type: raw.startsWith('#') ? 'integer' : 'string', format: name === 'Name' ? 'name' : '',
      description: DESCRIPTIONS[name] ?? `${name} of the object.`, priority,
    }
  })
  return [...parse(shown, 0), ...parse(wide, 1)]
}

const DESCRIPTIONS: Record<string, string> = {
  Name: 'Name of the object, unique in its namespace.',
  Age: 'Time since the object was created.',
}

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** A duration as kubectl shows it: two units while they matter (`5m30s`, `3d4h`, `2y40d`). */
export function shortDuration(ms: number): string {
  const two = (big: number, bigUnit: string, small: number, smallUnit: string): string => {
    const rest = Math.floor((ms % big) / small)
    return `${Math.floor(ms / big)}${bigUnit}${rest === 0 ? '' : `${rest}${smallUnit}`}`
  }
  if (ms < -SECOND) return '<invalid>'
  if (ms < 0) return '0s'
  if (ms < 2 * MINUTE) return `${Math.floor(ms / SECOND)}s`
  if (ms < 10 * MINUTE) return two(MINUTE, 'm', SECOND, 's')
  if (ms < 3 * HOUR) return `${Math.floor(ms / MINUTE)}m`
  if (ms < 8 * HOUR) return two(HOUR, 'h', MINUTE, 'm')
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)}h`
  if (ms < 8 * DAY) return two(DAY, 'd', HOUR, 'h')
  if (ms < 2 * 365 * DAY) return `${Math.floor(ms / DAY)}d`
  if (ms < 8 * 365 * DAY) return two(365 * DAY, 'y', DAY, 'd')
  return `${Math.floor(ms / (365 * DAY))}y`
}

/** Time since `time`, or `<unknown>`. */
export function age(time: string | null | undefined, now: Date): string {
  const then = time ? Date.parse(time) : Number.NaN
  return Number.isNaN(then) ? '<unknown>' : shortDuration(now.getTime() - then)
}

const orNone = (text: string | undefined): string => text === undefined || text === '' ? '<none>' : text
const created = (o: ApiObject, now: Date): string => age(o.metadata.creationTimestamp, now)
const size = (map: object | undefined): number => map ? Object.keys(map).length : 0

function labelText(labels: Record<string, string> | undefined): string {
  return orNone(Object.keys(labels ?? {}).sort().map(k => `${k}=${labels?.[k]}`).join(','))
}

/** Containers, Images. */
function containerCells(spec: PodSpec | undefined): [string, string] {
  const list: Container[] = spec?.containers ?? []
  return [list.map(c => c.name).join(','), list.map(c => c.image ?? '').join(',')]
}

function podCells(pod: Pod, now: Date): Cell[] {
  const s = podStatus(pod)
  const ago = s.restarts > 0 && s.lastRestart !== undefined ? ` (${age(s.lastRestart, now)} ago)` : ''
  const restarts = `${s.restarts}${ago}`
  const gates = pod.spec.readinessGates ?? []
  const open = gates.filter(g => pod.status?.conditions?.some(c => c.type === g.conditionType && c.status === 'True')).length
  return [
    pod.metadata.name, `${s.ready}/${s.total}`, s.reason, restarts, created(pod, now),
    orNone(pod.status?.podIP), orNone(pod.spec.nodeName), orNone(pod.status?.nominatedNodeName),
    gates.length === 0 ? '<none>' : `${open}/${gates.length}`,
  ]
}

function serviceCells(s: Service, now: Date): Cell[] {
  const type = s.spec.type ?? 'ClusterIP'
  const ports = (s.spec.ports ?? []).map(p => `${p.port}${p.nodePort ? `:${p.nodePort}` : ''}/${p.protocol ?? 'TCP'}`).join(',')
  return [s.metadata.name, type, orNone(s.spec.clusterIP), externalIp(s, type), orNone(ports), created(s, now),
    labelText(s.spec.selector)]
}

function externalIp(s: Service, type: string): string {
  if (type === 'ExternalName') return orNone(s.spec.externalName)
  const external = s.spec.externalIPs ?? []
  if (type !== 'LoadBalancer') return orNone(external.join(','))
  const assigned = (s.status?.loadBalancer?.ingress ?? []).map(i => i.ip ?? i.hostname ?? '')
  const all = [...assigned, ...external]
  return all.length === 0 ? '<pending>' : all.join(',')
}

function nodeCells(node: Node, now: Date): Cell[] {
  const ready = node.status?.conditions?.find(c => c.type === 'Ready')
  const status = [ready?.status === 'True' ? 'Ready' : ready ? 'NotReady' : 'Unknown']
  if (node.spec?.unschedulable) status.push('SchedulingDisabled')
  const roles = Object.entries(node.metadata.labels ?? {}).flatMap(([key, value]) =>
    key.startsWith('node-role.kubernetes.io/') ? [key.slice('node-role.kubernetes.io/'.length)]
      : key === 'kubernetes.io/role' ? [value] : [])
  const address = (type: string): string => orNone(node.status?.addresses?.find(a => a.type === type)?.address)
  const info = node.status?.nodeInfo
  const unknown = (text: string | undefined): string => text || '<unknown>'
  return [
    node.metadata.name, status.join(','), orNone(roles.filter(r => r !== '').sort().join(',')), created(node, now),
    info?.kubeletVersion ?? '',
    address('InternalIP'), address('ExternalIP'), unknown(info?.osImage), unknown(info?.kernelVersion),
    unknown(info?.containerRuntimeVersion),
  ]
}

function eventCells(e: Event, now: Date): Cell[] {
  const series = (e as Event & { series?: { count?: number; lastObservedTime?: string } }).series
  const first = e.firstTimestamp ?? e.eventTime ?? undefined
  const last = series?.lastObservedTime ?? e.lastTimestamp ?? first
  const o = e.involvedObject
  const source = [e.source?.component || e.reportingComponent || '', e.source?.host || ''].filter(s => s !== '').join(', ')
  return [
    age(last, now), e.type ?? '', e.reason ?? '', `${(o.kind ?? '').toLowerCase()}${o.name ? `/${o.name}` : ''}`,
    (e.message ?? '').trim(),
    o.fieldPath ?? '', source, age(first, now), series?.count ?? e.count ?? 1, e.metadata.name,
  ]
}

/** Three are shown, the rest counted. */
function endpointText(all: string[]): string {
  if (all.length === 0) return '<none>'
  return all.slice(0, 3).join(',') + (all.length > 3 ? ` + ${all.length - 3} more...` : '')
}

function endpointsCells(e: Endpoints, now: Date): Cell[] {
  const all = (e.subsets ?? []).flatMap(s => s.ports?.length
    ? s.ports.flatMap(p => (s.addresses ?? []).map(a => `${a.ip}:${p.port}`))
    : (s.addresses ?? []).map(a => a.ip))
  return [e.metadata.name, endpointText(all), created(e, now)]
}

function sliceCells(s: EndpointSlice, now: Date): Cell[] {
  const list = (all: string[]): string => all.length === 0 ? '<unset>' : endpointText(all)
  return [
    s.metadata.name, s.addressType, list((s.ports ?? []).map(p => p.port === undefined ? '*' : String(p.port))),
    list((s.endpoints ?? []).flatMap(e => e.addresses)), created(s, now),
  ]
}

function bindingCells(b: RoleBinding | ClusterRoleBinding, now: Date): Cell[] {
  const of = (kind: string): string => (b.subjects ?? []).filter(s => s.kind === kind)
    .map(s => kind === 'ServiceAccount' ? `${s.namespace}/${s.name}` : s.name).join(', ')
  return [b.metadata.name, `${b.roleRef.kind}/${b.roleRef.name}`, created(b, now), of('User'), of('Group'), of('ServiceAccount')]
}

function backendText(r: Route): string {
  const { service, selector, port } = r.spec.backend
  return service ? `service/${service.name}:${service.port}` : `${orNone(formatLabelSelector(selector))}:${port ?? ''}`
}

const printers = new Map<string, Printer<never>>()
function printer<T>(type: string, header: string, cells: (object: T, now: Date) => Cell[]): void {
  printers.set(type, { columns: columns(header), cells })
}

printer<Pod>('v1/Pod', 'Name Ready Status Restarts Age | IP Node Nominated_Node Readiness_Gates', podCells)
printer<Deployment>('apps/v1/Deployment', 'Name Ready #Up-to-date #Available Age | Containers Images Selector', (d, now) => [
  d.metadata.name, `${d.status?.readyReplicas ?? 0}/${d.spec.replicas ?? 1}`, d.status?.updatedReplicas ?? 0,
  d.status?.availableReplicas ?? 0,
  created(d, now), ...containerCells(d.spec.template.spec), orNone(formatLabelSelector(d.spec.selector)),
])
printer<ReplicaSet>('apps/v1/ReplicaSet', 'Name #Desired #Current #Ready Age | Containers Images Selector', (r, now) => [
  r.metadata.name, r.spec.replicas ?? 1, r.status?.replicas ?? 0, r.status?.readyReplicas ?? 0, created(r, now),
  ...containerCells(r.spec.template.spec), orNone(formatLabelSelector(r.spec.selector)),
])
printer<ReplicationController>('v1/ReplicationController', 'Name #Desired #Current #Ready Age | Containers Images Selector',
  (r, now) => [
  r.metadata.name, r.spec.replicas ?? 1, r.status?.replicas ?? 0, r.status?.readyReplicas ?? 0, created(r, now),
  ...containerCells(r.spec.template?.spec), labelText(r.spec.selector),
])
printer<Service>('v1/Service', 'Name Type Cluster-IP External-IP Port(s) Age | Selector', serviceCells)
printer<Node>('v1/Node', 'Name Status Roles Age Version | Internal-IP External-IP OS-Image Kernel-Version Container-Runtime',
  nodeCells)
printer<Event>('v1/Event', 'Last_Seen Type Reason Object Message | Subobject Source First_Seen #Count Name', eventCells)
printer<Namespace>('v1/Namespace', 'Name Status Age', (n, now) => [n.metadata.name, n.status?.phase ?? '', created(n, now)])
printer<ConfigMap>('v1/ConfigMap', 'Name #Data Age', (c, now) =>
  [c.metadata.name, size(c.data) + size(c.binaryData), created(c, now)])
printer<Secret>('v1/Secret', 'Name Type #Data Age', (s, now) => [s.metadata.name, s.type ?? '', size(s.data), created(s, now)])
printer<ServiceAccount>('v1/ServiceAccount', 'Name #Secrets Age',
  (s, now) => [s.metadata.name, s.secrets?.length ?? 0, created(s, now)])
printer<Endpoints>('v1/Endpoints', 'Name Endpoints Age', endpointsCells)
printer<EndpointSlice>('discovery.k8s.io/v1/EndpointSlice', 'Name AddressType Ports Endpoints Age', sliceCells)
printer<Lease>('coordination.k8s.io/v1/Lease', 'Name Holder Age',
  (l, now) => [l.metadata.name, l.spec?.holderIdentity ?? '', created(l, now)])
for (const kind of ['Role', 'ClusterRole']) {
  printer<ApiObject>(`rbac.authorization.k8s.io/v1/${kind}`, 'Name Created_At',
    r => [r.metadata.name, r.metadata.creationTimestamp ?? '<unknown>'])
}
for (const kind of ['RoleBinding', 'ClusterRoleBinding']) {
  printer<RoleBinding>(`rbac.authorization.k8s.io/v1/${kind}`, 'Name Role Age | Users Groups ServiceAccounts', bindingCells)
}
printer<Machine>('gantry.dev/v1/Machine', 'Name Driver Roles Address PodCIDR Phase Age', (m, now) => [
  m.metadata.name, orNone(m.spec?.driver), orNone(m.spec?.roles?.join(',')), orNone(m.status?.address), orNone(m.spec?.podCIDR),
  m.status?.phase ?? '<unknown>', created(m, now),
])
printer<Route>('gantry.dev/v1/Route', 'Name Host Path/Port Backend URL Age', (r, now) => [
  r.metadata.name, r.spec.host ?? '*', r.spec.tcpPort === undefined ? r.spec.path ?? '/' : r.spec.tcpPort.toString(),
  backendText(r),
  orNone(r.status?.url), created(r, now),
])
printer<ComposeProject>('gantry.dev/v1/ComposeProject', 'Name Services Age', (p, now) => [
  p.metadata.name, orNone(Object.keys(p.spec.services).join(',')), created(p, now),
])
printer<ApiObject & { spec?: { replicas?: number }; status?: { replicas?: number } }>('autoscaling/v1/Scale',
  'Name #Desired #Available Age',
  (s, now) => [s.metadata.name, s.spec?.replicas ?? 0, s.status?.replicas ?? 0, created(s, now)])

const OTHER: Printer<ApiObject> = { columns: columns('Name Age'), cells: (o, now) => [o.metadata.name, created(o, now)] }

function printerOf(kind: Kind): Printer<ApiObject> {
  return printers.get(`${kind.apiVersion}/${kind.kind}`) as Printer<ApiObject> | undefined ?? OTHER
}

/** A dialect's own columns: `header` as in `Name Ready | IP` (see above). */
export function addPrinter<T extends ApiObject>(kind: Kind<T>, header: string, cells: (object: T, now: Date) => Cell[]): void {
  printer<T>(`${kind.apiVersion}/${kind.kind}`, header, cells)
}

export function tableColumns(kind: Kind): TableColumn[] { return printerOf(kind).columns }

/** One row, in the columns' order. */
export function tableCells(kind: Kind, object: ApiObject, now: Date): Cell[] { return printerOf(kind).cells(object, now) }
