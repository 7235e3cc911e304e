/** What the server serves, in the forms clients ask for it: legacy lists and aggregated discovery (v2). */
import type { Kind, KindTable } from './kinds.ts'

interface GroupVersionKind { group: string; version: string; kind: string }

interface Subresource { verbs: string[]; kind?: GroupVersionKind }

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']
const READ_WRITE = ['get', 'patch', 'update']
const core = (kind: string): GroupVersionKind => ({ group: '', version: 'v1', kind })

/** Sub-resources whose verbs or kind differ from `get, patch, update` of the parent's kind. */
const SUBRESOURCES: Record<string, Subresource> = {
  scale: { verbs: READ_WRITE, kind: { group: 'autoscaling', version: 'v1', kind: 'Scale' } },
  log: { verbs: ['get'] },
  exec: { verbs: ['create', 'get'], kind: core('PodExecOptions') },
  attach: { verbs: ['create', 'get'], kind: core('PodAttachOptions') },
  portforward: { verbs: ['create', 'get'], kind: core('PodPortForwardOptions') },
  binding: { verbs: ['create'], kind: core('Binding') },
  eviction: { verbs: ['create'], kind: { group: 'policy', version: 'v1', kind: 'Eviction' } },
  finalize: { verbs: ['update'] },
  token: { verbs: ['create'], kind: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' } },
  proxy: { verbs: ['create', 'delete', 'get', 'patch', 'update'], kind: core('NodeProxyOptions') },
}

/** Resources that are answered, not stored. */
export interface VirtualResource { group: string; version: string; plural: string; kind: string; namespaced: boolean }

const virtual = (group: string, plural: string, kind: string, namespaced = false): VirtualResource =>
  ({ group, version: 'v1', plural, kind, namespaced })

export const virtualResources: readonly VirtualResource[] = [
  virtual('', 'bindings', 'Binding', true),
  virtual('authentication.k8s.io', 'tokenreviews', 'TokenReview'),
  virtual('authentication.k8s.io', 'selfsubjectreviews', 'SelfSubjectReview'),
  virtual('authorization.k8s.io', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview'),
  virtual('authorization.k8s.io', 'selfsubjectrulesreviews', 'SelfSubjectRulesReview'),
  virtual('authorization.k8s.io', 'subjectaccessreviews', 'SubjectAccessReview'),
  virtual('authorization.k8s.io', 'localsubjectaccessreviews', 'LocalSubjectAccessReview', true),
]

function groupVersion(group: string, version: string): string { return group === '' ? version : `${group}/${version}` }

interface Row {
  group: string
  version: string
  plural: string
  kind: string
  singular: string
  namespaced: boolean
  verbs: string[]
  shortNames?: string[]
  categories?: string[]
  subresources: string[]
}

function rows(kinds: KindTable): Row[] {
  const stored = kinds.all().map((k: Kind): Row => ({
    group: k.group, version: k.version, plural: k.plural, kind: k.kind, singular: k.singular, namespaced: k.namespaced,
    verbs: VERBS, subresources: k.subresources ?? [],
    ...(k.shortNames && { shortNames: k.shortNames }), ...(k.categories && { categories: k.categories }),
  }))
  const answered = virtualResources.map((v): Row =>
    ({ ...v, singular: v.kind.toLowerCase(), verbs: ['create'], subresources: [] }))
  return [...stored, ...answered]
}

/** Group → its versions, in order of first appearance; the core group is left out. */
function groups(kinds: KindTable): Map<string, string[]> {
  const found = new Map<string, string[]>()
  for (const { group, version } of rows(kinds)) {
    if (group === '') continue
    const versions = found.get(group)
    if (!versions) found.set(group, [version])
    else if (!versions.includes(version)) versions.push(version)
  }
  return found
}

/** `GET /api`. `address` is `host:port` as clients reach the server. */
export function apiVersions(address: string): object {
  const serverAddressByClientCIDRs = [{ clientCIDR: '0.0.0.0/0', serverAddress: address }]
  return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs }
}

function groupOf(name: string, versions: string[]): object {
  const list = versions.map(version => ({ groupVersion: groupVersion(name, version), version }))
  return { name, versions: list, preferredVersion: list[0] }
}

/** `GET /apis`. */
export function apiGroupList(kinds: KindTable): object {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: [...groups(kinds)].map(([name, versions]) => groupOf(name, versions)) }
}

/** `GET /apis/GROUP`; undefined for an unknown group. */
export function apiGroup(kinds: KindTable, group: string): object | undefined {
  const versions = groups(kinds).get(group)
  return versions && { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(group, versions) }
}

/** `GET /api/v1` and `GET /apis/GROUP/VERSION`; undefined for an unknown version. */
export function apiResourceList(kinds: KindTable, wanted: string): object | undefined {
  const found = rows(kinds).filter(r => groupVersion(r.group, r.version) === wanted)
  if (found.length === 0) return undefined
  const resources = found.flatMap(r => [
    {
      name: r.plural, singularName: r.singular, namespaced: r.namespaced, kind: r.kind, verbs: r.verbs,
      ...(r.shortNames && { shortNames: r.shortNames }), ...(r.categories && { categories: r.categories }),
    },
    ...r.subresources.map(name => {
      const sub = SUBRESOURCES[name]
      const { group, version, kind } = sub?.kind ?? { group: '', version: '', kind: r.kind }
      return {
        name: `${r.plural}/${name}`, singularName: '', namespaced: r.namespaced, ...(group !== '' && { group }),
        ...(group !== '' && { version }), kind, verbs: sub?.verbs ?? READ_WRITE,
      }
    }),
  ])
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: wanted, resources }
}

/** Aggregated discovery (`apidiscovery.k8s.io/v2`): of `/api` (`core`) or of `/apis` (`groups`). */
export function aggregatedDiscovery(kinds: KindTable, part: 'core' | 'groups', apiVersion = 'apidiscovery.k8s.io/v2'): object {
  const all = rows(kinds)
  const names = part === 'core' ? new Map([['', ['v1']]]) : groups(kinds)
  const items = [...names].map(([group, versions]) => ({
    metadata: group === '' ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
    versions: versions.map(version => ({
      version,
      resources: all.filter(r => r.group === group && r.version === version).map(r => aggregated(r)),
      freshness: 'Current',
    })),
  }))
  return { kind: 'APIGroupDiscoveryList', apiVersion, metadata: {}, items }
}

function aggregated(r: Row): object {
  const own: GroupVersionKind = { group: r.group, version: r.version, kind: r.kind }
  return {
    resource: r.plural, responseKind: own, scope: r.namespaced ? 'Namespaced' : 'Cluster', singularResource: r.singular,
    verbs: r.verbs,
    ...(r.shortNames && { shortNames: r.shortNames }), ...(r.categories && { categories: r.categories }),
    ...(r.subresources.length > 0 && {
      subresources: r.subresources.map(name => ({
        subresource: name, responseKind: SUBRESOURCES[name]?.kind ?? own, verbs: SUBRESOURCES[name]?.verbs ?? READ_WRITE,
      })),
    }),
  }
}
