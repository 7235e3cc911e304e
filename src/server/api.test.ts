/** The API as a client sees it: a whole server over TLS, without controllers. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import { Agent, request } from 'node:https'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { encodingCount } from './cached.ts'
import { startTestServer } from './testing/start.ts'
import type { Answer, Anything, TestServer } from './testing/start.ts'

const CM = '/api/v1/namespaces/default/configmaps'
const merge = { 'Content-Type': 'application/merge-patch+json' }
let s: TestServer
before(async () => { s = await startTestServer() })
after(() => s.close())

function refused(a: Answer, code: number, reason: string, message: RegExp | string): void {
  assert.equal(a.body?.kind, 'Status', a.text)
  assert.deepEqual([a.status, a.body.code, a.body.reason], [code, code, reason], a.text)
  if (typeof message === 'string') assert.equal(a.body.message, message)
  else assert.match(a.body.message, message)
}

interface WatchEvent { type: string; object: Anything }

/** A watch whose events are taken one by one; `status` is that of the answer. */
async function watch(path: string): Promise<{ status: number; next(): Promise<WatchEvent | undefined>; stop(): void; text(): Promise<string> }> {
  const agent = new Agent({ ...s.admin })
  const res = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ host: '127.0.0.1', port: s.port, path, agent }, resolve).on('error', reject).end()
  })
  const lines = createInterface(res)[Symbol.asyncIterator]()
  return {
    status: res.statusCode!,
    async next() {
      const timer = setTimeout(() => res.destroy(new Error('no event within 5 s')), 5000)
      const { value, done } = await lines.next()
      clearTimeout(timer)
      return done ? undefined : JSON.parse(value) as WatchEvent
    },
    async text() {
      let all = ''
      for (let l = await lines.next(); !l.done; l = await lines.next()) all += l.value
      return all
    },
    stop: () => { res.destroy(); agent.destroy() },
  }
}

const shown = (e: WatchEvent | undefined): string => `${e?.type} ${e?.object.metadata.name}`

test('create, get, update, conflict, delete', async () => {
  const created = await s.call('POST', CM, { metadata: { name: 'a', uid: 'mine', creationTimestamp: '2000-01-01T00:00:00Z' }, data: { x: '1' } })
  assert.equal(created.status, 201)
  assert.equal(created.body.kind, 'ConfigMap')
  assert.match(created.body.metadata.uid, /^[0-9a-f-]{36}$/)
  assert.notEqual(created.body.metadata.creationTimestamp, '2000-01-01T00:00:00Z')
  assert.deepEqual((await s.call('GET', `${CM}/a`)).body, created.body)

  refused(await s.call('POST', CM, { metadata: { name: 'a' } }), 409, 'AlreadyExists', 'configmaps "a" already exists')
  const updated = await s.call('PUT', `${CM}/a`, { ...created.body, data: { x: '2' } })
  assert.equal(updated.status, 200)
  assert.ok(BigInt(updated.body.metadata.resourceVersion) > BigInt(created.body.metadata.resourceVersion))
  refused(await s.call('PUT', `${CM}/a`, { ...created.body, data: { x: '3' } }), 409, 'Conflict',
    'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again')
  refused(await s.call('PUT', `${CM}/a`, { ...updated.body, metadata: { ...updated.body.metadata, uid: 'other' } }), 409, 'Conflict', /UID in precondition/)

  const same = await s.call('PUT', `${CM}/a`, updated.body)
  assert.equal(same.body.metadata.resourceVersion, updated.body.metadata.resourceVersion, 'a write that changes nothing is none')

  const deleted = await s.call('DELETE', `${CM}/a`)
  assert.deepEqual([deleted.status, deleted.body.status, deleted.body.details.uid], [200, 'Success', created.body.metadata.uid])
  refused(await s.call('GET', `${CM}/a`), 404, 'NotFound', 'configmaps "a" not found')
  refused(await s.call('DELETE', `${CM}/a`), 404, 'NotFound', 'configmaps "a" not found')
})

