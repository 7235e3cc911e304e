/** Who may do what, with a real server: certificates, tokens, roles, nodes, kubectl's questions. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { connect } from '../../src/client/client.ts'
import type { RemoteClient } from '../../src/client/client.ts'
import {
  clusterRoleBindings, configMaps, leases, machines, nodes, pods, roleBindings, roles, secrets, serviceAccounts,
} from '../../src/core/kinds.ts'
import type { ApiObject, Pod, RoleBinding } from '../../src/core/types/index.ts'
import { createCA, issueCert } from '../../src/machines/pki.ts'
import type { IssuedIdentity } from '../../src/machines/pki.ts'
import { startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'
import { unpackKubectl } from './kubectl.ts'

const run = promisify(execFile)
let server: ServerProcess
let admin: RemoteClient
let kubectlPath: string
let kubeconfig: string
const cleanups: (() => void | Promise<void>)[] = []

before(async () => {
  server = await startServerProcess([{ token: 'static-token', user: 'ci', groups: ['dev'] }])
  admin = await server.client()
  kubeconfig = await server.kubeconfig()
  const unpacked = await unpackKubectl()
  kubectlPath = unpacked.path
  cleanups.push(unpacked.cleanUp)
})
after(async () => {
  await server?.cleanUp()
  for (const clean of cleanups) await clean()
})

function withToken(token: string): RemoteClient {
  const client = connect({ servers: [server.url], tls: { ca: server.ca.cert }, token })
  cleanups.push(() => client.close())
  return client
}

async function kubectl(...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  return run(kubectlPath, args, { env: { PATH: process.env['PATH'], HOME: server.dir, KUBECONFIG: kubeconfig }, timeout: 20_000 })
    .then((r) => ({ ...r, code: 0 }), (e: { stdout: string; stderr: string; code: number }) => e)
}

const RBAC = 'rbac.authorization.k8s.io'
function pod(name: string, nodeName: string, spec: Partial<Pod['spec']> = {}): Pod {
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default' }, spec: { nodeName, containers: [{ name: 'c', image: 'i' }], ...spec } }
}

test('who is nobody gets 401, but may ask for health and version', async () => {
  const nobody = withToken('wrong')
  await assert.rejects(nobody.list(pods), { code: 401, reason: 'Unauthorized' })
  for (const path of ['/livez', '/readyz', '/healthz', '/version']) assert.equal((await nobody.request('GET', path)).status, 200, path)
  await assert.rejects(nobody.requestOk('GET', '/metrics'), { code: 401 })
  const stranger = connect({ servers: [server.url], tls: await strangeIdentity() })
  cleanups.push(() => stranger.close())
  await assert.rejects(stranger.list(pods), { code: 401 })
})

/** A certificate of another CA, to be shown to the server that we trust. */
async function strangeIdentity(): Promise<IssuedIdentity> {
  const identity = await issueCert(await createCA('other'), { commonName: 'admin', organizations: ['system:masters'], client: true })
  return { ...identity, ca: server.ca.cert }
}

test('a refusal names user, verb and resource; a binding takes effect at once', async () => {
  const ci = withToken('static-token')
  await assert.rejects(ci.list(pods, { namespace: 'default' }), {
    code: 403, message: 'pods is forbidden: User "ci" cannot list resource "pods" in API group "" in the namespace "default"',
  })
  const binding: RoleBinding = {
    apiVersion: `${RBAC}/v1`, kind: 'RoleBinding', metadata: { name: 'dev', namespace: 'default' },
    subjects: [{ kind: 'Group', name: 'dev', apiGroup: RBAC }], roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'admin' },
  }
  await admin.create(roleBindings, binding)
  await ci.list(pods, { namespace: 'default' })
  await assert.rejects(ci.list(pods), { code: 403, message: /at the cluster scope/ })
  await assert.rejects(ci.create(roleBindings, { ...binding, metadata: { name: 'up', namespace: 'default' }, roleRef: { ...binding.roleRef, name: 'cluster-admin' } }),
    { code: 403, message: /attempting to grant RBAC permissions not currently held/ })
  await ci.create(roles, { apiVersion: `${RBAC}/v1`, kind: 'Role', metadata: { name: 'r', namespace: 'default' }, rules: [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }] })
  await admin.delete(roleBindings, { namespace: 'default', name: 'dev' })
  await assert.rejects(ci.list(pods, { namespace: 'default' }), { code: 403 })
  await admin.delete(roles, { namespace: 'default', name: 'r' })
})

