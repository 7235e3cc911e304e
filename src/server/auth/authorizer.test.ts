import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clusterRoleBindings, clusterRoles, coreKinds, machines, pods, roleBindings, roles } from '../../core/kinds.ts'
import type { ApiObject, ClusterRole, Pod, PolicyRule, Role, RoleBinding, Subject } from '../../core/types/index.ts'
import type { Attributes, User } from '../host.ts'
import { admitObject } from './admission.ts'
import { Authorizer, MASTERS } from './authorizer.ts'
import { bootstrapRbac, builtInRoles } from './bootstrap.ts'
import { forbidden } from './forbidden.ts'
import { MemoryClient } from './memory-client.ts'
import { compileRule, missingRights } from './rules.ts'

const RBAC = 'rbac.authorization.k8s.io'

function user(name: string, ...groups: string[]): User { return { name, groups: [...groups, 'system:authenticated'] } }
function attributes(verb: string, resource: string, rest: Partial<Attributes> = {}): Attributes {
  return { verb, group: '', version: 'v1', resource, ...rest }
}
function binding(name: string, namespace: string, subjects: Subject[], role: string, kind: 'Role' | 'ClusterRole' = 'Role'): RoleBinding {
  return { apiVersion: `${RBAC}/v1`, kind: 'RoleBinding', metadata: { name, namespace }, subjects, roleRef: { apiGroup: RBAC, kind, name: role } }
}
function role(name: string, namespace: string, rules: PolicyRule[]): Role {
  return { apiVersion: `${RBAC}/v1`, kind: 'Role', metadata: { name, namespace }, rules }
}

async function bootstrapped(): Promise<{ memory: MemoryClient; authorizer: Authorizer }> {
  const memory = new MemoryClient()
  await bootstrapRbac(memory.asClient(), coreKinds)
  const authorizer = new Authorizer(memory.asClient())
  await authorizer.ready
  return { memory, authorizer }
}

test('rights follow bindings at once, in their namespace only', async () => {
  const { memory, authorizer } = await bootstrapped()
  const jane = user('jane')
  const asked = attributes('get', 'pods', { namespace: 'a', name: 'x' })
  assert.equal(authorizer.authorize(jane, asked).allowed, false)
  memory.put(roles, role('reader', 'a', [{ verbs: ['get'], apiGroups: [''], resources: ['pods', 'pods/log'] }]))
  memory.put(roleBindings, binding('b', 'a', [{ kind: 'User', name: 'jane' }], 'reader'))
  assert.equal(authorizer.authorize(jane, asked).allowed, true)
  assert.equal(authorizer.authorize(jane, attributes('get', 'pods', { namespace: 'a', name: 'x', subresource: 'log' })).allowed, true)
  assert.equal(authorizer.authorize(jane, attributes('get', 'pods', { namespace: 'a', name: 'x', subresource: 'exec' })).allowed, false)
  assert.equal(authorizer.authorize(jane, attributes('delete', 'pods', { namespace: 'a', name: 'x' })).allowed, false)
  assert.equal(authorizer.authorize(jane, attributes('get', 'pods', { namespace: 'b', name: 'x' })).allowed, false)
  assert.equal(authorizer.authorize(jane, attributes('get', 'pods')).allowed, false)
  memory.remove(roleBindings, { namespace: 'a', name: 'b' })
  assert.equal(authorizer.authorize(jane, asked).allowed, false)
})

test('groups, service accounts, resource names, wildcards and paths', async () => {
  const { memory, authorizer } = await bootstrapped()
  memory.put(roles, role('r', 'a', [
    { verbs: ['*'], apiGroups: ['apps'], resources: ['*'] },
    { verbs: ['get'], apiGroups: [''], resources: ['configmaps'], resourceNames: ['one'] },
    { verbs: ['get'], apiGroups: ['*'], resources: ['*/scale'] },
  ]))
  memory.put(roleBindings, binding('b', 'a', [{ kind: 'Group', name: 'dev' }, { kind: 'ServiceAccount', name: 'sa', namespace: 'c' }], 'r'))
  for (const who of [user('x', 'dev'), user('system:serviceaccount:c:sa')]) {
    const may = (a: Attributes) => authorizer.authorize(who, a).allowed
    // "*" means sub-resources too.
    assert.equal(may(attributes('update', 'deployments', { group: 'apps', subresource: 'status', namespace: 'a' })), true)
    assert.equal(may(attributes('update', 'deployments', { group: 'apps', namespace: 'a' })), true)
    assert.equal(may(attributes('get', 'configmaps', { namespace: 'a', name: 'one' })), true)
    assert.equal(may(attributes('get', 'configmaps', { namespace: 'a', name: 'two' })), false)
    assert.equal(may(attributes('list', 'configmaps', { namespace: 'a' })), false)
    assert.equal(may(attributes('get', 'replicationcontrollers', { subresource: 'scale', namespace: 'a', name: 'x' })), true)
    assert.equal(may({ verb: 'get', path: '/version' }), true)
    assert.equal(may({ verb: 'get', path: '/apis/apps' }), true)
    assert.equal(may({ verb: 'get', path: '/metrics' }), false)
  }
  assert.equal(authorizer.authorize({ name: 'system:anonymous', groups: ['system:unauthenticated'] }, { verb: 'get', path: '/version' }).allowed, true)
  assert.equal(authorizer.authorize({ name: 'system:anonymous', groups: ['system:unauthenticated'] }, { verb: 'get', path: '/api' }).allowed, false)
  assert.equal(authorizer.authorize(user('root', MASTERS), attributes('delete', 'nodes')).allowed, true)
})