test('generateName makes names; dry runs keep nothing', async () => {
  const names = await Promise.all(Array.from({ length: 20 }, async () => (await s.call('POST', CM, { metadata: { generateName: 'gen-' } })).body.metadata.name as string))
  assert.equal(new Set(names).size, 20)
  assert.ok(names.every(n => /^gen-[a-z0-9]{5}$/.test(n)))
  const dry = await s.call('POST', `${CM}?dryRun=All`, { metadata: { name: 'dry' } })
  assert.deepEqual([dry.status, dry.body.metadata.resourceVersion], [201, undefined])
  assert.equal((await s.call('GET', `${CM}/dry`)).status, 404)
  await s.call('DELETE', CM)
  assert.equal((await s.call('GET', CM)).body.items.length, 0)
})

test('what cannot be read is refused with a reason, and nothing is kept', async () => {
  refused(await s.call('POST', CM, '{"metadata":{"name":"x"'), 400, 'BadRequest', /not valid JSON/)
  refused(await s.call('POST', CM, ''), 400, 'BadRequest', /empty/)
  refused(await s.call('POST', CM, '[]'), 400, 'BadRequest', /cannot unmarshal array/)
  refused(await s.call('POST', CM, 'x', { 'Content-Type': 'text/plain' }), 415, 'UnsupportedMediaType', /accepted media types include/)
  refused(await s.call('POST', CM, { metadata: { name: 'x' }, data: { a: 1 } }), 400, 'BadRequest', /cannot unmarshal number/)
  refused(await s.call('POST', CM, { metadata: { name: 'X_Y' } }), 422, 'Invalid', /metadata\.name: Invalid value/)
  refused(await s.call('POST', CM, { kind: 'Pod', metadata: { name: 'x' } }), 400, 'BadRequest', /does not match the expected kind/)
  refused(await s.call('POST', CM, { apiVersion: 'v2', metadata: { name: 'x' } }), 400, 'BadRequest', /API version/)
  refused(await s.call('POST', CM, { metadata: { name: 'x', namespace: 'other' } }), 400, 'BadRequest', /namespace of the provided object does not match/)
  refused(await s.call('PUT', `${CM}/y`, { metadata: { name: 'x' } }), 400, 'BadRequest', /does not match the name on the URL/)
  refused(await s.call('POST', '/api/v1/namespaces/nowhere/configmaps', { metadata: { name: 'x' } }), 404, 'NotFound', 'namespaces "nowhere" not found')
  refused(await s.call('POST', `${CM}?fieldValidation=Strict`, { metadata: { name: 'x' }, dat: {} }), 400, 'BadRequest', /strict decoding error: unknown field "dat"/)
  refused(await s.call('POST', `${CM}?dryRun=Some`, { metadata: { name: 'x' } }), 400, 'BadRequest', /dryRun/)
  refused(await s.call('POST', `${CM}/x`, { metadata: { name: 'x' } }), 405, 'MethodNotAllowed', /does not allow this method/)
  refused(await s.call('POST', '/api/v1/configmaps', { metadata: { name: 'x' } }), 400, 'BadRequest', /namespace/)
  refused(await s.call('PATCH', `${CM}/x`, '{}', { 'Content-Type': 'application/json' }), 415, 'UnsupportedMediaType', /merge-patch/)
  refused(await s.call('GET', CM, undefined, { Accept: 'application/xml' }), 406, 'NotAcceptable', /media types/)
  refused(await s.call('GET', `${CM}?labelSelector=a%3D%3D%3Db`), 400, 'BadRequest', /label selector/)
  refused(await s.call('GET', `${CM}?fieldSelector=spec.x%3D1`), 400, 'BadRequest', 'field label not supported: spec.x')
  refused(await s.call('GET', `${CM}?limit=-1`), 400, 'BadRequest', /limit/)
  refused(await s.call('GET', `${CM}/%zz`), 400, 'BadRequest', /escape/)
  refused(await s.call('GET', '/apis/none.example/v1/things'), 404, 'NotFound', 'the server could not find the requested resource')
  refused(await s.call('GET', '/api/v1/namespaces/default/pods/x/nonsense'), 404, 'NotFound', /could not find/)
  assert.equal((await s.call('GET', CM)).body.items.length, 0)
})

