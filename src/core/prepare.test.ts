import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from './errors.ts'
import * as kinds from './kinds.ts'
import type { Kind } from './kinds.ts'
import { prepareBinding, prepareCreate, prepareStatusUpdate, prepareUpdate } from './prepare.ts'
import { clone } from './clone.ts'
import type { ApiObject, ConfigMap, Deployment, Pod, ReplicationController, Route, Secret, Service } from './types/index.ts'

let uuids = 0
const ctx = { now: new Date('2026-11-22T12:00:00.500Z'), uuid: () => `uid-${++uuids}`, random: (n: number) => 3 % n }

function create<T extends ApiObject>(kind: Kind<T>, object: unknown): T { return prepareCreate(kind, clone(object) as T, ctx) }

const podOf = (spec: object = {}, metadata: object = {}): object => ({
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'n', ...metadata },
    spec: { containers: [{ name: 'c', image: 'nginx:1' }], ...spec },
})
const deploymentOf = (spec: object = {}): object => ({
  apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'd', namespace: 'n' },
  spec: {
    selector: { matchLabels: { app: 'd' } },
    template: { metadata: { labels: { app: 'd' } }, spec: { containers: [{ name: 'c', image: 'nginx' }] } }, ...spec,
  },
})
const serviceOf = (spec: object = {}): object => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 's', namespace: 'n' },
  spec: { ports: [{ port: 80 }], ...spec } })

/** `field: message` of every cause. */
function causesOf(run: () => unknown): string[] {
  try {
    run()
  } catch (e) {
    assert.ok(e instanceof ApiError, String((e as Error).stack))
    assert.equal(e.reason, 'Invalid', e.message)
    return (e.details?.causes ?? []).map(c => `${c.field}: ${c.message}`)
  }
  return []
}

test('server-owned metadata of a new object', () => {
  const pod = create(kinds.pods, podOf({}, { uid: 'mine', creationTimestamp: '1999-01-01T00:00:00Z', generation: 7,
    deletionTimestamp: '1999-01-01T00:00:00Z', selfLink: '/x' }))
  assert.match(pod.metadata.uid ?? '', /^uid-/)
  assert.deepEqual({ ...pod.metadata, uid: '' }, { name: 'p', namespace: 'n', uid: '', creationTimestamp: '2026-11-22T12:00:00Z',
    generation: 1 })
  assert.equal(create(kinds.pods, podOf({}, { name: undefined, generateName: 'web-' })).metadata.name, 'web-fffff')
  assert.throws(() => create(kinds.pods, podOf({}, { resourceVersion: '5' })), { reason: 'BadRequest' })
  assert.equal(create(kinds.configMaps, { apiVersion: 'v1', kind: 'ConfigMap',
    metadata: { name: 'c', namespace: 'n' } }).metadata.generation, undefined)
  assert.deepEqual(causesOf(() => create(kinds.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'x', namespace: 'n' },
    spec: {} })),
    ['metadata.namespace: Forbidden: not allowed on this type'])
})