test('view reads no secrets, edit grants no rights, admin grants rights in its namespace; labelled roles extend them', async () => {
  const { memory, authorizer } = await bootstrapped()
  for (const name of ['view', 'edit', 'admin']) memory.put(roleBindings, binding(name, 'a', [{ kind: 'User', name }], name, 'ClusterRole'))
  const may = (name: string, a: Attributes) => authorizer.authorize(user(name), { namespace: 'a', ...a }).allowed
  assert.equal(may('view', attributes('list', 'pods')), true)
  assert.equal(may('view', attributes('get', 'routes', { group: 'gantry.dev' })), true)
  assert.equal(may('view', attributes('get', 'secrets')), false)
  assert.equal(may('view', attributes('create', 'pods', { subresource: 'exec' })), false)
  assert.equal(may('edit', attributes('get', 'secrets')), true)
  assert.equal(may('edit', attributes('create', 'pods', { subresource: 'exec' })), true)
  assert.equal(may('edit', attributes('patch', 'deployments', { group: 'apps', subresource: 'scale' })), true)
  assert.equal(may('edit', attributes('create', 'rolebindings', { group: RBAC })), false)
  assert.equal(may('admin', attributes('create', 'rolebindings', { group: RBAC })), true)
  assert.equal(may('admin', attributes('get', 'nodes')), false)
  assert.equal(may('view', attributes('get', 'widgets', { group: 'example.org' })), false)
  memory.put(clusterRoles, {
    apiVersion: `${RBAC}/v1`, kind: 'ClusterRole', metadata: { name: 'widgets', labels: { [`${RBAC}/aggregate-to-view`]: 'true' } },
    rules: [{ verbs: ['get'], apiGroups: ['example.org'], resources: ['widgets'] }],
  })
  assert.equal(may('view', attributes('get', 'widgets', { group: 'example.org' })), true)
})

test('bootstrapping again puts back what was taken and leaves what was added and what opted out', async () => {
  const { memory } = await bootstrapped()
  const client = memory.asClient()
  const edit = await client.get(clusterRoles, { name: 'edit' })
  const added = { verbs: ['get'], apiGroups: ['x'], resources: ['y'] }
  memory.put(clusterRoles, { ...edit, rules: [...edit.rules!.slice(2), added] })
  const view = await client.get(clusterRoles, { name: 'view' })
  memory.put(clusterRoles, { ...view, metadata: { ...view.metadata, annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'false' } }, rules: [] })
  memory.remove(clusterRoleBindings, { name: 'system:node' })
  await bootstrapRbac(client, coreKinds)
  const after = await client.get(clusterRoles, { name: 'edit' })
  const wanted = builtInRoles(coreKinds).find((r) => r.metadata.name === 'edit')!
  assert.deepEqual(missingRights(after.rules!.map(compileRule), wanted.rules!), [])
  assert.ok(after.rules!.some((r) => r.resources?.includes('y')))
  assert.deepEqual((await client.get(clusterRoles, { name: 'view' })).rules, [])
  assert.equal((await client.get(clusterRoleBindings, { name: 'system:node' })).roleRef.name, 'system:node')
})