test('a body of 10 MB is refused', async () => {
  const body = JSON.stringify({ metadata: { name: 'big' }, data: { x: 'y'.repeat(10 << 20) } })
  const a = await s.call('POST', CM, body).catch((e: Error) => e)
  // The server answers before it has read all: a client that is still sending sees the answer or a reset.
  if (!(a instanceof Error)) refused(a, 413, 'RequestEntityTooLarge', /limit is 3145728/)
  assert.equal((await s.call('GET', `${CM}/big`)).status, 404)
})

test('unknown fields are told as warnings', async () => {
  const a = await s.call('POST', CM, { metadata: { name: 'warned' }, dat: {} })
  assert.equal(a.status, 201)
  assert.match(String(a.headers['warning']), /^299 - "unknown field \\"dat\\""/)
  assert.equal(a.body.dat, undefined)
  await s.call('DELETE', `${CM}/warned`)
})

test('patches: merge with a stale revision, json test, apply that creates', async () => {
  await s.call('POST', CM, { metadata: { name: 'p' }, data: { a: '1' } })
  const merged = await s.call('PATCH', `${CM}/p`, { data: { a: null, b: '2' } }, merge)
  assert.deepEqual(merged.body.data, { b: '2' })
  refused(await s.call('PATCH', `${CM}/p`, { metadata: { resourceVersion: '1' }, data: { c: '3' } }, merge), 409, 'Conflict', /has been modified/)
  refused(await s.call('PATCH', `${CM}/none`, {}, merge), 404, 'NotFound', 'configmaps "none" not found')
  const bad = await s.call('PATCH', `${CM}/p`, [{ op: 'test', path: '/data/b', value: '9' }], { 'Content-Type': 'application/json-patch+json' })
  assert.equal(bad.status, 422)
  const apply = { 'Content-Type': 'application/apply-patch+yaml' }
  const text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: q}\ndata: {k: v}\n'
  refused(await s.call('PATCH', `${CM}/q`, text, apply), 422, 'Invalid', /fieldManager: Required/)
  assert.equal((await s.call('PATCH', `${CM}/q?fieldManager=m`, text, apply)).status, 201)
  const again = await s.call('PATCH', `${CM}/q?fieldManager=m`, text, apply)
  assert.equal(again.status, 200)
  assert.equal(again.body.metadata.resourceVersion, (await s.call('GET', `${CM}/q`)).body.metadata.resourceVersion)
  await s.call('DELETE', CM)
})

test('a hundred writers of one object: each patch lands', async () => {
  await s.call('POST', CM, { metadata: { name: 'hot' }, data: {} })
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => s.call('PATCH', `${CM}/hot`, { data: { [`k${i}`]: 'v' } }, merge)))
  assert.ok(answers.every(a => a.status === 200))
  assert.equal(Object.keys((await s.call('GET', `${CM}/hot`)).body.data).length, 100)
  await s.call('DELETE', `${CM}/hot`)
})

test('lists: selectors, pages of one state, bytes made once', async () => {
  await Promise.all(Array.from({ length: 25 }, (_, i) => s.call('POST', CM, { metadata: { name: `l${String(i).padStart(2, '0')}`, labels: { half: String(i % 2) } } })))
  assert.equal((await s.call('GET', `${CM}?labelSelector=half%3D1`)).body.items.length, 12)
  assert.deepEqual((await s.call('GET', `${CM}?fieldSelector=metadata.name%3Dl07`)).body.items.map((i: Anything) => i.metadata.name), ['l07'])

  const one = await s.call('GET', `${CM}?limit=10`)
  assert.equal(one.body.metadata.remainingItemCount, 15)
  await s.call('DELETE', `${CM}/l20`)
  await s.call('POST', CM, { metadata: { name: 'l99' } })
  const two = await s.call('GET', `${CM}?limit=10&continue=${one.body.metadata.continue}`)
  const three = await s.call('GET', `${CM}?limit=10&continue=${two.body.metadata.continue}`)
  assert.equal(three.body.metadata.continue, undefined)
  assert.equal(three.body.metadata.resourceVersion, one.body.metadata.resourceVersion)
  const names = [one, two, three].flatMap(a => a.body.items.map((i: Anything) => i.metadata.name as string))
  assert.deepEqual(names, Array.from({ length: 25 }, (_, i) => `l${String(i).padStart(2, '0')}`))
  refused(await s.call('GET', `${CM}?limit=10&continue=xxx`), 400, 'BadRequest', 'continue key is not valid')
  const lost = Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: 1, start: 'default/l05' })).toString('base64url')
  const expired = await s.call('GET', `${CM}?limit=10&continue=${lost}`)
  refused(expired, 410, 'Expired', /too old/)
  const rest = await s.call('GET', `${CM}?continue=${expired.body.metadata.continue}`)
  assert.equal(rest.body.items[0].metadata.name, 'l06')

  const first = await s.call('GET', CM)
  const before = encodingCount()
  assert.equal((await s.call('GET', CM)).text, first.text)
  assert.equal((await s.call('GET', `${CM}?labelSelector=half`)).body.items.length, 24)
  assert.equal(encodingCount(), before, 'no object was encoded again')
  await s.call('DELETE', CM)
})