test("a Pod's defaults", () => {
  const pod = create(kinds.pods, podOf({
    containers: [{
      name: 'c', image: 'nginx', ports: [{ containerPort: 80 }], livenessProbe: { httpGet: { port: 80 } },
      resources: { limits: { cpu: '1000m', memory: '0.5Gi' } },
        env: [{ name: 'A', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
    }, { name: 'd', image: 'reg:5000/a@sha256:abc' }],
    volumes: [{ name: 'e' }, { name: 's', secret: { secretName: 'x' } },
      { name: 'p', projected: { sources: [{ serviceAccountToken: { path: 't' } }] } }],
    hostNetwork: true,
  }))
  assert.deepEqual(pod.spec, {
    restartPolicy: 'Always', dnsPolicy: 'ClusterFirst', terminationGracePeriodSeconds: 30, schedulerName: 'default-scheduler',
      securityContext: {},
    enableServiceLinks: true, serviceAccountName: 'default', priority: 0, preemptionPolicy: 'PreemptLowerPriority',
      hostNetwork: true,
    containers: [{
      name: 'c', image: 'nginx', imagePullPolicy: 'Always', terminationMessagePath: '/dev/termination-log',
        terminationMessagePolicy: 'File',
      ports: [{ containerPort: 80, protocol: 'TCP', hostPort: 80 }],
      livenessProbe: { httpGet: { port: 80, path: '/', scheme: 'HTTP' }, timeoutSeconds: 1, periodSeconds: 10,
        successThreshold: 1, failureThreshold: 3 },
      resources: { limits: { cpu: '1', memory: '512Mi' }, requests: { cpu: '1', memory: '512Mi' } },
      env: [{ name: 'A', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } }],
    }, {
      name: 'd', image: 'reg:5000/a@sha256:abc', imagePullPolicy: 'IfNotPresent', terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'File', resources: {},
    }],
    volumes: [
      { name: 'e', emptyDir: {} }, { name: 's', secret: { secretName: 'x', defaultMode: 420 } },
      { name: 'p', projected: { defaultMode: 420, sources: [{ serviceAccountToken: { path: 't', expirationSeconds: 3600 } }] } },
    ],
  })
  assert.deepEqual(pod.status, { phase: 'Pending', qosClass: 'Burstable' })
  assert.equal(create(kinds.pods, podOf()).status?.qosClass, 'BestEffort')
  const limits = { cpu: '1', memory: '1Gi' }
  assert.equal(create(kinds.pods, podOf({ containers: [{ name: 'c', image: 'x', resources: { limits } }] })).status?.qosClass,
    'Guaranteed')
  assert.equal(create(kinds.pods, { ...podOf(), status: { phase: 'Running', podIP: '1.2.3.4' } }).status?.podIP, undefined)
})

test('defaults of the other kinds', () => {
  const d = create(kinds.deployments, deploymentOf())
  assert.equal(d.spec.replicas, 1)
  assert.deepEqual(d.spec.strategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' } })
  assert.equal(d.spec.template.spec.containers[0]?.resources?.requests, undefined)
  const rc = create(kinds.replicationControllers, {
    apiVersion: 'v1', kind: 'ReplicationController', metadata: { name: 'rc', namespace: 'n' },
    spec: { template: { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'x' }] } } },
  }) as ReplicationController
  assert.deepEqual([rc.spec.selector, rc.metadata.labels, rc.spec.replicas], [{ a: 'b' }, { a: 'b' }, 1])
  const s = create(kinds.services, serviceOf({ sessionAffinity: 'ClientIP' }))
  assert.deepEqual(s.spec, {
    ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }], type: 'ClusterIP', sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 10800 } }, internalTrafficPolicy: 'Cluster',
  })
  const ns = create(kinds.namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'x' } })
  assert.deepEqual([ns.metadata.labels, ns.spec?.finalizers, ns.status],
    [{ 'kubernetes.io/metadata.name': 'x' }, ['kubernetes'], { phase: 'Active' }])
  const secret = create(kinds.secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace: 'n' },
    data: { a: 'eA==', b: 'eQ==' }, stringData: { a: 'ü' } }) as Secret
  assert.deepEqual([secret.type, secret.data, secret.stringData], ['Opaque', { a: 'w7w=', b: 'eQ==' }, undefined])
  assert.deepEqual(create(kinds.nodes, { apiVersion: 'v1', kind: 'Node', metadata: { name: 'x' }, spec: {},
    status: { capacity: { cpu: '1' } } }).status, { capacity: { cpu: '1' } })
})

