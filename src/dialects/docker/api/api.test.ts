import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DockerError } from '../errors.ts'
import type { BuildRequest } from '../backend.ts'
import { FakeBackend, textOf } from './testing/fake-backend.ts'
import { served } from './testing/client.ts'

test('every answer bears the headers; ping, OPTIONS, unknown paths', async t => {
  const { call } = await served(t, new FakeBackend().backend)
  for (const method of ['GET', 'HEAD']) {
    const a = await call(method, '/_ping')
    assert.equal(a.status, 200)
    assert.equal(a.text, method === 'GET' ? 'OK' : '')
    const { server, ostype } = a.headers
    assert.deepEqual([a.headers['api-version'], server, ostype, a.headers['docker-experimental'], a.headers['builder-version'], a.headers['swarm']],
      ['1.50', 'Docker/28.2.2 (linux)', 'linux', 'false', '1', 'inactive'])
  }
  assert.equal((await call('OPTIONS', '/v1.41/containers/json')).status, 200)
  for (const [method, path] of [['GET', '/nothing'], ['POST', '/containers/json'], ['POST', '/session'], ['POST', '/grpc'], ['GET', '/%']] as const) {
    const a = await call(method, path)
    assert.deepEqual([a.status, a.json, a.headers['content-type'], a.headers['api-version']], [404, { message: 'page not found' }, 'application/json', '1.50'], path)
  }
})

test('version prefixes', async t => {
  const { call } = await served(t, new FakeBackend().backend)
  const version = (await call('GET', '/version')).json as { ApiVersion: string; MinAPIVersion: string; Components: { Details: { ApiVersion: string } }[] }
  assert.deepEqual([version.ApiVersion, version.MinAPIVersion, version.Components[0]!.Details.ApiVersion], ['1.50', '1.24', '1.50'])
  assert.equal((await call('GET', '/v1.24/containers/json')).status, 200)
  const old = await call('GET', '/v1.23/containers/json')
  assert.deepEqual([old.status, old.headers['content-type']], [400, 'text/plain; charset=utf-8'])
  assert.match(old.text, /^client version 1\.23 is too old/)
  assert.match(((await call('GET', '/v1.51/containers/json')).json as { message: string }).message, /^client version 1\.51 is too new/)
})

test('request bodies: type, trailing text, size, emptiness', async t => {
  const { call } = await served(t, new FakeBackend().backend)
  const refused = async (body: string, headers: Record<string, string>, text: RegExp) => {
    const a = await call('POST', '/containers/create', Buffer.from(body), headers)
    assert.equal(a.status, 400)
    assert.match((a.json as { message: string }).message, text)
  }
  const json = { 'Content-Type': 'application/json' }
  await refused('{"Image":"x"}', {}, /unsupported Content-Type header/)
  await refused('{"Image":"x"}', { 'Content-Type': 'text/plain' }, /unsupported Content-Type header \(text\/plain\)/)
  await refused('{"Image":"x"} {"a":"}"}', json, /unexpected content after JSON/)
  await refused('{"Image":', json, /invalid JSON/)
  await refused('{"HostConfig":{"Memory":"1"}}', json, /HostConfig\.Memory must be an integer/)
  await refused('', json, /config cannot be empty/)
  await refused(`{"Image":"${'x'.repeat(17 << 20)}"}`, json, /larger than/)
  assert.equal((await call('POST', '/containers/create', Buffer.from('{"Image":"x"}\n'), { 'Content-Type': 'application/json; charset=utf-8' })).status, 201)
})