test('kubectl auth can-i, whoami and create token', async () => {
  assert.equal((await kubectl('auth', 'can-i', 'delete', 'nodes')).stdout, 'yes\n')
  const no = await kubectl('auth', 'can-i', 'get', 'pods', '--as', 'jane', '--as-group', 'x')
  assert.equal(no.stdout, 'no\n')
  assert.equal(no.code, 1)
  const who = await kubectl('auth', 'whoami', '-o', 'json', '--as', 'jane', '--as-group', 'x')
  assert.deepEqual(JSON.parse(who.stdout).status.userInfo, { username: 'jane', groups: ['x', 'system:authenticated'] })
  assert.match((await kubectl('auth', 'can-i', '--list', '--as', 'jane')).stdout, /selfsubjectaccessreviews\.authorization\.k8s\.io/)
  await admin.create(serviceAccounts, { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot', namespace: 'default' } })
  const made = await kubectl('create', 'token', 'robot', '--duration', '20m')
  assert.equal(made.code, 0, made.stderr)
  const robot = withToken(made.stdout.trim())
  await assert.rejects(robot.list(pods), { code: 403, message: /User "system:serviceaccount:default:robot" cannot list/ })
  assert.match((await kubectl('create', 'token', 'robot', '--duration', '1m')).stderr, /may not specify a duration less than 10 minutes/)
  assert.match((await kubectl('create', 'token', 'nobody')).stderr, /serviceaccounts "nobody" not found/)
  const review = (token: string) => admin.call<ApiObject & { status: { authenticated?: boolean; user?: { username?: string } } }>(
    'POST', '/apis/authentication.k8s.io/v1/tokenreviews', { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } })
  assert.equal((await review(made.stdout.trim())).status.user?.username, 'system:serviceaccount:default:robot')
  assert.equal((await review('x')).status.authenticated, false)
  await admin.delete(serviceAccounts, { namespace: 'default', name: 'robot' })
  await assert.rejects(robot.list(pods), { code: 401 })
  assert.match((await kubectl('get', 'pods', '--as', 'jane')).stderr, /Error from server \(Forbidden\): pods is forbidden: User "jane" cannot list resource "pods"/)
})

test('a node does its work and no more', async () => {
  const n1 = await server.client('system:node:n1', 'system:nodes')
  await n1.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' }, spec: {} })
  await assert.rejects(n1.create(nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n2' }, spec: {} }), { code: 403, message: /not allowed to write nodes "n2"/ })
  await n1.create(machines, { apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: 'n1' }, spec: { roles: ['node'] } })
  await n1.patch(machines, { name: 'n1' }, 'merge', { status: { phase: 'Running' } }, { subresource: 'status' })
  await n1.patch(nodes, { name: 'n1' }, 'merge', { status: { capacity: { cpu: '1' } } }, { subresource: 'status' })
  await n1.create(leases, { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'n1', namespace: 'kube-node-lease' }, spec: { holderIdentity: 'n1' } })
  await assert.rejects(n1.create(leases, { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'n2', namespace: 'kube-node-lease' } }), { code: 403 })

  for (const name of ['s1', 's2']) await admin.create(secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name, namespace: 'default' }, stringData: { k: name } })
  await admin.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c1', namespace: 'default' } })
  await admin.create(pods, pod('mine', 'n1', { volumes: [{ name: 's', secret: { secretName: 's1' } }, { name: 'c', configMap: { name: 'c1' } }] }))
  await admin.create(pods, pod('other', 'n2', { volumes: [{ name: 's', secret: { secretName: 's2' } }] }))
  assert.equal((await n1.list(pods, { fieldSelector: 'spec.nodeName=n1' })).items.length, 1)
  assert.ok((await n1.get(secrets, { namespace: 'default', name: 's1' })).data)
  await assert.rejects(n1.get(secrets, { namespace: 'default', name: 's2' }), { code: 403, message: /no pod on node "n1" refers to it/ })
  await assert.rejects(n1.list(secrets), { code: 403 })
  await assert.rejects(n1.list(secrets, { namespace: 'default', fieldSelector: 'metadata.name=s2' }), { code: 403 })
  const watched = n1.informer(secrets, { namespace: 'default', fieldSelector: 'metadata.name=s1' })
  await watched.synced
  assert.equal(watched.size, 1)
  watched.stop()
  const watchedMap = n1.informer(configMaps, { namespace: 'default', fieldSelector: 'metadata.name=c1' })
  await watchedMap.synced
  watchedMap.stop()

  await n1.patch(pods, { namespace: 'default', name: 'mine' }, 'merge', { status: { phase: 'Running' } }, { subresource: 'status' })
  await assert.rejects(n1.patch(pods, { namespace: 'default', name: 'other' }, 'merge', { status: { phase: 'Running' } }, { subresource: 'status' }), { code: 403, message: /bound to it/ })
  await assert.rejects(n1.delete(pods, { namespace: 'default', name: 'other' }), { code: 403 })
  // The API of 2014 is no way round it.
  const old = await n1.request('POST', '/api/v1beta1/pods', {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ kind: 'Pod', apiVersion: 'v1beta1', id: 'sly', desiredState: { manifest: { version: 'v1beta1', id: 'sly', containers: [{ name: 'c', image: 'i' }] } } }),
  })
  assert.equal(old.status, 403)
  const mine = await admin.get(pods, { namespace: 'default', name: 'mine' })
  const request = (name: string, uid: string) => n1.call<{ status: { token: string } }>('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', {
    apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 3607, boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid } },
  })
  const { token } = (await request('mine', mine.metadata.uid!)).status
  const inPod = withToken(token)
  await assert.rejects(inPod.list(pods), { code: 403, message: /User "system:serviceaccount:default:default"/ })
  await assert.rejects(request('mine', 'other-uid'), { code: 409 })
  const other = await admin.get(pods, { namespace: 'default', name: 'other' })
  await assert.rejects(request('other', other.metadata.uid!), { code: 403, message: /only for pods that are bound to it/ })
  await n1.delete(pods, { namespace: 'default', name: 'mine' }, { gracePeriodSeconds: 0, preconditions: { uid: mine.metadata.uid! } })
  await assert.rejects(inPod.list(pods), { code: 401 })
  await assert.rejects(n1.create(clusterRoleBindings, {
    apiVersion: `${RBAC}/v1`, kind: 'ClusterRoleBinding', metadata: { name: 'x' }, subjects: [], roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'cluster-admin' },
  }), { code: 403 })
})

test('authorising a certificate costs microseconds: 2,000 gets of a user with a role', async () => {
  await admin.create(roleBindings, {
    apiVersion: `${RBAC}/v1`, kind: 'RoleBinding', metadata: { name: 'viewer', namespace: 'default' },
    subjects: [{ kind: 'User', name: 'viewer', apiGroup: RBAC }], roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'view' },
  })
  await admin.create(configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'seen', namespace: 'default' } })
  const measure = async (client: RemoteClient) => {
    const start = performance.now()
    await Promise.all(Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 100; i++) await client.get(configMaps, { namespace: 'default', name: 'seen' })
    }))
    return performance.now() - start
  }
  const viewer = await server.client('viewer', 'nothing')
  await measure(admin)
  const all = await measure(admin)
  const by = await measure(viewer)
  assert.ok(by < all * 2 + 200, `${by.toFixed(0)} ms with a role, ${all.toFixed(0)} ms as master`)
})