test('what a Pod may not be', () => {
  const cases: [object, ...string[]][] = [
    [{ containers: [] }, 'spec.containers: Required value'],
    [{ containers: [{}] }, 'spec.containers[0].name: Required value', 'spec.containers[0].image: Required value'],
    [{ containers: [{ name: 'c', image: 'x' }, { name: 'c', image: 'x' }] }, 'spec.containers[1].name: Duplicate value: "c"'],
    [{ restartPolicy: 'Sometimes' },
      'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'],
    [{ containers: [{ name: 'c', image: 'x', ports: [{ containerPort: 70000 }] }] },
      'spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive'],
    [{ containers: [{ name: 'c', image: 'x', ports: [{ name: 'a', containerPort: 1 }, { name: 'a', containerPort: 2 }] }] },
      'spec.containers[0].ports[1].name: Duplicate value: "a"'],
    [{ containers: [{ name: 'c', image: 'x', env: [{ name: 'A=B', value: '' }] }] },
      /spec\.containers\[0\]\.env\[0\]\.name: Invalid value: "A=B"/.source],
    [{ containers: [{ name: 'c', image: 'x', resources: { requests: { cpu: '2' }, limits: { cpu: '1' } } }] },
      'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
    [{ containers: [{ name: 'c', image: 'x', resources: { limits: { cpu: 'lots' } } }] },
      'spec.containers[0].resources.limits[cpu]: Invalid value: "lots": must be a quantity',
      'spec.containers[0].resources.requests[cpu]'],
    [{ containers: [{ name: 'c', image: 'x', volumeMounts: [{ name: 'v', mountPath: '/a' }] }] },
      'spec.containers[0].volumeMounts[0].name: Not found: "v"'],
    [{ containers: [{ name: 'c', image: 'x', livenessProbe: {} }] },
      'spec.containers[0].livenessProbe: Required value: must specify a handler type'],
    [{ containers: [{ name: 'c', image: 'x', livenessProbe: { tcpSocket: { port: 1 }, successThreshold: 2 } }] },
      'spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1'],
    [{ initContainers: [{ name: 'i', image: 'x', readinessProbe: { exec: { command: ['a'] } } }] },
      'spec.initContainers[0].readinessProbe: Forbidden'],
    [{ volumes: [{ name: 'v', emptyDir: {}, hostPath: { path: '/x' } }] },
      'spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type'],
    [{ volumes: [{ name: 'v', hostPath: { path: '/a/../../etc' } }] },
      "spec.volumes[0].hostPath.path: Invalid value: \"/a/../../etc\": must not contain '..'"],
    [{ volumes: [{ name: 'v', configMap: { name: 'c', items: [{ key: 'k', path: '../x' }] } }] },
      "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'"],
    [{ tolerations: [{ operator: 'Equal' }] }, 'spec.tolerations[0].operator: Invalid value'],
    [{ priorityClassName: 'nope' }, 'spec.priorityClassName: Forbidden: no PriorityClass with name nope was found'],
    [{ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [] } } } },
      'nodeSelectorTerms: Required value'],
    [{ topologySpreadConstraints: [{ maxSkew: 0, topologyKey: 'z', whenUnsatisfiable: 'DoNotSchedule' }] },
      'maxSkew: Invalid value: 0: must be greater than zero'],
    [{ dnsPolicy: 'None' }, 'spec.dnsConfig.nameservers: Required value'],
  ]
  for (const [spec, ...expected] of cases) {
    const causes = causesOf(() => create(kinds.pods, podOf(spec)))
    assert.equal(causes.length, expected.length, `${JSON.stringify(spec)}: ${causes.join(' | ')}`)
    expected.forEach((text, i) => { assert.ok(causes[i]?.includes(text) || new RegExp(text).test(causes[i] ?? ''),
      `${causes[i]} lacks ${text}`) })
  }
  assert.throws(() => create(kinds.pods, podOf({ containers: [{ name: 'c' }] })), {
    message: 'Pod "p" is invalid: spec.containers[0].image: Required value', code: 422,
    details: { name: 'p', kind: 'Pod', causes: [{ reason: 'FieldValueRequired', message: 'Required value',
      field: 'spec.containers[0].image' }] },
  })
  assert.deepEqual(causesOf(() => create(kinds.pods, podOf({},
    { name: 'A', labels: { 'a b': 'c d' }, ownerReferences: [{ kind: 'X' }] }))).map(c => c.split(':')[0]),
    ['metadata.name', 'metadata.labels', 'metadata.labels', 'metadata.ownerReferences[0].apiVersion',
      'metadata.ownerReferences[0].name', 'metadata.ownerReferences[0].uid'])
})