test('tables and bare metadata', async () => {
  await s.call('POST', CM, { metadata: { name: 't' }, data: { a: '1', b: '2' } })
  const table = await s.call('GET', CM, undefined, { Accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' })
  assert.equal(table.body.kind, 'Table')
  assert.deepEqual(table.body.columnDefinitions.map((c: Anything) => c.name), ['Name', 'Data', 'Age'])
  assert.deepEqual(table.body.rows[0].cells.slice(0, 2), ['t', 2])
  assert.equal(table.body.rows[0].object.kind, 'PartialObjectMetadata')
  const partial = await s.call('GET', `${CM}/t`, undefined, { Accept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io' })
  assert.deepEqual([partial.body.kind, partial.body.metadata.name, partial.body.data], ['PartialObjectMetadata', 't', undefined])
  await s.call('DELETE', CM)
})

test('watch: resume, selection entered and left, deletion with its own revision', async t => {
  const { resourceVersion } = (await s.call('GET', CM)).body.metadata
  const w = await watch(`${CM}?watch=1&labelSelector=on%3Dyes&resourceVersion=${resourceVersion}`)
  const all = await watch(`${CM}?watch=1&resourceVersion=${resourceVersion}`)
  t.after(() => { w.stop(); all.stop() })
  await s.call('POST', CM, { metadata: { name: 'w' } })
  await s.call('PATCH', `${CM}/w`, { metadata: { labels: { on: 'yes' } } }, merge)
  await s.call('PATCH', `${CM}/w`, { data: { a: '1' } }, merge)
  const left = await s.call('PATCH', `${CM}/w`, { metadata: { labels: { on: 'no' } } }, merge)
  await s.call('DELETE', `${CM}/w`)
  assert.equal(shown(await w.next()), 'ADDED w')
  assert.equal(shown(await w.next()), 'MODIFIED w')
  const gone = await w.next()
  assert.deepEqual([gone!.type, gone!.object.metadata.labels.on, gone!.object.metadata.resourceVersion], ['DELETED', 'yes', left.body.metadata.resourceVersion])
  const types: string[] = []
  let last: WatchEvent | undefined
  for (let i = 0; i < 5; i++) types.push((last = await all.next())!.type)
  assert.deepEqual(types, ['ADDED', 'MODIFIED', 'MODIFIED', 'MODIFIED', 'DELETED'])
  assert.ok(BigInt(last!.object.metadata.resourceVersion) > BigInt(left.body.metadata.resourceVersion))

  const late = await watch(`${CM}?watch=1&resourceVersion=${left.body.metadata.resourceVersion}`)
  t.after(late.stop)
  assert.equal(shown(await late.next()), 'DELETED w')
})

test('watch: state first, WatchList, from the future, timeout', async t => {
  await s.call('POST', CM, { metadata: { name: 'one' } })
  const plain = await watch(`${CM}?watch=true`)
  const list = await watch(`${CM}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`)
  t.after(() => { plain.stop(); list.stop() })
  assert.equal(shown(await plain.next()), 'ADDED one')
  assert.equal(shown(await list.next()), 'ADDED one')
  const mark = await list.next()
  assert.equal(mark!.type, 'BOOKMARK')
  assert.equal(mark!.object.metadata.annotations['k8s.io/initial-events-end'], 'true')
  await s.call('DELETE', `${CM}/one`)
  assert.equal(shown(await list.next()), 'DELETED one')

  const future = await watch(`${CM}?watch=1&resourceVersion=999999`)
  assert.equal(future.status, 504)
  assert.equal(JSON.parse(await future.text()).details.causes[0].reason, 'ResourceVersionTooLarge')
  const short = await watch(`${CM}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1`)
  assert.equal((await short.next())!.type, 'BOOKMARK')
  assert.equal(await short.next(), undefined, 'the stream ended')
})

test('a watcher that does not read is cut off, and the others are not held up', async () => {
  const agent = new Agent({ ...s.admin })
  const res = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ host: '127.0.0.1', port: s.port, path: `${CM}?watch=1`, agent }, resolve).on('error', reject).end()
  })
  const cut = new Promise<Error>(resolve => res.on('error', resolve))
  res.socket.pause()
  await s.call('POST', CM, { metadata: { name: 'slow' } })
  const open = async (): Promise<number> => Number(/apiserver_watches (\d+)/.exec((await s.call('GET', '/metrics')).text)![1])
  assert.equal(await open(), 1)
  for (let i = 0; i < 40 && await open() > 0; i++) {
    assert.equal((await s.call('PATCH', `${CM}/slow`, { data: { x: String(i).padEnd(1 << 20, 'x') } }, merge)).status, 200)
  }
  assert.equal(await open(), 0)
  res.resume()
  res.socket.resume()
  assert.match((await cut).message, /aborted/)
  agent.destroy()
  await s.call('DELETE', `${CM}/slow`)
})

