import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason } from '../errors.ts'
import { configMaps, deployments, pods, roles, secrets, services } from '../kinds.ts'
import type { Kind } from '../kinds.ts'
import { parseBody, validateShape } from './decode.ts'
import { kindTypes, typeOf } from './registry.ts'
import { parseYaml } from './yaml.ts'

const json = (value: unknown): Uint8Array => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
const shape = (kind: Kind, value: unknown, mode: 'Strict' | 'Warn' | 'Ignore' = 'Strict') =>
  validateShape(kind, structuredClone(value), mode)

test('unknown and duplicate members', () => {
  const body = parseBody(json('{"spec":{"replicas":1,"x":2,"replicas":3,"template":{"spec":{"containers":[{"nmae":"a"},{"name":"b","name":"c"}]}}}}'), 'application/json')
  assert.deepEqual(body.duplicates, ['spec.replicas', 'spec.template.spec.containers[1].name'])
  assert.throws(() => validateShape(deployments, structuredClone(body.value), 'Strict', body.duplicates), {
    reason: 'BadRequest',
    message: 'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.x", '
      + 'unknown field "spec.template.spec.containers[0].nmae", duplicate field "spec.replicas", duplicate field "spec.template.spec.containers[1].name"',
  })
  const warned = validateShape(deployments, structuredClone(body.value), 'Warn', body.duplicates)
  assert.deepEqual(warned.warnings[0], 'unknown field "spec.x"')
  assert.equal(warned.warnings.length, 4)
  assert.deepEqual(warned.object, {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: {},
    spec: { replicas: 3, template: { spec: { containers: [{}, { name: 'c' }] } } },
  })
  assert.deepEqual(validateShape(deployments, structuredClone(body.value), 'Ignore', body.duplicates).warnings, [])
})

test('wrong types name the field', () => {
  const cases: [unknown, RegExp][] = [
    [{ spec: { containers: 'x' } },
      /json: cannot unmarshal string into Go struct field Pod\.spec\.containers of type \[\]v1\.Container/],
    [{ spec: { containers: [1] } },
      /cannot unmarshal number into Go struct field Pod\.spec\.containers\[0\] of type v1\.Container/],
    [{ spec: { hostNetwork: 'yes' } }, /cannot unmarshal string .*Pod\.spec\.hostNetwork of type bool/],
    [{ spec: { priority: 1.5 } }, /cannot unmarshal number 1\.5 .*of type int32/],
    [{ spec: { priority: 2 ** 40 } }, /of type int32/],
    [{ metadata: { labels: { a: 1 } } }, /cannot unmarshal number .*metadata\.labels\.a of type string/],
    [{ metadata: [] }, /cannot unmarshal array .*Pod\.metadata of type v1\.ObjectMeta/],
    [{ metadata: { creationTimestamp: 'yesterday' } }, /cannot parse "yesterday"/],
    [{ spec: { containers: [{ resources: { limits: { cpu: '1 core' } } }] } },
      /spec\.containers\[0\]\.resources\.limits\.cpu: quantities must match/],
    [{ spec: { containers: [{ livenessProbe: { httpGet: { port: true } } }] } }, /bool .* of type intstr\.IntOrString/],
    [{ spec: { containers: [null], volumes: {} } }, /cannot unmarshal object .*spec\.volumes/],
    [{ metadata: { finalizers: [null] } }, /cannot unmarshal/],
    ['text', /json: cannot unmarshal string into Go value/],
    [[], /cannot unmarshal array/],
    [null, /cannot unmarshal null/],
    [{ kind: 'Service' }, /the kind in the data \(Service\) does not match/],
    [{ apiVersion: 'v2' }, /the API version in the data \(v2\) does not match the expected API version \(v1\)/],
  ]
  for (const [value, message] of cases) assert.throws(() => shape(pods, value), e => isReason(e, 'BadRequest')
    && message.test((e as Error).message), JSON.stringify(value))
  assert.throws(() => shape(secrets, { data: { a: 'not base64!' } }), /data\.a: illegal base64 data/)
})

test('values are normalised, nulls dropped', () => {
  const { object } = shape(pods, {
    metadata: { creationTimestamp: '2026-01-01T01:00:00+01:00', labels: null, annotations: { a: null, b: '' } },
    spec: { containers: [{ name: 'a', resources: { requests: { cpu: 1, memory: '1024Mi' } }, livenessProbe: null }] },
    status: null,
  })
  assert.deepEqual(object, {
    apiVersion: 'v1', kind: 'Pod', metadata: { creationTimestamp: '2026-01-01T00:00:00Z', annotations: { b: '' } },
    spec: { containers: [{ name: 'a', resources: { requests: { cpu: '1', memory: '1Gi' } } }] },
  })
})

test('a kind without a table keeps its members', () => {
  const kind = { apiVersion: 'example.org/v1', kind: 'Thing' }
  assert.deepEqual(validateShape(kind, { metadata: { name: 'x' }, spec: { anything: [1, null] } }, 'Strict').object,
    { apiVersion: 'example.org/v1', kind: 'Thing', metadata: { name: 'x' }, spec: { anything: [1, null] } })
  assert.throws(() => validateShape(kind, { metadata: { labels: 'x' } }, 'Strict'), { reason: 'BadRequest' })
})