test('what workloads, services and others may not be', () => {
  const first = (run: () => unknown): string => causesOf(run)[0] ?? 'nothing'
  assert.equal(first(() => create(kinds.deployments, deploymentOf({ selector: { matchLabels: { app: 'x' } } }))),
    'spec.template.metadata.labels: Invalid value: {"app":"d"}: `selector` does not match template `labels`')
  assert.equal(first(() => create(kinds.deployments, deploymentOf({ selector: undefined }))), 'spec.selector: Required value')
  assert.match(first(() => create(kinds.deployments, deploymentOf({ replicas: -1 }))), /^spec\.replicas: Invalid value: -1/)
  assert.match(first(() => create(kinds.deployments, deploymentOf({ strategy: { rollingUpdate: { maxSurge: 0,
    maxUnavailable: 0 } } }))), /may not be 0 when/)
  assert.match(first(() => create(kinds.deployments, deploymentOf({ strategy: { rollingUpdate: { maxSurge: 'x' } } }))),
    /valid percent string/)
  assert.match(first(() => create(kinds.deployments, deploymentOf({ strategy: { type: 'Recreate',
    rollingUpdate: { maxSurge: 1 } } }))), /^spec\.strategy\.rollingUpdate: Forbidden/)
  assert.equal(first(() => create(kinds.services, serviceOf({ ports: [] }))), 'spec.ports: Required value')
  assert.equal(first(() => create(kinds.services, serviceOf({ ports: [{ port: 1 }, { port: 2 }] }))),
    'spec.ports[0].name: Required value')
  assert.match(first(() => create(kinds.services, serviceOf({ ports: [{ name: 'a', port: 1 }, { name: 'b', port: 1 }] }))),
    /Duplicate value: "TCP\/1"/)
  assert.match(first(() => create(kinds.services, serviceOf({ clusterIP: 'x' }))), /valid IP address/)
  assert.deepEqual(causesOf(() => create(kinds.services, serviceOf({ ports: undefined, clusterIP: 'None' }))), [])
  const route = (spec: object): string => first(() => create(kinds.routes,
    { apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: { name: 'r', namespace: 'n' }, spec }))
  const backend = { service: { name: 's', port: 80 } }
  assert.equal(route({ host: 'a.example', backend }), 'nothing')
  assert.equal(route({ host: '*.example', backend: { selector: { matchLabels: { a: 'b' } }, port: 80 } }), 'nothing')
  assert.equal(route({ tcpPort: 5000, backend }), 'nothing')
  assert.match(route({ backend }), /^spec\.host: Required value/)
  assert.match(route({ host: 'a', tcpPort: 1, backend }), /^spec\.tcpPort: Forbidden/)
  assert.match(route({ host: 'a', backend: {} }), /^spec\.backend: Required value: must specify one of/)
  assert.match(route({ host: 'a', backend: { ...backend, selector: {} } }), /^spec\.backend\.selector: Forbidden/)
  assert.match(route({ host: 'a', backend: { selector: { matchLabels: { a: 'b' } } } }), /^spec\.backend\.port: Required/)
  assert.match(route({ host: 'a b', backend }), /^spec\.host: Invalid/)
  assert.match(route({ host: 'a', path: 'x y', backend }), /^spec\.path: Invalid/)
  assert.match(first(() => create(kinds.configMaps, { metadata: { name: 'c', namespace: 'n' }, data: { '../x': '' } })),
    /^data\[\.\.\/x\]: Invalid/)
  assert.match(first(() => create(kinds.roles, { metadata: { name: 'r', namespace: 'n' }, kind: 'Role',
    rules: [{ verbs: [] }] })), /^rules\[0\]\.verbs: Required/)
  assert.match(first(() => create(kinds.machines, { metadata: { name: 'm' }, spec: { podCIDR: '10.0.0.0' } })),
    /^spec\.podCIDR: Invalid/)
  assert.match(first(() => create(kinds.composeProjects, { metadata: { name: 'm', namespace: 'n' },
    spec: { services: { a: { image: 'x', links: { redis: 'redis' } } } } })), /Not found: "redis"/)
})