test('routes: names with slashes, errors of the backend, absent parts', async t => {
  const asked: string[] = []
  const fake = new FakeBackend({
    images: {
      inspect: async ref => {
        asked.push(ref)
        throw new DockerError('not-found', `No such image: ${ref}`)
      },
    },
    volumes: { inspect: async () => { throw Object.assign(new Error('volume is in use'), { code: 'conflict' }) } },
  })
  const { call } = await served(t, fake.backend)
  const missing = await call('GET', '/v1.41/images/reg.example:5000/team%2Fweb:1/json')
  assert.deepEqual([missing.status, missing.json, asked], [404, { message: 'No such image: reg.example:5000/team/web:1' }, ['reg.example:5000/team/web:1']])
  assert.deepEqual((await call('GET', '/volumes/v')).status, 409, 'errors of lower rooms keep their meaning')
  assert.deepEqual((await call('GET', '/plugins')).json, [])
  assert.equal((await call('GET', '/plugins/x/json')).status, 404)
  for (const path of ['/services', '/nodes/x', '/swarm', '/secrets']) {
    const a = await call('GET', path)
    assert.equal(a.status, 503)
    assert.match((a.json as { message: string }).message, /^This node is not a swarm manager/)
  }
  assert.equal((await call('DELETE', '/containers/x/checkpoints/y')).status, 501)
  assert.deepEqual((await call('GET', '/containers/json?filters={"x":["y"]}')).json, { message: 'invalid filter \'x\'' })
})

test('starting: 304 when it runs, 400 with a body', async t => {
  const { call } = await served(t, new FakeBackend().backend)
  await call('POST', '/containers/create?name=a', { Image: 'x', Cmd: ['cat'] })
  assert.equal((await call('POST', '/containers/a/start', Buffer.from('{"a":"bcdef"}'))).status, 400)
  assert.equal((await call('POST', '/containers/a/start')).status, 204)
  const again = await call('POST', '/containers/a/start')
  assert.deepEqual([again.status, again.text], [304, ''])
})

test('wait sends its header before the end, and for old clients at the end', async t => {
  const fake = new FakeBackend()
  const { call, open } = await served(t, fake.backend)
  await call('POST', '/containers/create?name=a', { Image: 'x', Cmd: ['cat'] })
  await call('POST', '/containers/a/start')
  const res = await open('POST', '/containers/a/wait?condition=next-exit')
  assert.equal(res.statusCode, 200)
  const old = call('POST', '/v1.29/containers/a/wait')
  assert.equal(await Promise.race([old, delay(50, 'waiting')]), 'waiting')
  fake.find('a').exit(3)
  assert.deepEqual(JSON.parse(await textOf(res)), { StatusCode: 3 })
  assert.deepEqual((await old).json, { StatusCode: 3 })
  assert.equal((await call('POST', '/containers/a/wait?condition=soon')).status, 400)
})

test('progress: an error first is the status, an error later a line with its code', async t => {
  const fake = new FakeBackend({
    images: {
      async pull(reference, options, onMessage) {
        if (reference === 'none:1') throw new DockerError('not-found', 'no such thing')
        onMessage({ status: JSON.stringify({ reference, all: options.allTags, user: options.auth?.username }) })
        throw new Error('lost it')
      },
    },
    builds: { async build(_r, onMessage) {
      onMessage({ stream: 'Step 1/1' })
      throw Object.assign(new Error('The command \'x\' returned a non-zero code: 4'), { exitCode: 4 })
    } },
  })
  const { call } = await served(t, fake.backend)
  assert.equal((await call('POST', '/images/create?fromImage=none&tag=1')).status, 404)
  const auth = Buffer.from(JSON.stringify({ username: 'u?>', password: 'p' })).toString('base64url')
  const pulled = await call('POST', '/images/create?fromImage=host:5000/a&tag=sha256:12', undefined, { 'X-Registry-Auth': auth })
  assert.equal(pulled.status, 200)
  const lines = pulled.text.trim().split('\r\n').map(l => JSON.parse(l) as { status?: string; errorDetail?: unknown; error?: string })
  assert.deepEqual(JSON.parse(lines[0]!.status!), { reference: 'host:5000/a@sha256:12', all: false, user: 'u?>' })
  assert.deepEqual(lines[1], { errorDetail: { message: 'lost it' }, error: 'lost it' })
  assert.match((await call('POST', '/images/create?fromImage=host:5000/a', undefined, { 'X-Registry-Auth': '!!' })).text, /\\"all\\":true/)
  const built = (await call('POST', '/build', Buffer.from('x'))).text.trim().split('\r\n').map(l => JSON.parse(l) as { errorDetail?: unknown })
  assert.deepEqual(built[1]!.errorDetail, { code: 4, message: 'The command \'x\' returned a non-zero code: 4' })
})

