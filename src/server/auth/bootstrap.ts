/** The roles and bindings every cluster has from its first start; later starts add what is missing from them. */
import type { Client } from '../../core/client.ts'
import { isReason } from '../../core/errors.ts'
import { clusterRoleBindings, clusterRoles } from '../../core/kinds.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ClusterRole, ClusterRoleBinding, PolicyRule, Subject } from '../../core/types/index.ts'
import { ROUTERS } from './node-restriction.ts'
import { compileRule, missingRights } from './rules.ts'

/** With the value `false` on an object, a start leaves it as its owner changed it. */
const AUTO_UPDATE = 'rbac.authorization.kubernetes.io/autoupdate'
const RBAC_GROUP = 'rbac.authorization.k8s.io'
const READ = ['get', 'list', 'watch']
const WRITE = ['create', 'delete', 'deletecollection', 'patch', 'update']
const HEALTH_PATHS = ['/healthz', '/livez', '/livez/*', '/readyz', '/readyz/*']
const PUBLIC_PATHS = [...HEALTH_PATHS, '/version', '/version/']
const DISCOVERY_PATHS = [...PUBLIC_PATHS, '/api', '/api/*', '/apis', '/apis/*', '/openapi', '/openapi/*']
const ISSUER_PATHS = ['/.well-known/openid-configuration', '/.well-known/openid-configuration/', '/openid/v1/jwks', '/openid/v1/jwks/']

/** Creates missing built-in roles and bindings, and puts back rules and subjects that were taken from them. */
export async function bootstrapRbac(client: Client, kinds: readonly Kind[]): Promise<void> {
  const [existingRoles, existingBindings] = await Promise.all([client.list(clusterRoles), client.list(clusterRoleBindings)])
  const roleByName = new Map(existingRoles.items.map((r) => [r.metadata.name, r]))
  const bindingByName = new Map(existingBindings.items.map((b) => [b.metadata.name, b]))
  await Promise.all([
    ...builtInRoles(kinds).map((role) => ensure(client, clusterRoles, role, roleByName.get(role.metadata.name), completeRole)),
    ...builtInBindings().map((b) => ensure(client, clusterRoleBindings, b, bindingByName.get(b.metadata.name), completeBinding)),
  ])
}

async function ensure<T extends ClusterRole | ClusterRoleBinding>(
  client: Client, kind: Kind<T>, wanted: T, existing: T | undefined, complete: (wanted: T, existing: T) => T | undefined,
): Promise<void> {
  try {
    if (existing === undefined) {
      await client.create(kind, wanted)
    } else if (existing.metadata.annotations?.[AUTO_UPDATE] !== 'false') {
      const completed = complete(wanted, existing)
      if (completed !== undefined) await client.update(kind, completed)
    }
  } catch (e) {
    // Another server of the cluster starts at the same time and has done it.
    if (!isReason(e, 'AlreadyExists') && !isReason(e, 'Conflict')) throw e
  }
}

function completeRole(wanted: ClusterRole, existing: ClusterRole): ClusterRole | undefined {
  const missing = missingRights((existing.rules ?? []).map(compileRule), wanted.rules ?? [])
  if (missing.length === 0) return undefined
  // The whole rules that lack something, not their single rights: a reader recognises them.
  const held = (existing.rules ?? []).map(compileRule)
  const lacking = (wanted.rules ?? []).filter((rule) => missingRights(held, [rule]).length > 0)
  return { ...existing, rules: [...(existing.rules ?? []), ...lacking] }
}

function completeBinding(wanted: ClusterRoleBinding, existing: ClusterRoleBinding): ClusterRoleBinding | undefined {
  const same = (a: Subject, b: Subject) => a.kind === b.kind && a.name === b.name && a.namespace === b.namespace
  const has = (s: Subject) => (existing.subjects ?? []).some((e) => same(e, s))
  const missing = (wanted.subjects ?? []).filter((s) => !has(s))
  return missing.length === 0 ? undefined : { ...existing, subjects: [...(existing.subjects ?? []), ...missing] }
}

/** `kinds` are all kinds of this server, dialects' too: `view`, `edit` and `admin` cover the namespaced ones. */
export function builtInRoles(kinds: readonly Kind[]): ClusterRole[] {
  const view = viewRules(kinds)
  const edit = [...view, ...editRules(kinds)]
  const admin = [
    ...edit,
    rule([...READ, ...WRITE], RBAC_GROUP, ['roles', 'rolebindings']),
    rule(['create'], 'authorization.k8s.io', ['localsubjectaccessreviews']),
  ]
  return [
    role('cluster-admin', [rule(['*'], '*', ['*']), { verbs: ['*'], nonResourceURLs: ['*'] }]),
    role('admin', admin, true),
    role('edit', edit, true),
    role('view', view, true),
    role('system:discovery', [{ verbs: ['get'], nonResourceURLs: DISCOVERY_PATHS }]),
    role('system:public-info-viewer', [{ verbs: ['get'], nonResourceURLs: PUBLIC_PATHS }]),
    role('system:basic-user', [
      rule(['create'], 'authorization.k8s.io', ['selfsubjectaccessreviews', 'selfsubjectrulesreviews']),
      rule(['create'], 'authentication.k8s.io', ['selfsubjectreviews']),
    ]),
    role('system:auth-delegator', [
      rule(['create'], 'authentication.k8s.io', ['tokenreviews']),
      rule(['create'], 'authorization.k8s.io', ['subjectaccessreviews']),
    ]),
    role('system:service-account-issuer-discovery', [{ verbs: ['get'], nonResourceURLs: ISSUER_PATHS }]),
    role('system:monitoring', [{ verbs: ['get'], nonResourceURLs: ['/metrics', '/metrics/*', ...HEALTH_PATHS] }]),
    role('system:node', nodeRules()),
    role('system:gantry:router', routerRules()),
  ]
}