test('nobody grants rights they do not hold', async () => {
  const { memory, authorizer } = await bootstrapped()
  memory.put(roleBindings, binding('admin', 'a', [{ kind: 'User', name: 'ann' }], 'admin', 'ClusterRole'))
  const ann = user('ann')
  admitObject(authorizer, ann, roles, role('ok', 'a', [{ verbs: ['get'], apiGroups: [''], resources: ['secrets'], resourceNames: ['s'] }]), undefined)
  admitObject(authorizer, ann, roleBindings, binding('x', 'a', [], 'edit', 'ClusterRole'), undefined)
  assert.throws(() => admitObject(authorizer, ann, roles, role('no', 'a', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]), undefined),
    /roles.rbac.authorization.k8s.io "no" is forbidden: user "ann" .* is attempting to grant RBAC permissions not currently held: \{"verbs":\["\*"\]/)
  assert.throws(() => admitObject(authorizer, ann, roleBindings, binding('x', 'a', [], 'cluster-admin', 'ClusterRole'), undefined), /not currently held/)
  assert.throws(() => admitObject(authorizer, ann, roleBindings, binding('x', 'b', [], 'edit', 'ClusterRole'), undefined), /not currently held/)
  assert.throws(() => admitObject(authorizer, ann, roleBindings, binding('x', 'a', [], 'missing'), undefined), /Role "missing" not found/)
  memory.put(clusterRoles, {
    apiVersion: `${RBAC}/v1`, kind: 'ClusterRole', metadata: { name: 'binder' },
    rules: [{ verbs: ['bind', 'escalate'], apiGroups: [RBAC], resources: ['clusterroles', 'roles'] }],
  } satisfies ClusterRole)
  memory.put(clusterRoleBindings, { ...binding('binder', '', [{ kind: 'User', name: 'ann' }], 'binder', 'ClusterRole'), kind: 'ClusterRoleBinding', metadata: { name: 'binder' } })
  admitObject(authorizer, ann, roleBindings, binding('x', 'b', [], 'cluster-admin', 'ClusterRole'), undefined)
  admitObject(authorizer, user('root', MASTERS), roles, role('no', 'a', [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]), undefined)
})

function pod(name: string, nodeName: string | undefined, spec: Partial<Pod['spec']> = {}): Pod {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'a' }, spec: { containers: [{ name: 'c' }], ...(nodeName !== undefined && { nodeName }), ...spec } }
}

test('a node is held to its own objects and to what its pods refer to', async () => {
  const { memory, authorizer } = await bootstrapped()
  const n1 = user('system:node:n1', 'system:nodes')
  const refused = (a: Attributes) => {
    const d = authorizer.authorize(n1, a)
    return d.allowed ? undefined : d.reason ?? 'by RBAC'
  }
  assert.equal(refused(attributes('patch', 'nodes', { name: 'n1', subresource: 'status' })), undefined)
  assert.match(refused(attributes('patch', 'nodes', { name: 'n2', subresource: 'status' }))!, /not allowed to modify nodes "n2"/)
  assert.match(refused(attributes('update', 'machines', { group: 'gantry.dev', name: 'n2' }))!, /not allowed to modify machines "n2"/)
  const lease = { group: 'coordination.k8s.io', namespace: 'kube-node-lease' }
  assert.equal(refused(attributes('update', 'leases', { ...lease, name: 'n1' })), undefined)
  assert.match(refused(attributes('update', 'leases', { ...lease, name: 'n2' }))!, /not allowed to modify/)
  assert.match(refused(attributes('update', 'leases', { ...lease, namespace: 'kube-system', name: 'n1' }))!, /kube-node-lease only/)
  assert.equal(refused(attributes('get', 'pods', { subresource: 'exec', namespace: 'a', name: 'x' })), 'by RBAC')
  assert.equal(refused(attributes('delete', 'roles', { group: RBAC, namespace: 'a', name: 'x' })), 'by RBAC')

  memory.put(pods, pod('mine', 'n1', {
    volumes: [{ name: 'v', secret: { secretName: 's1' } }, { name: 'p', projected: { sources: [{ configMap: { name: 'kube-root-ca.crt' } }] } }],
    containers: [{ name: 'c', envFrom: [{ configMapRef: { name: 'c1' } }] }],
  }))
  memory.put(pods, pod('other', 'n2', { imagePullSecrets: [{ name: 's2' }] }))
  const read = (verb: string, resource: string, name?: string, namespace = 'a') => refused(attributes(verb, resource, { namespace, ...(name && { name }) }))
  assert.equal(read('get', 'secrets', 's1'), undefined)
  assert.equal(read('watch', 'secrets', 's1'), undefined)
  assert.equal(read('get', 'configmaps', 'c1'), undefined)
  assert.equal(read('get', 'configmaps', 'kube-root-ca.crt'), undefined)
  assert.match(read('get', 'secrets', 's2')!, /no pod on node "n1" refers to it/)
  assert.match(read('get', 'secrets', 's1', 'b')!, /no pod on node/)
  assert.match(read('list', 'secrets')!, /one by one/)
  assert.equal(refused(attributes('patch', 'pods', { subresource: 'status', namespace: 'a', name: 'mine' })), undefined)
  assert.match(refused(attributes('patch', 'pods', { subresource: 'status', namespace: 'a', name: 'other' }))!, /bound to it/)
  assert.match(refused(attributes('delete', 'pods', { namespace: 'a', name: 'other' }))!, /bound to it/)
  memory.remove(pods, { namespace: 'a', name: 'mine' })
  assert.match(read('get', 'secrets', 's1')!, /no pod on node/)

  const mirror = pod('m', 'n1')
  mirror.metadata.annotations = { 'kubernetes.io/config.mirror': 'x' }
  admitObject(authorizer, n1, pods, mirror, undefined)
  assert.throws(() => admitObject(authorizer, n1, pods, pod('m', 'n1'), undefined), /only create mirror pods/)
  const nosy: Pod = { ...mirror, spec: { ...mirror.spec, volumes: [{ name: 'v', secret: { secretName: 'others' } }] } }
  assert.throws(() => admitObject(authorizer, n1, pods, nosy, undefined), /may not refer to secrets or configmaps/)
  const other: Pod = { ...mirror, spec: { ...mirror.spec, serviceAccountName: 'deployer' } }
  assert.throws(() => admitObject(authorizer, n1, pods, other, undefined), /may not have a service account/)
  const elsewhere: Pod = { ...mirror, spec: { ...mirror.spec, nodeName: 'n2' } }
  assert.throws(() => admitObject(authorizer, n1, pods, elsewhere, undefined), /bound to it/)
})