test('updates keep what the server owns, and count generations', () => {
  const old = create(kinds.deployments, deploymentOf()) as Deployment & { status?: object }
  old.metadata.resourceVersion = '5'
  old.status = { replicas: 1 }
  const before = clone(old)
  const same = prepareUpdate(kinds.deployments, clone(old), old, ctx)
  assert.equal(same.metadata.generation, 1)
  const labelled = clone(old)
  labelled.metadata.labels = { a: 'b' }
  labelled.status = { replicas: 99 }
  assert.equal(prepareUpdate(kinds.deployments, labelled, old, ctx).metadata.generation, 1)
  assert.deepEqual(labelled.status, { replicas: 1 })
  const scaled = prepareUpdate(kinds.deployments, { ...clone(deploymentOf({ replicas: 3 })) as Deployment }, old, ctx)
  assert.equal(scaled.metadata.generation, 2)
  assert.equal(scaled.metadata.uid, old.metadata.uid)
  assert.equal(scaled.metadata.creationTimestamp, old.metadata.creationTimestamp)
  assert.throws(() => prepareUpdate(kinds.deployments, { ...clone(old), metadata: { ...old.metadata, uid: 'other' } }, old, ctx),
    { reason: 'Conflict' })
  const reselected = clone(old)
  reselected.spec.selector.matchLabels = { app: 'e' }
  reselected.spec.template.metadata = { labels: { app: 'e' } }
  assert.deepEqual(causesOf(() => prepareUpdate(kinds.deployments, reselected, old, ctx)),
    ['spec.selector: Invalid value: {"matchLabels":{"app":"e"}}: field is immutable'])
  assert.deepEqual(old, before)
})

test('a Pod changes little', () => {
  const old = create(kinds.pods, podOf({ tolerations: [{ key: 'a', operator: 'Exists', effect: 'NoExecute' }],
    activeDeadlineSeconds: 100 }))
  const update = (change: (p: Pod) => void): string[] => causesOf(() => {
    const next = clone(old)
    change(next)
    prepareUpdate(kinds.pods, next, old, ctx)
  })
  assert.deepEqual(update(p => { p.spec.containers[0]!.image = 'nginx:2' }), [])
  assert.deepEqual(update(p => { p.spec.tolerations!.push({ key: 'b', operator: 'Exists' }) }), [])
  assert.deepEqual(update(p => { p.spec.activeDeadlineSeconds = 50 }), [])
  assert.match(update(p => { p.spec.activeDeadlineSeconds = 500 })[0] ?? '', /^spec\.activeDeadlineSeconds: Invalid/)
  assert.match(update(p => { p.spec.tolerations = [] })[0] ?? '', /^spec\.tolerations: Forbidden/)
  assert.match(update(p => { p.spec.containers[0]!.command = ['x'] })[0] ?? '',
    /^spec: Forbidden: pod updates may not change fields other than .*changed spec\.containers/)
  assert.match(update(p => { p.spec.containers.push({ name: 'z', image: 'x' }) })[0] ?? '',
    /containers may not be added or removed/)
  assert.match(update(p => { p.spec.nodeName = 'n2' })[0] ?? '', /^spec: Forbidden/)
  const bound = prepareBinding(kinds.pods, old, 'n1', ctx.now, old.metadata.uid)
  assert.equal(bound.spec.nodeName, 'n1')
  assert.deepEqual(bound.status?.conditions, [{ type: 'PodScheduled', status: 'True',
    lastTransitionTime: '2026-11-22T12:00:00Z' }])
  assert.equal(old.spec.nodeName, undefined)
  assert.throws(() => prepareBinding(kinds.pods, bound, 'n2', ctx.now), { reason: 'Conflict' })
  assert.throws(() => prepareBinding(kinds.pods, old, 'n2', ctx.now, 'other'), { reason: 'Conflict' })
  assert.throws(() => prepareBinding(kinds.pods, create(kinds.pods, podOf({ schedulingGates: [{ name: 'wait' }] })), 'n',
    ctx.now), /schedulingGates/)
})