test('status is its own; scale; finalizers hold an object; generation counts', async () => {
  const path = '/apis/apps/v1/namespaces/default/replicasets'
  const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [{ name: 'c', image: 'i' }] } }
  const rs = (await s.call('POST', path, { metadata: { name: 'r', finalizers: ['x.example/hold'] }, spec: { replicas: 1, selector: { matchLabels: { a: 'b' } }, template } })).body
  assert.equal(rs.metadata.generation, 1)
  const status = (await s.call('PUT', `${path}/r/status`, { ...rs, spec: { ...rs.spec, replicas: 9 }, status: { replicas: 1 } })).body
  assert.deepEqual([status.spec.replicas, status.status.replicas, status.metadata.generation], [1, 1, 1])
  const spec = (await s.call('PUT', `${path}/r`, { ...status, spec: { ...rs.spec, replicas: 2 }, status: { replicas: 7 } })).body
  assert.deepEqual([spec.spec.replicas, spec.status.replicas, spec.metadata.generation], [2, 1, 2])
  const scale = await s.call('PUT', `${path}/r/scale`, { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name: 'r' }, spec: { replicas: 4 } })
  assert.deepEqual([scale.body.kind, scale.body.spec.replicas, scale.body.status.selector], ['Scale', 4, 'a=b'])
  assert.equal((await s.call('PATCH', `${path}/r/scale`, { spec: { replicas: 5 } }, merge)).body.spec.replicas, 5)
  refused(await s.call('PATCH', `${path}/r/scale`, { spec: { replicas: -1 } }, merge), 422, 'Invalid', /greater than or equal to 0/)

  const deleting = await s.call('DELETE', `${path}/r`)
  assert.equal(deleting.status, 200)
  assert.ok(deleting.body.metadata.deletionTimestamp)
  refused(await s.call('POST', path, { metadata: { name: 'r' }, spec: rs.spec }), 409, 'AlreadyExists', /object is being deleted/)
  await s.call('PATCH', `${path}/r`, { metadata: { finalizers: null } }, merge)
  assert.equal((await s.call('GET', `${path}/r`)).status, 404)
})