test('a router reads no secrets and writes only its own Machine', async () => {
  const { authorizer } = await bootstrapped()
  const edge = user('system:gantry:router:edge', 'system:gantry:routers')
  const may = (verb: string, resource: string, more: Partial<Attributes> = {}): boolean => authorizer.authorize(edge, attributes(verb, resource, more)).allowed
  assert.equal(may('list', 'secrets'), false)
  assert.equal(may('list', 'endpointslices', { group: 'discovery.k8s.io' }), true)
  const machine = { group: 'gantry.dev', subresource: 'status' }
  assert.equal(may('update', 'machines', { ...machine, name: 'edge' }), true)
  assert.equal(may('update', 'machines', { ...machine, name: 'n1' }), false)
  const made = (name: string): ApiObject => ({ apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name } })
  admitObject(authorizer, edge, machines, made('edge'), undefined)
  assert.throws(() => admitObject(authorizer, edge, machines, made('n1'), undefined), /not allowed to write machines "n1"/)
})

test('refusals are worded as Kubernetes words them', () => {
  const u = user('u')
  assert.equal(forbidden(u, attributes('get', 'pods', { namespace: 'n', name: 'x' })).message,
    'pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"')
  const e = forbidden(u, attributes('create', 'deployments', { group: 'apps', subresource: 'scale', name: 'd' }), 'why')
  assert.equal(e.message, 'deployments.apps "d" is forbidden: User "u" cannot create resource "deployments/scale" in API group "apps" at the cluster scope: why')
  assert.deepEqual(e.details, { name: 'd', group: 'apps', kind: 'deployments' })
  assert.equal(forbidden(u, { verb: 'get', path: '/metrics' }).message, 'forbidden: User "u" cannot get path "/metrics"')
})

test('a decision costs microseconds, also for a user with many bindings', async () => {
  const { memory, authorizer } = await bootstrapped()
  for (let i = 0; i < 2000; i++) {
    memory.put(roles, role('r', `ns${i}`, [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }]))
    memory.put(roleBindings, binding('b', `ns${i}`, [{ kind: 'User', name: 'jane' }], 'r'))
  }
  const jane = user('jane')
  const rounds = 20_000
  let allowed = 0
  const start = performance.now()
  for (let i = 0; i < rounds; i++) if (authorizer.authorize(jane, attributes('get', 'pods', { namespace: `ns${i % 2000}`, name: 'x' })).allowed) allowed++
  const microseconds = (performance.now() - start) * 1000 / rounds
  assert.equal(allowed, rounds)
  assert.ok(microseconds < 50, `${microseconds.toFixed(1)} µs for one decision`)
})