test('a build\'s query becomes a request, its body the context', async t => {
  let seen: BuildRequest | undefined
  let context = ''
  const fake = new FakeBackend({ builds: { async build(request) {
    seen = request
    context = await textOf(request.context!)
  } } })
  const { call } = await served(t, fake.backend)
  const config = Buffer.from(JSON.stringify({ 'r.example': { username: 'u', password: 'p' } })).toString('base64url')
  const a = await call('POST', '/v1.41/build?t=a:1&t=b&rm=0&memory=5&shmsize=&buildargs={"A":"b","C":null}&labels={"l":"m"}'
    + '&ulimits=[{"Name":"nofile","Soft":1,"Hard":2}]&extrahosts=h:1.2.3.4', Buffer.from('the context'), { 'X-Registry-Config': config })
  assert.equal(a.status, 200)
  assert.equal(context, 'the context')
  assert.deepEqual([seen!.tags, seen!.removeIntermediate, seen!.memoryBytes, seen!.shmSizeBytes, seen!.buildArgs, seen!.ulimits, seen!.extraHosts, seen!.auths],
    [['a:1', 'b'], false, 5, undefined, { A: 'b', C: null }, [{ Name: 'nofile', Soft: 1, Hard: 2 }], ['h:1.2.3.4'], { 'r.example': { username: 'u', password: 'p' } }])
  assert.equal((await call('POST', '/build?version=2', Buffer.from('x'))).status, 400)
  assert.equal((await call('POST', '/build?labels=[', Buffer.from('x'))).status, 400)
})

test('a client that goes ends what was done for it', async t => {
  const ends: string[] = []
  const aborted = (what: string, signal: AbortSignal) => new Promise<void>(resolve => signal.addEventListener('abort', () => {
    ends.push(what)
    resolve()
  }))
  const fake = new FakeBackend({
    events: { async *subscribe(_o, signal) {
      await aborted('events', signal)
    } },
    containers: { stats: async () => (async function* () {
      try {
        while (true) {
          yield { name: 'x' } as never
          await delay(10)
        }
      } finally {
        ends.push('stats')
      }
    })() },
    builds: { build: async (_r, onMessage, signal) => {
      onMessage({ stream: 'x' })
      await aborted('build', signal)
    } },
  })
  const { open } = await served(t, fake.backend)
  for (const [method, path, what] of [['GET', '/events', 'events'], ['GET', '/containers/x/stats', 'stats'], ['POST', '/build', 'build']] as const) {
    const res = await open(method, path)
    assert.equal(res.statusCode, 200)
    res.destroy()
    while (!ends.includes(what)) await delay(5)
  }
})

test('archives: the stat in a header, compressed if the client takes it', async t => {
  const stat = { name: 'f', size: 3, mode: 0o644, mtime: '2026-01-01T00:00:00Z', linkTarget: '' }
  let put = ''
  const fake = new FakeBackend({ containers: {
    archiveStat: async () => stat,
    archiveGet: async () => ({ stat, tar: Readable.from([Buffer.from('tar')]) }),
    archivePut: async (_r, _p, tar) => { put = await textOf(tar) },
  } })
  const { call, open } = await served(t, fake.backend)
  const decode = (h: unknown) => JSON.parse(Buffer.from(String(h), 'base64').toString()) as unknown
  assert.deepEqual(decode((await call('HEAD', '/containers/x/archive?path=/f')).headers['x-docker-container-path-stat']), stat)
  assert.equal((await call('HEAD', '/containers/x/archive')).status, 400)
  const plain = await call('GET', '/containers/x/archive?path=/f')
  assert.deepEqual([plain.text, plain.headers['content-type'], decode(plain.headers['x-docker-container-path-stat'])], ['tar', 'application/x-tar', stat])
  const packed = await open('GET', '/containers/x/archive?path=/f', { headers: { 'Accept-Encoding': 'deflate;q=0, gzip' } })
  assert.equal(packed.headers['content-encoding'], 'gzip')
  const { createGunzip } = await import('node:zlib')
  assert.equal(await textOf(packed.pipe(createGunzip())), 'tar')
  assert.equal((await call('PUT', '/containers/x/archive?path=/', Buffer.from('abc'))).status, 200)
  assert.equal(put, 'abc')
})
