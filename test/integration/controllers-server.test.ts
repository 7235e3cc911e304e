/** Scheduler, controllers and the v1beta1 dialect in a real server with a real store, over HTTPS. Nodes are simulated. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { startTestServer, type TestServer } from '../../src/server/testing/start.ts'

let server: TestServer
let agents: NodeJS.Timeout | undefined
const alive = new Set(['a', 'b', 'c'])

const get = async (path: string) => (await server.call('GET', path)).body
const patch = (path: string, body: unknown) => server.call('PATCH', path, body, { 'Content-Type': 'application/merge-patch+json' })

async function until(what: string, holds: () => Promise<boolean>, timeoutMs = 15_000): Promise<number> {
  const start = Date.now()
  while (!await holds()) {
    if (Date.now() - start > timeoutMs) throw new Error(`timed out: ${what}`)
    await delay(20)
  }
  return Date.now() - start
}

async function addNode(name: string): Promise<void> {
  const allocatable = { cpu: '8', memory: '16Gi', pods: '110' }
  const { status, text } = await server.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'kubernetes.io/hostname': name } }, spec: {} })
  assert.equal(status, 201, text)
  const reported = await patch(`/api/v1/nodes/${name}/status`, { status: { allocatable, capacity: allocatable, conditions: [{ type: 'Ready', status: 'True', reason: 'Test' }] } })
  assert.equal(reported.status, 200, reported.text)
  const lease = await server.call('POST', '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases', {
    apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name, namespace: 'kube-node-lease' }, spec: { holderIdentity: name, leaseDurationSeconds: 3 },
  })
  assert.equal(lease.status, 201, lease.text)
}

/** Renews leases, starts what is bound, ends what is to be deleted. */
async function actAsAgents(round: number): Promise<void> {
  const renewTime = new Date().toISOString().replace('Z', '000Z')
  if (round % 5 === 0) {
    await Promise.all([...alive].map((n) => patch(`/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/${n}`, { spec: { renewTime } })))
  }
  for (const pod of (await get('/api/v1/pods')).items) {
    if (!alive.has(pod.spec.nodeName)) continue
    const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}`
    if (pod.metadata.deletionTimestamp !== undefined) await server.call('DELETE', path, { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0 })
    else if (pod.status.phase === 'Pending') {
      const ip = `10.42.0.${1 + Math.floor(Math.random() * 250)}`
      const conditions = [...pod.status.conditions ?? [], { type: 'Ready', status: 'True', lastTransitionTime: new Date().toISOString().slice(0, 19) + 'Z' }]
      await patch(`${path}/status`, { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions } })
    }
  }
}

before(async () => {
  server = await startTestServer({ lead: true })
  for (const n of alive) await addNode(n)
  let round = 0
  const act = async (): Promise<void> => {
    await actAsAgents(round++).catch(() => {})
    if (agents !== undefined) agents = setTimeout(() => void act(), 100)
  }
  agents = setTimeout(() => void act(), 0)
})

after(async () => {
  clearTimeout(agents)
  agents = undefined
  await delay(200)
  await server.close()
})

const template = (image: string) => ({ metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image, resources: { requests: { cpu: '100m' } } }] } })

test('a Deployment becomes available, rolls, and its Service has endpoints', async () => {
  const made = await server.call('POST', '/apis/apps/v1/namespaces/default/deployments', {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' },
    spec: { replicas: 6, selector: { matchLabels: { app: 'web' } }, template: template('web:1') },
  })
  assert.equal(made.status, 201, made.text)
  const service = await server.call('POST', '/api/v1/namespaces/default/services', {
    apiVersion: 'v1', kind: 'Service', metadata: { name: 'web' }, spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
  })
  assert.equal(service.status, 201, service.text)
  await until('6 available', async () => (await get('/apis/apps/v1/namespaces/default/deployments/web')).status?.availableReplicas === 6)
  const ready = async () => (await get('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=web')).items
    .flatMap((s: { endpoints?: { conditions: { ready: boolean } }[] }) => s.endpoints ?? [])
    .filter((e: { conditions: { ready: boolean } }) => e.conditions.ready).length
  await until('6 endpoints', async () => await ready() === 6)
  await patch('/apis/apps/v1/namespaces/default/deployments/web', { spec: { template: template('web:2') } })
  await until('rollout complete', async () => {
    const { status, metadata } = await get('/apis/apps/v1/namespaces/default/deployments/web')
    return status.observedGeneration === metadata.generation && status.updatedReplicas === 6 && status.availableReplicas === 6 && status.replicas === 6
      && status.conditions.find((c: { type: string }) => c.type === 'Progressing').reason === 'NewReplicaSetAvailable'
  })
  await until('6 endpoints again', async () => await ready() === 6)
})

test('the talk\'s controller is taken by the v1beta1 API, and seen by today\'s', async () => {
  const talk = {
    id: 'latticeAppController', kind: 'ReplicationController', apiVersion: 'v1beta1',
    desiredState: {
      replicas: 3, replicaSelector: { name: 'lattice-app' },
      podTemplate: {
        desiredState: {
          manifest: {
            version: 'v1beta1', id: 'x',
            containers: [{
              name: 'lattice-app', image: 'mstine/lattice-app', command: ['/lattice-app'], env: [{ key: 'PORT', value: '8080' }],
              cpu: 100, memory: 50000000, ports: [{ containerPort: 8080 }],
            }],
          },
        },
        labels: { name: 'lattice-app' },
      },
    },
  }
  const made = await server.call('POST', '/api/v1beta1/replicationControllers', talk)
  assert.equal(made.status, 201, made.text)
  assert.equal(made.body.id, 'latticeAppController')
  assert.equal(typeof made.body.resourceVersion, 'number')
  await until('3 running', async () => (await get('/api/v1/namespaces/default/replicationcontrollers/lattice-app-controller')).status?.readyReplicas === 3)
  const service = await server.call('POST', '/api/v1beta1/services', { kind: 'Service', apiVersion: 'v1beta1', id: 'lattice', port: 80, selector: { name: 'lattice-app' } })
  assert.equal(service.status, 201, service.text)
  assert.equal(service.body.containerPort, 8080, 'the port left out is that of the Pods')
  const list = await get('/api/v1beta1/pods?labels=name%3Dlattice-app')
  assert.deepEqual([list.kind, list.items.length, list.items[0].currentState.status], ['PodList', 3, 'Running'])
  assert.equal((await get('/api/v1beta1/minions')).minions.length, 3)
  const scaled = { ...(await get('/api/v1beta1/replicationControllers/latticeAppController')) }
  scaled.desiredState.replicas = 1
  const put = await server.call('PUT', '/api/v1beta1/replicationControllers/latticeAppController', scaled)
  assert.equal(put.status, 200, put.text)
  await until('1 left', async () => (await get('/api/v1beta1/pods?labels=name%3Dlattice-app')).items.length === 1)
  const missing = await server.call('GET', '/api/v1beta1/pods/nobody')
  assert.deepEqual([missing.status, missing.body.status, missing.body.reason], [404, 'Failure', 'NotFound'])
  assert.equal((await server.call('DELETE', '/api/v1beta1/replicationControllers/latticeAppController')).body.status, 'Success')
})

test('a node that falls silent loses its Pods, which run elsewhere in under five seconds', async () => {
  await delay(1500)
  alive.delete('a')
  const onA = async () => (await get('/api/v1/pods?fieldSelector=spec.nodeName=a&labelSelector=app=web')).items.length
  assert.ok(await onA() > 0)
  const tookMs = await until('6 available elsewhere', async () => await onA() === 0
    && (await get('/apis/apps/v1/namespaces/default/deployments/web')).status.availableReplicas === 6)
  assert.ok(tookMs < 5000, `${tookMs} ms`)
  alive.add('a')
  await until('the node is ready again', async () => (await get('/api/v1/nodes/a')).status.conditions.find((c: { type: string }) => c.type === 'Ready').status === 'True')
})

test('a restarted server goes on where it was; a namespace goes with all it holds', async () => {
  assert.equal((await server.call('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } })).status, 201)
  const before = (await get('/api/v1/pods')).items.map((p: { metadata: { uid: string } }) => p.metadata.uid).sort()
  await server.restart()
  await delay(1500)
  assert.deepEqual((await get('/api/v1/pods')).items.map((p: { metadata: { uid: string } }) => p.metadata.uid).sort(), before)
  const rs = await server.call('POST', '/apis/apps/v1/namespaces/team/replicasets', {
    apiVersion: 'apps/v1', kind: 'ReplicaSet', metadata: { name: 'web' }, spec: { replicas: 5, selector: { matchLabels: { app: 'web' } }, template: template('web:1') },
  })
  assert.equal(rs.status, 201, rs.text)
  await until('5 ready', async () => (await get('/apis/apps/v1/namespaces/team/replicasets/web')).status?.readyReplicas === 5)
  await server.call('DELETE', '/api/v1/namespaces/team')
  await until('the namespace is gone', async () => (await server.call('GET', '/api/v1/namespaces/team')).status === 404)
  assert.equal((await get('/api/v1/namespaces/team/pods')).items.length, 0)
})
