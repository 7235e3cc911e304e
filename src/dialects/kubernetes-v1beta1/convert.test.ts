import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from '../../core/errors.ts'
import type { Pod, ReplicationController, Service } from '../../core/types/index.ts'
import { oldController, oldPod, oldService } from './back.ts'
import { convertV1beta1, nameOf } from './convert.ts'

const talk = {
  id: 'lattice-app-controller', kind: 'ReplicationController', apiVersion: 'v1beta1',
  desiredState: {
    replicas: 3,
    replicaSelector: { name: 'lattice-app' },
    podTemplate: {
      desiredState: {
        manifest: {
          version: 'v1beta1', id: 'lattice-app-controller',
          containers: [{
            name: 'lattice-app', image: 'mstine/lattice-app', command: ['/lattice-app'], env: [{ key: 'PORT', value: '8080' }],
            cpu: 100, memory: 50000000, ports: [{ containerPort: 8080 }],
          }],
        },
      },
      labels: { name: 'lattice-app' },
    },
    labels: { name: 'lattice-app' },
  },
}

test('the controller of the talk becomes a ReplicationController of today, and back', () => {
  const [rc] = convertV1beta1(talk) as ReplicationController[]
  assert.deepEqual(rc, {
    apiVersion: 'v1', kind: 'ReplicationController',
    metadata: { name: 'lattice-app-controller', namespace: 'default', labels: { name: 'lattice-app' } },
    spec: {
      replicas: 3, selector: { name: 'lattice-app' },
      template: {
        metadata: { labels: { name: 'lattice-app' } },
        spec: {
          restartPolicy: 'Always',
          containers: [{
            name: 'lattice-app', image: 'mstine/lattice-app', args: ['/lattice-app'], env: [{ name: 'PORT', value: '8080' }],
            resources: { limits: { cpu: '100m', memory: '50000000' } }, ports: [{ containerPort: 8080, protocol: 'TCP' }],
          }],
        },
      },
    },
  })
  const again = convertV1beta1(JSON.parse(JSON.stringify(oldController(rc!)))) as ReplicationController[]
  assert.deepEqual(again[0]!.spec, { ...rc!.spec, template: { ...rc!.spec.template, spec: { ...again[0]!.spec.template!.spec } } })
  assert.deepEqual(again[0]!.spec.template!.spec.containers[0]!.resources, rc!.spec.template!.spec.containers[0]!.resources)
})

test('ids in camel case become names, and come back as they were', () => {
  assert.equal(nameOf('frontendController'), 'frontend-controller')
  assert.equal(nameOf('redis_Master.1'), 'redis-master.1')
  const [service] = convertV1beta1({ kind: 'Service', id: 'redisMaster', port: 6379 } as never) as Service[]
  assert.equal(service!.metadata.name, 'redis-master')
  assert.equal(oldService(service!)['id'], 'redisMaster')
})

test('a Pod keeps its volumes, probes, policies and host', () => {
  const [pod] = convertV1beta1({
    kind: 'Pod', apiVersion: 'v1beta1', id: 'p', labels: { a: 'b' },
    desiredState: {
      host: 'minion-1',
      manifest: {
        version: 'v1beta1', restartPolicy: { onFailure: {} }, volumes: [{ name: 'v', source: { hostDir: { path: '/data' } } }, { name: 'e' }],
        containers: [{
          name: 'c', image: 'i', entrypoint: ['/bin/x'], volumeMounts: [{ name: 'v', path: '/v' }], imagePullPolicy: 'PullNever', privileged: true,
          livenessProbe: { httpGet: { path: '/', port: '8080' }, initialDelaySeconds: 5 },
        }],
      },
    },
  } as never) as Pod[]
  const c = pod!.spec.containers[0]!
  assert.deepEqual([pod!.spec.nodeName, pod!.spec.restartPolicy, c.command, c.args], ['minion-1', 'OnFailure', ['/bin/x'], undefined])
  assert.deepEqual(pod!.spec.volumes, [{ name: 'v', hostPath: { path: '/data' } }, { name: 'e', emptyDir: {} }])
  assert.deepEqual([c.volumeMounts, c.imagePullPolicy, c.securityContext], [[{ name: 'v', mountPath: '/v' }], 'Never', { privileged: true }])
  assert.deepEqual(c.livenessProbe, { httpGet: { path: '/', port: 8080 }, initialDelaySeconds: 5 })
  const back = oldPod({ ...pod!, status: { phase: 'Pending', conditions: [{ type: 'Ready', status: 'False' }] } })
  assert.equal((back['currentState'] as { status: string }).status, 'Waiting')
  assert.deepEqual((back['currentState'] as { Condition: unknown }).Condition, [{ kind: 'Ready', status: 'None' }])
})

test('lists are taken apart, and what cannot be read is named', () => {
  assert.equal(convertV1beta1({ kind: 'ReplicationControllerList', apiVersion: 'v1beta1', items: [{ ...talk, kind: undefined }] } as never).length, 1)
  const field = (f: string) => (e: unknown) => e instanceof ApiError && e.reason === 'Invalid' && e.message.includes(f)
  assert.throws(() => convertV1beta1({ kind: 'Pod', desiredState: {} } as never), field('id'))
  assert.throws(() => convertV1beta1({ kind: 'Pod', id: 'x' } as never), field('desiredState.manifest.containers'))
  assert.throws(() => convertV1beta1({ kind: 'Endpoints', id: 'x', endpoints: ['nonsense'] } as never), field('endpoints'))
  assert.throws(() => convertV1beta1({ kind: 'Daemon', id: 'x' }), (e) => e instanceof ApiError && e.reason === 'BadRequest')
})