test('a bound Pod goes when its node says so; an unbound one at once; binding happens once', async () => {
  const path = '/api/v1/namespaces/default/pods'
  const spec = { containers: [{ name: 'c', image: 'i' }] }
  for (const name of ['bound', 'unbound']) assert.equal((await s.call('POST', path, { metadata: { name }, spec })).status, 201)
  assert.equal((await s.call('POST', `${path}/bound/binding`, { target: { name: 'n1' } })).status, 201)
  refused(await s.call('POST', `${path}/bound/binding`, { target: { name: 'n2' } }), 409, 'Conflict', /already assigned to node "n1"/)
  await s.call('DELETE', `${path}/unbound`)
  assert.equal((await s.call('GET', `${path}/unbound`)).status, 404)

  const going = (await s.call('DELETE', `${path}/bound`)).body.metadata
  assert.equal(going.deletionGracePeriodSeconds, 30)
  assert.equal((await s.call('DELETE', `${path}/bound`, { gracePeriodSeconds: 60 })).body.metadata.deletionGracePeriodSeconds, 30)
  assert.equal((await s.call('POST', `${path}/bound/eviction`, { apiVersion: 'policy/v1', kind: 'Eviction', deleteOptions: { gracePeriodSeconds: 5 } })).status, 201)
  assert.equal((await s.call('GET', `${path}/bound`)).body.metadata.deletionGracePeriodSeconds, 5)
  refused(await s.call('DELETE', `${path}/bound`, { gracePeriodSeconds: 0, preconditions: { uid: 'other' } }), 409, 'Conflict', /UID in precondition/)
  await s.call('DELETE', `${path}/bound`, { gracePeriodSeconds: 0, preconditions: { uid: going.uid } })
  assert.equal((await s.call('GET', `${path}/bound`)).status, 404)
})

test('a Pod gets its account, token and tolerations; a missing account is refused', async () => {
  const path = '/api/v1/namespaces/default/pods'
  const { spec } = (await s.call('POST', `${path}?dryRun=All`, { metadata: { name: 'x' }, spec: { containers: [{ name: 'c', image: 'i' }] } })).body
  assert.equal(spec.serviceAccountName, 'default')
  assert.match(spec.volumes[0].name, /^kube-api-access-/)
  assert.equal(spec.containers[0].volumeMounts[0].mountPath, '/var/run/secrets/kubernetes.io/serviceaccount')
  assert.equal(spec.tolerations.length, 2)
  refused(await s.call('POST', path, { metadata: { name: 'x' }, spec: { serviceAccountName: 'nobody', containers: [{ name: 'c', image: 'i' }] } }), 403, 'Forbidden', /serviceaccount "nobody" not found/)
})

test('who creates a Pod owns what was asked for, not what the server adds', async () => {
  const { body } = await s.call('POST', '/api/v1/namespaces/default/pods', {
    metadata: { name: 'owned', labels: { app: 'x' } }, spec: { containers: [{ name: 'c', image: 'i' }] }, status: { phase: 'Running' },
  }, { 'User-Agent': 'someone/1' })
  const [entry, ...others] = body.metadata.managedFields
  assert.deepEqual([entry.manager, entry.operation, others], ['someone', 'Update', []])
  assert.deepEqual(Object.keys(entry.fieldsV1), ['f:metadata', 'f:spec'])
  assert.deepEqual(entry.fieldsV1['f:metadata'], { 'f:labels': { 'f:app': {}, '.': {} } })
  const container = entry.fieldsV1['f:spec']['f:containers']['k:{"name":"c"}']
  assert.ok('f:image' in container)
  assert.ok(body.spec.containers[0].volumeMounts.length === 1 && !('f:volumeMounts' in container))
  assert.ok(body.spec.tolerations.length === 2 && !('f:volumes' in entry.fieldsV1['f:spec']) && !('f:tolerations' in entry.fieldsV1['f:spec']))
})

test('namespaces: label, finalizer, termination', async () => {
  const made = (await s.call('POST', '/api/v1/namespaces', { metadata: { name: 'n' } })).body
  assert.deepEqual([made.metadata.labels['kubernetes.io/metadata.name'], made.spec.finalizers, made.status.phase], ['n', ['kubernetes'], 'Active'])
  assert.equal((await s.call('GET', '/api/v1/namespaces/n/configmaps/kube-root-ca.crt')).status, 200)
  const going = (await s.call('DELETE', '/api/v1/namespaces/n')).body
  assert.equal(going.status.phase, 'Terminating')
  const late = await s.call('POST', '/api/v1/namespaces/n/configmaps', { metadata: { name: 'late' } })
  refused(late, 403, 'Forbidden', /is being terminated/)
  assert.equal(late.body.details.causes[0].reason, 'NamespaceTerminating')
  await s.call('PUT', '/api/v1/namespaces/n/finalize', { ...going, spec: {} })
  assert.equal((await s.call('GET', '/api/v1/namespaces/n')).status, 404)
  refused(await s.call('DELETE', '/api/v1/namespaces/default'), 403, 'Forbidden', /may not be deleted/)
})

