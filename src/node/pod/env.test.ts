import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Container, Service } from '../../core/types/index.ts'
import { pod } from '../test-support/fakes.ts'
import { fieldText, resourceText } from './downward.ts'
import type { DownwardContext } from './downward.ts'
import { ConfigError, containerEnv, expand } from './env.ts'
import type { EnvSources } from './env.ts'

const downward = (spec = {}, metadata = {}): DownwardContext => ({
  pod: pod('p', spec, metadata), podIP: '10.42.0.9', hostIP: '192.0.2.1', nodeName: 'n1', allocatable: { cpu: '4', memory: '8Gi' },
})
const sources = (o: Partial<EnvSources> = {}): EnvSources => ({ configMap: () => undefined, secret: () => undefined, services: [], ...o })
const container = (o: Partial<Container>): Container => ({ name: 'c', image: 'i', ...o })

test('expansion: known names, unknown ones stay, doubled dollars are literal', () => {
  const values = new Map([['A', '1'], ['B', '2']])
  const cases: [string, string][] = [
    ['$(A)-$(B)', '1-2'], ['$(C)', '$(C)'], ['$$(A)', '$(A)'], ['$$$(A)', '$1'], ['$A', '$A'], ['$(A', '$(A'], ['100$', '100$'], ['$()', '$()'],
  ]
  for (const [text, expected] of cases) assert.equal(expand(text, values), expected, text)
})

test('env: later wins, references see what came before them', () => {
  const env = containerEnv(container({
    envFrom: [{ prefix: 'P_', configMapRef: { name: 'cm' } }, { secretRef: { name: 's' } }],
    env: [
      { name: 'X', value: '$(P_a)/$(LATER)' }, { name: 'LATER', value: 'l' }, { name: 'b', value: 'over' },
      { name: 'KEY', valueFrom: { secretKeyRef: { name: 's', key: 'b' } } },
      { name: 'ABSENT', valueFrom: { configMapKeyRef: { name: 'cm', key: 'nope', optional: true } } },
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
    ],
  }), sources({
    configMap: name => name === 'cm' ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { 'a': '1', 'not valid': 'x' } } : undefined,
    secret: name => ({ apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { b: Buffer.from('sécret').toString('base64') } }),
  }), downward())
  assert.deepEqual(Object.fromEntries(env), { P_a: '1', b: 'over', X: '1/$(LATER)', LATER: 'l', KEY: 'sécret', IP: '10.42.0.9' })
})

test('env: what is missing is named', () => {
  const cm = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'cm' }, data: {} }
  const one = (c: Partial<Container>) => () => containerEnv(container(c), sources({ configMap: n => n === 'cm' ? cm : undefined }), downward())
  assert.throws(one({ envFrom: [{ configMapRef: { name: 'gone' } }] }), new ConfigError('configmap "gone" not found'))
  assert.throws(one({ env: [{ name: 'X', valueFrom: { configMapKeyRef: { name: 'cm', key: 'k' } } }] }), new ConfigError('couldn\'t find key k in configmap "cm"'))
  assert.throws(one({ env: [{ name: 'X', valueFrom: { secretKeyRef: { name: 'gone', key: 'k' } } }] }), new ConfigError('secret "gone" not found'))
  assert.doesNotThrow(one({ envFrom: [{ secretRef: { name: 'gone', optional: true } }] }))
})

test('service links: docker-style variables, the API even without links', () => {
  const service = (name: string, namespace: string, clusterIP: string): Service => ({
    apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec: { clusterIP, ports: [{ name: 'main', port: 6379, protocol: 'TCP' }] },
  })
  const services = [service('kubernetes', 'default', '10.43.0.1'), service('my-redis', 'x', '10.43.0.7'), service('headless', 'x', 'None')]
  const linked = containerEnv(container({}), sources({ services }), downward())
  assert.equal(linked.get('MY_REDIS_SERVICE_HOST'), '10.43.0.7')
  assert.equal(linked.get('MY_REDIS_SERVICE_PORT_MAIN'), '6379')
  assert.equal(linked.get('MY_REDIS_PORT_6379_TCP'), 'tcp://10.43.0.7:6379')
  assert.equal(linked.has('HEADLESS_SERVICE_HOST'), false)
  const bare = containerEnv(container({}), sources({ services }), downward({ enableServiceLinks: false }))
  assert.equal(bare.get('KUBERNETES_SERVICE_HOST'), '10.43.0.1')
  assert.equal(bare.has('MY_REDIS_SERVICE_HOST'), false)
})

test('downward API: fields and resources', () => {
  const c = downward({ serviceAccountName: 'sa' }, { labels: { 'app.io/x': 'web', a: '"q"' } })
  const cases: [string, string][] = [
    ['metadata.name', 'p'], ['metadata.namespace', 'default'], ['metadata.uid', 'uid-p'], ['spec.nodeName', 'n1'], ['spec.serviceAccountName', 'sa'],
    ['status.hostIP', '192.0.2.1'], ["metadata.labels['app.io/x']", 'web'], ["metadata.annotations['none']", ''],
    ['metadata.labels', 'a="\\"q\\""\napp.io/x="web"'],
  ]
  for (const [path, expected] of cases) assert.equal(fieldText(path, c), expected, path)
  assert.throws(() => fieldText('spec.nope', c), /spec\.nope/)
  const limited = container({ resources: { limits: { cpu: '1500m', memory: '64Mi' }, requests: { cpu: '250m' } } })
  assert.equal(resourceText(limited, 'limits.cpu', undefined, c), '2')
  assert.equal(resourceText(limited, 'limits.cpu', '1m', c), '1500')
  assert.equal(resourceText(limited, 'requests.cpu', '1m', c), '250')
  assert.equal(resourceText(limited, 'limits.memory', '1Mi', c), '64')
  assert.equal(resourceText(limited, 'requests.memory', '1', c), String(64 << 20))
  assert.equal(resourceText(container({}), 'limits.cpu', undefined, c), '4')
  assert.equal(resourceText(container({}), 'requests.memory', undefined, c), '0')
})