test('broken bodies are BadRequest', () => {
  for (const text of ['', ' ', '{', '{"a":}', 'nope', '{"a":1}}', '\ufeff{', '['.repeat(300) + ']'.repeat(300),
    '{"a":'.repeat(5000)]) {
    assert.throws(() => parseBody(json(text), 'application/json'), e => isReason(e, 'BadRequest'), text.slice(0, 20))
  }
  assert.throws(() => parseBody(Uint8Array.of(0x7b, 0xff, 0x7d), undefined),
    { reason: 'BadRequest', message: 'the body is not valid UTF-8' })
  assert.throws(() => parseBody(json('{}'), 'text/html'), { reason: 'UnsupportedMediaType' })
  assert.deepEqual(parseBody(json('{}'), undefined).value, {})
  assert.deepEqual(parseBody(json('{"a":"\\"","\\u0061":1}'), 'application/json; charset=utf-8').duplicates, ['a'])
  const proto = parseBody(json('{"metadata":{"__proto__":{"x":1}},"__proto__":{"y":1}}'), undefined)
  const { object } = validateShape(configMaps, proto.value, 'Ignore')
  assert.equal(Object.hasOwn(object, '__proto__'), false)
  assert.equal((Object.prototype as { y?: number }).y, undefined)
})

test('YAML', () => {
  const parse = (text: string): unknown => parseBody(json(text), 'application/yaml').value
  assert.deepEqual(parse('a: 0644\nb: yes\nc: 12:30:45\nd: 2020-01-01\nn: y\nx: ~\ne: 1e3\n1: one\n'),
    { a: 420, b: true, c: '12:30:45', d: '2020-01-01', n: 'y', x: null, e: 1000, 1: 'one' })
  assert.deepEqual(parse('base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\n'), { base: { x: 1 }, use: { x: 1, y: 2 } })
  assert.deepEqual(parseYaml('a: 1\n---\n---\nb: 2\n').documents, [{ a: 1 }, { b: 2 }])
  assert.deepEqual(parseYaml('spec:\n  a: 1\n  a: 2\nl:\n- {x: 1, x: 2}\n').duplicates, ['spec.a', 'l[0].x'])
  const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]', ...'bcdefghi'.split('').map((c, i) =>
    `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]`)].join('\n')
  for (const text of [bomb, 'a: [', 'a: b: c', '\t- x', '*missing', '[', '['.repeat(5000), 'a: &a [*a]']) {
    assert.throws(() => parse(text), e => isReason(e, 'BadRequest'), text.slice(0, 20))
  }
  assert.throws(() => parse('a: 1\n---\nb: 1\n'), /2 YAML documents/)
})

/** Bodies that kubectl 1.35 sent: create deployment, role, secret, service nodeport. */
const KUBECTL = {
  deployment: 'azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErgBCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEoYBCAMSDAoKCgNhcHASA3dlYhpsChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkwSLgoFbmdpbngSBW5naW54KgAyCgoAEAAYUCIAKgBCAGoAcgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgAggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=',
  role: 'azhzAAokChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEgRSb2xlEikKEgoCcjESABoAIgAqADIAOABCABITCgNnZXQKBGxpc3QSABoEcG9kcxoAIgA=',
  secret: 'azhzAAoMCgJ2MRIGU2VjcmV0Eh4KEgoCczESABoAIgAqADIAOABCABIGCgFrEgF2GgAaACIA',
  service: 'azhzAAoNCgJ2MRIHU2VydmljZRJnCh0KAm5wEgAaACIAKgAyADgAQgBaCQoDYXBwEgJucBJCCh0KBzgwLTgwODASA1RDUBhQIgcIABCQPxoAKLHqARIJCgNhcHASAm5wGgAiCE5vZGVQb3J0OgBCAFIAWgBgAGgAGgIKABoAIgA=',
}
const PROTOBUF = 'application/vnd.kubernetes.protobuf'
const decode = (base64: string): unknown => parseBody(Buffer.from(base64, 'base64'), PROTOBUF).value

test('protobuf bodies of kubectl', () => {
  assert.deepEqual(decode(KUBECTL.deployment), {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', labels: { app: 'web' } },
    spec: {
      replicas: 3, selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'nginx', image: 'nginx',
        ports: [{ containerPort: 80 }] }] } },
    },
  })
  assert.deepEqual(decode(KUBECTL.role), {
    apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'Role', metadata: { name: 'r1' },
      rules: [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods'] }],
  })
  assert.deepEqual(decode(KUBECTL.secret), { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's1' }, data: { k: 'dg==' } })
  assert.deepEqual(decode(KUBECTL.service), {
    apiVersion: 'v1', kind: 'Service', metadata: { name: 'np', labels: { app: 'np' } },
    spec: { ports: [{ name: '80-8080', protocol: 'TCP', port: 80, targetPort: 8080, nodePort: 30001 }], selector: { app: 'np' },
      type: 'NodePort' },
  })
  for (const [kind, body] of [[deployments, KUBECTL.deployment], [roles, KUBECTL.role], [secrets, KUBECTL.secret],
    [services, KUBECTL.service]] as const) {
    assert.deepEqual(shape(kind, decode(body)).warnings, [])
  }
})