export function builtInBindings(): ClusterRoleBinding[] {
  const authenticated = group('system:authenticated')
  return [
    binding('cluster-admin', [group('system:masters')]),
    binding('system:discovery', [authenticated]),
    binding('system:public-info-viewer', [authenticated, group('system:unauthenticated')]),
    binding('system:basic-user', [authenticated]),
    binding('system:service-account-issuer-discovery', [group('system:serviceaccounts')]),
    binding('system:monitoring', [group('system:monitoring')]),
    binding('system:node', [group('system:nodes')]),
    binding('system:gantry:router', [group(ROUTERS)]),
  ]
}

/** Narrowed further by {@link NodeRestriction}. */
function nodeRules(): PolicyRule[] {
  return [
    rule(READ, '', ['pods', 'services', 'endpoints', 'configmaps', 'secrets', 'nodes', 'namespaces', 'serviceaccounts']),
    rule(READ, 'discovery.k8s.io', ['endpointslices']),
    rule(READ, 'gantry.dev', ['machines', 'routes']),
    rule(['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'], 'coordination.k8s.io', ['leases']),
    rule(['create', 'update', 'patch', 'delete'], '', ['nodes']),
    rule(['update', 'patch'], '', ['nodes/status']),
    rule(['create', 'update', 'patch', 'delete'], 'gantry.dev', ['machines']),
    rule(['update', 'patch'], 'gantry.dev', ['machines/status']),
    rule(['create', 'delete'], '', ['pods']),
    rule(['update', 'patch'], '', ['pods/status']),
    rule(['create'], '', ['pods/eviction', 'serviceaccounts/token']),
    rule(['create', 'update', 'patch'], '', ['events']),
  ]
}

/** Narrowed further by {@link NodeRestriction}. No Secrets: whoever takes the edge over must not hold the cluster's. */
function routerRules(): PolicyRule[] {
  return [
    rule(READ, '', ['pods', 'services']),
    rule(READ, 'discovery.k8s.io', ['endpointslices']),
    rule(READ, 'gantry.dev', ['machines', 'routes']),
    rule(['update', 'patch'], 'gantry.dev', ['routes/status', 'machines/status']),
    rule(['create'], 'gantry.dev', ['machines']),
  ]
}

/** Namespaced kinds that hold neither credentials nor rights, and what can be read of them. */
function viewRules(kinds: readonly Kind[]): PolicyRule[] {
  const readable = (k: Kind) => ['status', 'scale', 'log'].filter((s) => k.subresources?.includes(s)).map((s) => `${k.plural}/${s}`)
  return [
    ...byGroup(kinds, (k) => k.plural !== 'secrets', (k) => [k.plural, ...readable(k)])
      .map(([g, resources]) => rule(READ, g, resources)),
    rule(READ, '', ['namespaces']),
  ]
}

function editRules(kinds: readonly Kind[]): PolicyRule[] {
  const writable = (k: Kind) => k.subresources?.includes('scale') ? [k.plural, `${k.plural}/scale`] : [k.plural]
  return [
    ...byGroup(kinds, (k) => !['events', 'leases'].includes(k.plural), writable)
      .map(([g, resources]) => rule(WRITE, g, resources)),
    rule(READ, '', ['secrets', 'pods/attach', 'pods/exec', 'pods/portforward', 'pods/proxy', 'services/proxy']),
    rule(['create'], '', ['pods/attach', 'pods/exec', 'pods/portforward', 'pods/eviction', 'serviceaccounts/token']),
    rule(WRITE, '', ['pods/proxy', 'services/proxy']),
    rule(['impersonate'], '', ['serviceaccounts']),
  ]
}

/** The resources of namespaced kinds by API group, rights' own kinds left out. */
function byGroup(kinds: readonly Kind[], which: (k: Kind) => boolean, resources: (k: Kind) => string[]): [string, string[]][] {
  const groups = new Map<string, string[]>()
  for (const kind of kinds) {
    if (!kind.namespaced || kind.group === RBAC_GROUP || !which(kind)) continue
    groups.set(kind.group, [...(groups.get(kind.group) ?? []), ...resources(kind)])
  }
  return [...groups]
}

function rule(verbs: string[], apiGroup: string, resources: string[]): PolicyRule {
  return { verbs, apiGroups: [apiGroup], resources }
}

function metadata(name: string, labels: Record<string, string> = {}) {
  return { name, labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults', ...labels }, annotations: { [AUTO_UPDATE]: 'true' } }
}

/** With `extensible` the role takes in every role labelled for it, which is how Kubernetes' users extend `view` and `edit`. */
function role(name: string, rules: PolicyRule[], extensible = false): ClusterRole {
  return {
    apiVersion: `${RBAC_GROUP}/v1`, kind: 'ClusterRole', metadata: metadata(name), rules,
    ...(extensible && {
      aggregationRule: { clusterRoleSelectors: [{ matchLabels: { [`${RBAC_GROUP}/aggregate-to-${name}`]: 'true' } }] },
    }),
  }
}

function binding(name: string, subjects: Subject[]): ClusterRoleBinding {
  return {
    apiVersion: `${RBAC_GROUP}/v1`, kind: 'ClusterRoleBinding', metadata: metadata(name), subjects,
    roleRef: { apiGroup: RBAC_GROUP, kind: 'ClusterRole', name },
  }
}

function group(name: string): Subject { return { kind: 'Group', apiGroup: RBAC_GROUP, name } }