test('immutable data, finalizers of a dying object, allocated fields', () => {
  const frozen = create(kinds.configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'n' },
    data: { a: '1' }, immutable: true }) as ConfigMap
  assert.deepEqual(causesOf(() => prepareUpdate(kinds.configMaps, { ...clone(frozen), data: { a: '2' } }, frozen, ctx)),
    ['data: Forbidden: field is immutable when `immutable` is set'])
  const dying = clone(frozen)
  dying.metadata.deletionTimestamp = '2026-11-22T12:00:00Z'
  dying.metadata.finalizers = ['x/y']
  const more = clone(dying)
  more.metadata.finalizers = ['x/y', 'x/z']
  delete more.metadata.deletionTimestamp
  assert.match(causesOf(() => prepareUpdate(kinds.configMaps, more, dying, ctx))[0] ?? '',
    /^metadata\.finalizers: Forbidden: no new finalizers/)
  const fewer = clone(dying)
  fewer.metadata.finalizers = []
  delete fewer.metadata.deletionTimestamp
  assert.equal(prepareUpdate(kinds.configMaps, fewer, dying, ctx).metadata.deletionTimestamp, '2026-11-22T12:00:00Z')

  const service = create(kinds.services, serviceOf({ type: 'NodePort' })) as Service
  service.spec.clusterIP = '10.43.0.7'
  service.spec.ports![0]!.nodePort = 30001
  const again = prepareUpdate(kinds.services, clone(serviceOf({ type: 'NodePort' })) as Service, service, ctx)
  assert.deepEqual([again.spec.clusterIP, again.spec.ports?.[0]?.nodePort, again.metadata.generation], ['10.43.0.7', 30001, 1])
  assert.match(causesOf(() => prepareUpdate(kinds.services, clone(serviceOf({ clusterIP: '10.43.0.8' })) as Service, service,
    ctx))[0] ?? '', /clusterIP: .*immutable/)
})

test('a status update takes nothing but the status', () => {
  const old = create(kinds.routes, { apiVersion: 'gantry.dev/v1', kind: 'Route', metadata: { name: 'r', namespace: 'n' },
    spec: { host: 'a', backend: { service: { name: 's', port: 1 } } } }) as Route
  const next = prepareStatusUpdate(kinds.routes, { ...clone(old), metadata: { ...old.metadata, labels: { x: 'y' } },
    spec: { ...old.spec, host: 'b' }, status: { url: 'http://a' } }, old)
  assert.deepEqual([next.spec.host, next.metadata.labels, next.status], ['a', undefined, { url: 'http://a' }])
  assert.equal(old.status, undefined)
  assert.throws(() => prepareStatusUpdate(kinds.routes, { ...old, metadata: { ...old.metadata, uid: 'z' } }, old),
    { reason: 'Conflict' })
})

test('misshapen objects of in-process callers end in ApiError', () => {
  const junk: unknown[] = [1, 'x', [], null, true, { a: 1 }, [[]], [null]]
  for (const kind of kinds.coreKinds) {
    for (const value of junk) {
      for (const field of ['spec', 'data', 'rules', 'subjects', 'subsets', 'endpoints']) {
        try {
          prepareCreate(kind, { apiVersion: kind.apiVersion, kind: kind.kind,
            metadata: { name: 'x', ...(kind.namespaced && { namespace: 'n' }) }, [field]: value } as ApiObject, ctx)
        } catch (e) {
          assert.ok(e instanceof ApiError, `${kind.kind} ${field} ${JSON.stringify(value)}: ${String((e as Error).stack)}`)
        }
      }
    }
  }
})