/** Length-delimited field, varint field. */
const part = (n: number, ...content: (number[] | string)[]): number[] => {
  const bytes = content.flatMap(c => typeof c === 'string' ? [...Buffer.from(c)] : c)
  return [...varint(n * 8 + 2), ...varint(bytes.length), ...bytes]
}
const varint = (n: number): number[] => n < 128 ? [n] : [(n % 128) | 128, ...varint(Math.floor(n / 128))]
const num = (n: number, value: number): number[] => [...varint(n * 8), ...varint(value)]
const envelope = (apiVersion: string, kind: string, raw: number[]): Buffer =>
  Buffer.from([0x6b, 0x38, 0x73, 0, ...part(1, part(1, apiVersion), part(2, kind)), ...part(2, raw)])
const decodeRaw = (apiVersion: string, kind: string, ...raw: number[][]): Record<string, unknown> =>
  parseBody(envelope(apiVersion, kind, raw.flat()), PROTOBUF).value as Record<string, unknown>

test('protobuf: zero is unset unless Go has a pointer', () => {
  assert.deepEqual(decodeRaw('apps/v1', 'Deployment', part(2, num(1, 0), num(5, 0), num(7, 0)))['spec'], { replicas: 0 })
  assert.deepEqual(decodeRaw('v1', 'DeleteOptions', num(1, 0), num(3, 0)),
    { apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, orphanDependents: false })
  const spec = decodeRaw('v1', 'Pod', part(2,
    part(1, part(1, 'v'), part(2, part(2, part(1, '')))), // emptyDir: {} inlined through VolumeSource
    part(2, part(1, 'c'), part(10, part(1, part(2, part(1, '/'), part(2, num(1, 1), part(3, 'http')))), num(2, 5)),
      part(8, part(1, part(1, 'cpu'), part(2, part(1, '1')))), part(15, num(2, 0))),
    num(4, 0)))['spec']
  assert.deepEqual(spec, {
    volumes: [{ name: 'v', emptyDir: {} }], terminationGracePeriodSeconds: 0,
    containers: [{
      name: 'c', livenessProbe: { httpGet: { path: '/', port: 'http' }, initialDelaySeconds: 5 },
        resources: { limits: { cpu: '1' } },
      securityContext: { privileged: false },
    }],
  })
  const lease = decodeRaw('coordination.k8s.io/v1', 'Lease',
    part(2, part(1, 'me'), num(2, 15), part(3, num(1, 1_700_000_000), num(2, 123_456_000))))
  assert.deepEqual(lease['spec'], { holderIdentity: 'me', leaseDurationSeconds: 15, acquireTime: '2023-11-14T22:13:20.123456Z' })
  assert.deepEqual(decodeRaw('v1', 'ConfigMap', part(2, part(1, 'k'), part(2, '')))['data'], { k: '' })
  assert.deepEqual(decodeRaw('v1', 'ConfigMap', part(99, 'from the future'), num(98, 5),
    part(2, part(1, 'k'), part(2, 'v')))['data'], { k: 'v' })
})

test('protobuf: garbage is BadRequest and never hangs', () => {
  const refused = (bytes: Uint8Array): void => {
    try {
      parseBody(bytes, PROTOBUF)
    } catch (e) {
      assert.ok(isReason(e, 'BadRequest'), String(e))
    }
  }
  assert.throws(() => parseBody(Buffer.from('{}'), PROTOBUF), { reason: 'BadRequest' })
  assert.throws(() => parseBody(envelope('v9', 'Nope', []), PROTOBUF), /no kind "Nope" is registered for version "v9"/)
  const whole = Buffer.from(KUBECTL.deployment, 'base64')
  for (let i = 0; i < whole.length; i++) {
    refused(whole.subarray(0, i))
    for (const x of [0x00, 0xff, 0x80, 0x0b]) {
      const copy = Buffer.from(whole)
      copy[i] = x
      refused(copy)
    }
  }
})

test('every kind of the tables is complete', () => {
  let fields = 0
  for (const message of kindTypes()) {
    assert.ok(message.fields.has('metadata') || message.name === 'DeleteOptions', message.name)
    fields += message.fields.size
  }
  assert.ok(fields > 80)
  const pod = typeOf('v1', 'Pod')?.fields.get('spec')?.message
  assert.equal(pod?.fields.get('containers')?.merge?.mergeKey, 'name')
  assert.deepEqual(pod?.fields.get('topologySpreadConstraints')?.mapKeys, ['topologyKey', 'whenUnsatisfiable'])
  assert.equal(typeOf('discovery.k8s.io/v1', 'EndpointSlice')?.fields.get('ports')?.message?.fields.get('port')?.pointer, true)
  assert.equal(typeOf('v1',
    'Endpoints')?.fields.get('subsets')?.message?.fields.get('ports')?.message?.fields.get('port')?.pointer, false)
})