test('who shows nothing is refused, but for health and version; HTTP/2 works', async () => {
  const agent = new Agent({ ca: s.admin.ca })
  const anonymous = (path: string): Promise<number> => new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: s.port, path, agent }, res => { res.resume(); resolve(res.statusCode!) }).on('error', reject).end()
  })
  assert.deepEqual([await anonymous(CM), await anonymous('/livez'), await anonymous('/version'), await anonymous('/metrics')], [401, 200, 200, 401])
  agent.destroy()

  const session = connect(`https://127.0.0.1:${s.port}`, { ...s.admin })
  const answer = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': CM, 'content-type': 'application/json' })
    let status = 0
    let text = ''
    stream.on('response', h => { status = h[':status']! })
    stream.on('data', (c: Buffer) => { text += c })
    stream.on('end', () => resolve({ status, text }))
    stream.on('error', reject)
    stream.end(JSON.stringify({ metadata: { name: 'h2' } }))
  })
  assert.equal(answer.status, 201, answer.text)
  session.close()
  await s.call('DELETE', `${CM}/h2`)
})

test('discovery has ETags; a large list is compressed when asked; metrics count', async () => {
  const v1 = await s.call('GET', '/api/v1')
  assert.equal((await s.call('GET', '/api/v1', undefined, { 'If-None-Match': String(v1.headers['etag']) })).status, 304)
  const aggregated = await s.call('GET', '/apis', undefined, { Accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json' })
  assert.match(String(aggregated.headers['content-type']), /as=APIGroupDiscoveryList/)
  assert.equal(aggregated.body.kind, 'APIGroupDiscoveryList')
  await s.call('POST', CM, { metadata: { name: 'fat' }, data: { x: 'y'.repeat(300_000) } })
  assert.equal((await s.call('GET', CM, undefined, { 'Accept-Encoding': 'gzip' })).headers['content-encoding'], 'gzip')
  assert.equal((await s.call('GET', CM)).headers['content-encoding'], undefined)
  assert.match((await s.call('GET', '/metrics')).text, /apiserver_request_total\{verb="create",resource="configmaps",code="201"\} \d+/)
  await s.call('DELETE', CM)
})

test('after a restart all is there, revisions go on, and Secrets were never on disk in the clear', async () => {
  const secret = 'correct-horse-battery-staple'
  const path = '/api/v1/namespaces/default/secrets'
  const made = await s.call('POST', path, { metadata: { name: 'sec' }, stringData: { password: secret } })
  assert.equal(Buffer.from(made.body.data.password, 'base64').toString(), secret)
  const plain = await s.call('POST', CM, { metadata: { name: 'open' }, data: { a: secret } })
  const w = await watch(`${CM}?watch=1&resourceVersion=${plain.body.metadata.resourceVersion}`)
  const ended = w.next()
  await s.restart()
  assert.equal(await ended, undefined, 'the watch was ended, not cut')
  const files = Buffer.concat(['state.db', 'state.db-wal'].map(f => { try { return readFileSync(join(s.dir, f)) } catch { return Buffer.alloc(0) } }))
  assert.ok(files.includes(`"a":"${secret}"`), 'the ConfigMap is in the file as it is')
  assert.ok(!files.includes(made.body.data.password) && !files.includes(`"password":"${secret}"`))
  assert.deepEqual((await s.call('GET', `${path}/sec`)).body, made.body)
  const again = await watch(`${CM}?watch=1&resourceVersion=${plain.body.metadata.resourceVersion}`)
  assert.equal(again.status, 200, 'an informer that was up to date resumes')
  again.stop()
  const old = await watch(`${CM}?watch=1&resourceVersion=1`)
  assert.equal(old.status, 410)
  assert.equal(JSON.parse(await old.text()).reason, 'Expired')
  const next = await s.call('PATCH', `${CM}/open`, { data: { b: '1' } }, merge)
  assert.ok(BigInt(next.body.metadata.resourceVersion) > BigInt(plain.body.metadata.resourceVersion))
})
