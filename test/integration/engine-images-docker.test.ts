/** Docker's image calls on a real containerd, against Debian's docker-registry (open, with passwords, with tokens) and hostile ones. */
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createServer as createHttp } from 'node:http'
import type { RequestListener } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { extract, pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { createImages } from '../../src/dialects/docker/local/images.ts'
import type { LocalImages } from '../../src/dialects/docker/local/images.ts'
import type { Parts } from '../../src/dialects/docker/local/parts.ts'
import type { AuthConfig, JsonMessage } from '../../src/dialects/docker/model.ts'
import { DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST } from '../../src/engine/images/media-types.ts'
import { contextOf } from './engine-build-support.ts'
import { IMAGE, TestMachine } from './engine-support.ts'

const m = new TestMachine()
const processes: ChildProcess[] = []
const users = new Map<string, { id: string; name: string; running: boolean }[]>()
const events: string[] = []
let images: LocalImages
let open = ''
let basic = ''

before(async () => {
  await m.start()
  images = createImages({
    engine: m.engine, events: { emit: (_type, action, id) => { events.push(`${action} ${id.replace(/^(sha256:\w{4})\w+$/, '$1')}`) } },
  } as Partial<Parts> as Parts, { byImage: id => users.get(id) ?? [], nameOf: () => undefined })
  open = await registry('open')
  const htpasswd = join(m.dir, 'htpasswd')
  // bob:secret, bcrypt.
  writeFileSync(htpasswd, 'bob:$2y$05$hSP0sL8O5vZJSFK/ccqplOuot5xpbl2aHePXem.ipyEorQblh3eHq\n')
  basic = await registry('basic', `auth: {htpasswd: {realm: test, path: ${htpasswd}}}\n`)
})

after(async () => {
  for (const p of processes) p.kill()
  await m.stop()
})

async function registry(name: string, more = ''): Promise<string> {
  const port = await new Promise<number>((resolve) => {
    const s = createServer().listen(0, '127.0.0.1', () => {
      const free = (s.address() as AddressInfo).port
      s.close(() => { resolve(free) })
    })
  })
  const host = `127.0.0.1:${port}`
  const config = join(m.dir, `${name}.yml`)
  writeFileSync(config, `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${join(m.dir, name)}}}\nhttp: {addr: "${host}"}\n${more}`)
  processes.push(spawn('docker-registry', ['serve', config], { stdio: 'ignore' }))
  for (let n = 0; !await fetch(`http://${host}/v2/`).then(() => true, () => false); n++) {
    assert.ok(n < 100, 'docker-registry does not answer')
    await new Promise((r) => setTimeout(r, 100))
  }
  return host
}

async function fake(handler: RequestListener): Promise<string> {
  const server = createHttp(handler).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  after(() => { server.closeAllConnections(); server.close() })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const never = new AbortController().signal
const line = (j: JsonMessage): string => `${j.id === undefined ? '' : `${j.id}: `}${j.status ?? j.stream ?? JSON.stringify(j.aux)}`
/** Without counters, which depend on the time. */
async function lines(work: (say: (j: JsonMessage) => void) => Promise<unknown>): Promise<string[]> {
  const out: string[] = []
  await work((j) => { if (j.progressDetail?.current === undefined) out.push(line(j)) })
  return out
}
const pull = (ref: string, auth?: AuthConfig, more: { platform?: string; allTags?: boolean } = {}) =>
  lines((say) => images.pull(ref, { allTags: false, ...more, ...(auth === undefined ? {} : { auth }) }, say, never))
const push = (name: string, tag?: string, auth?: AuthConfig) =>
  lines((say) => images.push(name, { ...(tag === undefined ? {} : { tag }), ...(auth === undefined ? {} : { auth }) }, say, never))
const fails = (work: Promise<unknown>, kind: string, message: string | RegExp): Promise<void> => assert.rejects(work, (e: unknown): true => {
  assert.ok(e instanceof Error)
  assert.equal((e as Error & { kind?: string }).kind, kind, String(e.stack))
  if (typeof message === 'string') assert.equal(e.message, message)
  else assert.match(e.message, message)
  return true
})

function tarOf(files: Record<string, string>): Readable {
  const tar = pack()
  for (const [name, text] of Object.entries(files)) tar.entry({ name }, text)
  tar.finalize()
  return Readable.from(tar)
}

/** Nothing half-done: no lease, no active snapshot, no upload. */
function assertClean(): void {
  assert.equal(m.ctr('leases', 'ls', '-q').trim(), '')
  assert.doesNotMatch(m.ctr('snapshots', 'ls'), /Active|View/)
  assert.equal(m.ctr('content', 'active').trim().split('\n').length, 1)
}

test('import with changes, inspect, history, list; sizes are those of the files', async () => {
  const out = await lines((say) => images.import(tarOf({ a: 'x'.repeat(1000), b: 'y'.repeat(234) }), {
    repo: 'bb', tag: '1', message: 'hello', changes: ['CMD ["sh"]', 'ENV A=b', 'EXPOSE 80', 'LABEL l=1'],
  }, say))
  const image = await images.inspect('bb:1')
  assert.deepEqual(out, [image.Id])
  assert.deepEqual([image.RepoTags, image.RepoDigests, image.Comment, image.Size, image.Parent], [['bb:1'], [], 'hello', 1234, ''])
  assert.deepEqual([image.Config.Cmd, image.Config.Env, image.Config.ExposedPorts, image.Config.Labels], [['sh'], ['A=b'], { '80/tcp': {} }, { l: '1' }])
  assert.equal(image.ContainerConfig.Hostname, '')
  assert.deepEqual((await images.history('bb:1')).map((h) => [h.Id, h.Tags, h.Size, h.Comment]), [[image.Id, ['bb:1'], 1234, 'hello']])
  const [row] = await images.list({ all: false, sharedSize: true, filters: { reference: ['bb'] } })
  assert.deepEqual([row!.Id, row!.RepoTags, row!.Size, row!.SharedSize, row!.Containers], [image.Id, ['bb:1'], 1234, 0, -1])
  for (const bad of ['RUN x', 'FOO x']) await fails(images.import(tarOf({ a: '' }), { changes: [bad] }, () => undefined), 'invalid', /./)
  await fails(images.inspect('nope'), 'not-found', 'No such image: nope:latest')
  await fails(images.tag('bb:1', 'UPPER'), 'invalid', 'invalid reference format: repository name must be lowercase')
  assert.ok(events.some((e) => e.startsWith('import sha256:')))
})

test('filters of the list', async () => {
  await images.tag('bb:1', 'team/bb', 'two')
  const list = async (filters: Record<string, string[]>, all = false) => (await images.list({ all, sharedSize: false, filters })).flatMap((i) => i.RepoTags)
  assert.deepEqual(await list({ reference: ['team/*'] }), ['team/bb:two'])
  assert.deepEqual(await list({ reference: ['b?:1'] }), ['bb:1'])
  assert.deepEqual(await list({ label: ['l=1'] }), ['bb:1', 'team/bb:two'])
  assert.deepEqual(await list({ 'label!': ['l'] }), [IMAGE])
  assert.deepEqual(await list({ since: [IMAGE] }), ['bb:1', 'team/bb:two'])
  assert.deepEqual(await list({ before: ['bb:1'] }), [IMAGE])
  assert.deepEqual(await list({ dangling: ['true'] }), [])
  await fails(list({ dangling: ['maybe'] }), 'invalid', "invalid filter 'dangling=[maybe]'")
  await fails(list({ before: ['nope'] }), 'not-found', 'No such image: nope:latest')
})

test('push, mounts and pull, in Docker\'s lines', async () => {
  const app = `${open}/team/app`
  for (const tag of ['1', '2']) await images.tag('bb:1', app, tag)
  const { RootFS } = await images.inspect('bb:1')
  const layer = RootFS.Layers[0]!.slice(7, 19)
  const first = await push(app, '1')
  assert.deepEqual(first.slice(0, 2), [`The push refers to repository [${app}]`, `${layer}: Preparing`])
  assert.equal(first[2], `${layer}: Pushed`)
  const [, digest, size] = /^1: digest: (sha256:\w{64}) size: (\d+)$/.exec(first[3]!)!
  assert.equal(first[4], JSON.stringify({ Tag: '1', Digest: digest, Size: Number(size) }))
  const all = await push(app)
  assert.deepEqual(all.filter((l) => l.includes('exists')).length, 2)
  assert.deepEqual(all.filter((l) => / digest: /.test(l)).map((l) => l.split(' ')[2]), [digest, digest])
  await images.tag('bb:1', `${open}/team/sib`, '1')
  assert.ok((await push(`${open}/team/sib`, '1')).includes(`${layer}: Mounted from team/app`))
  assert.deepEqual((await images.inspect('bb:1')).RepoDigests, [`${app}@${digest}`, `${open}/team/sib@${digest}`])
  await fails(push(`${open}/team/none`, '1'), 'not-found', `An image does not exist locally with the tag: ${open}/team/none`)

  // What any client can read: gzip.
  const manifest = await (await fetch(`http://${open}/v2/team/app/manifests/1`, { headers: { accept: 'application/vnd.oci.image.manifest.v1+json' } })).json() as {
    layers: { digest: string; mediaType: string }[]
  }
  assert.match(manifest.layers[0]!.mediaType, /gzip$/)
  const blob = Buffer.from(await (await fetch(`http://${open}/v2/team/app/blobs/${manifest.layers[0]!.digest}`)).arrayBuffer())
  const plain = execFileSync('gzip', ['-dc'], { input: blob, maxBuffer: 1 << 30 })
  assert.equal(`sha256:${createHash('sha256').update(plain).digest('hex')}`, RootFS.Layers[0])

  assert.deepEqual(await pull(`${app}:1`), ['1: Pulling from team/app', `Digest: ${digest}`, `Status: Image is up to date for ${app}:1`])
  const whole = await images.list({ all: true, sharedSize: false, filters: {} })
  for (const i of whole) if (!i.RepoTags.includes(IMAGE)) await images.remove(i.Id, { force: true, noPrune: false })
  const short = manifest.layers[0]!.digest.slice(7, 19)
  assert.deepEqual(await pull(`${app}:1`), [
    '1: Pulling from team/app', `${short}: Pulling fs layer`, `${short}: Verifying Checksum`, `${short}: Download complete`, `${short}: Pull complete`,
    `Digest: ${digest}`, `Status: Downloaded newer image for ${app}:1`,
  ])
  assert.equal((await images.inspect(`${app}:1`)).Size, 1234)
  assert.deepEqual((await pull(app, undefined, { allTags: true })).at(-1), `Status: Downloaded newer image for ${app}`)
  assert.deepEqual((await images.inspect(`${app}@${digest}`)).RepoTags, [`${app}:1`, `${app}:2`])
  await fails(pull(`${app}:9`), 'not-found', `manifest for ${app}:9 not found: manifest unknown: manifest unknown`)
  await fails(pull('127.0.0.1:1/x:1'), 'failed', 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused')
  await fails(pull(`${app}:1`, undefined, { platform: 'linux/arm64' }), 'not-found', /does not match the specified platform: wanted linux\/arm64, actual: linux\/amd64/)
  assert.deepEqual((await images.distribution(`${app}:1`)).Platforms, [{ architecture: 'amd64', os: 'linux' }])
  assert.deepEqual((await images.search(`${open}/app`, { filters: {} })).map((r) => r.name), [`${open}/team/app`])
  assertClean()
})

test('passwords: login, push and pull with, without and with wrong ones', async () => {
  const name = `${basic}/a/b`
  await images.tag(IMAGE, name, '1')
  const good = { username: 'bob', password: 'secret' }
  const wrong = { username: 'bob', password: 'no' }
  await fails(push(name, '1'), 'failed', 'no basic auth credentials')
  await fails(push(name, '1', wrong), 'failed', 'unauthorized: authentication required')
  await push(name, '1', good)
  await fails(pull(`${name}:1`), 'failed', `Head "http://${basic}/v2/a/b/manifests/1": no basic auth credentials`)
  await fails(pull(`${name}:1`, wrong), 'failed', 'unauthorized: authentication required')
  assert.match((await pull(`${name}:1`, good)).at(-1)!, /up to date/)
  assert.deepEqual(await images.login({ ...good, serveraddress: basic }), { Status: 'Login Succeeded', IdentityToken: '' })
  await fails(images.login({ ...wrong, serveraddress: basic }), 'unauthorized', `login attempt to http://${basic}/v2/ failed with status: 401 Unauthorized`)
  await fails(images.distribution(`${name}:1`, wrong), 'unauthorized', 'unauthorized: authentication required')
})

test('tokens: a login gives an identity token, which buys tokens later', async () => {
  const asked: string[] = []
  const tokens = await fake((req, res) => {
    void buffer(req).then((body) => {
      const url = new URL(req.url!, 'http://x')
      asked.push(`${req.method} ${req.method === 'POST' ? body.toString() : url.search}`)
      const form = new URLSearchParams(body.toString())
      const known = req.headers.authorization === `Basic ${Buffer.from('bob:secret').toString('base64')}` || form.get('refresh_token') === 'REFRESH'
      if (!known) return void res.writeHead(401).end('{}')
      res.end(JSON.stringify({ access_token: 'T', expires_in: 300, ...(url.searchParams.get('offline_token') === 'true' ? { refresh_token: 'REFRESH' } : {}) }))
    })
  })
  const host = await fake((req, res) => {
    if (req.headers.authorization !== 'Bearer T') {
      return void res.writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens}/token",service="reg"` }).end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
    }
    res.writeHead(req.url === '/v2/' ? 200 : 404).end('{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}')
  })
  assert.deepEqual(await images.login({ username: 'bob', password: 'secret', serveraddress: host }), { Status: 'Login Succeeded', IdentityToken: 'REFRESH' })
  await fails(images.login({ username: 'bob', password: 'bad', serveraddress: host }), 'unauthorized', /refused the user name or password/)
  await fails(pull(`${host}/x:1`, { identitytoken: 'REFRESH' }), 'not-found', `repository ${host}/x not found: name unknown: repository name not known to registry`)
  assert.match(asked.at(-1)!, /^POST grant_type=refresh_token.*scope=repository%3Ax%3Apull/)
})

test('removing: what stands against it, what force does, parents go along', async () => {
  await m.engine.builder.build({ context: contextOf({ Dockerfile: `FROM ${IMAGE}\nLABEL k=v\n` }), tags: ['kid:1'] })
  const kid = await images.inspect('kid:1')
  const id = kid.Id.slice(7, 19)
  users.set(kid.Id, [{ id: 'c'.repeat(64), name: 'run1', running: true }])
  const remove = (ref: string, force = false) => images.remove(ref, { force, noPrune: false })
  await fails(remove('kid:1'), 'conflict', `conflict: unable to remove repository reference "kid:1" (must force) - container cccccccccccc is using its referenced image ${id}`)
  await fails(remove(id, true), 'conflict', `conflict: unable to delete ${id} (cannot be forced) - image is being used by running container cccccccccccc`)
  assert.deepEqual(await remove('kid:1', true), [{ Untagged: 'kid:1' }])
  assert.deepEqual((await images.list({ all: false, sharedSize: false, filters: { dangling: ['true'] } })).map((i) => i.Id), [kid.Id])
  users.set(kid.Id, [{ id: 'c'.repeat(64), name: 'run1', running: false }])
  await fails(remove(id), 'conflict', `conflict: unable to delete ${id} (must be forced) - image is being used by stopped container cccccccccccc`)
  users.clear()
  await images.tag(id, 'x', '1')
  await images.tag(id, 'x', '2')
  await fails(remove(id), 'conflict', `conflict: unable to delete ${id} (must be forced) - image is referenced in multiple repositories`)
  assert.deepEqual(await remove('x:1'), [{ Untagged: 'x:1' }])
  events.length = 0
  const gone = await remove('x:2')
  assert.deepEqual(gone.slice(0, 2), [{ Untagged: 'x:2' }, { Deleted: kid.Id }])
  assert.deepEqual(events.slice(0, 2), [`untag ${kid.Id.slice(0, 11)}`, `delete ${kid.Id.slice(0, 11)}`])
  await fails(remove('x:2'), 'not-found', 'No such image: x:2')
})

test('prune takes untagged images only, or all that nobody uses', async () => {
  await images.import(tarOf({ one: '1'.repeat(100) }), { repo: 'p', tag: '1', changes: [] }, () => undefined)
  const old = (await images.inspect('p:1')).Id
  await images.import(tarOf({ two: '2'.repeat(50) }), { repo: 'p', tag: '1', changes: [] }, () => undefined)
  const pruned = await images.prune({})
  assert.deepEqual(pruned.ImagesDeleted![0], { Deleted: old })
  assert.equal(pruned.SpaceReclaimed, 100)
  assert.deepEqual(await images.prune({}), { ImagesDeleted: null, SpaceReclaimed: 0 })
  assert.deepEqual((await images.prune({ dangling: ['false'], until: ['1h'] })).ImagesDeleted, null)
  assert.ok((await images.prune({ dangling: ['false'] })).ImagesDeleted!.some((d) => 'Untagged' in d && d.Untagged === 'p:1'))
  await m.engine.images.import(tarOf({ a: 'b' }), IMAGE)
  assertClean()
})

test('save and load: names, ids, several at once; archives of docker before 1.10', async () => {
  await images.import(tarOf({ one: 'a'.repeat(5000) }), { repo: 's', tag: '1', changes: ['CMD x'] }, () => undefined)
  const { Id } = await images.inspect('s:1')
  const archive = await buffer(await images.save(['s:1', IMAGE], {}))
  const names: string[] = []
  const reader = extract()
  Readable.from([archive]).pipe(reader)
  for await (const e of reader) { names.push(e.header.name); e.resume() }
  for (const n of ['oci-layout', 'index.json', 'manifest.json', 'repositories']) assert.ok(names.includes(n), n)
  await images.remove('s:1', { force: true, noPrune: false })
  const out = await lines((say) => images.load(Readable.from([gzipSync(archive)]), { quiet: true }, say))
  assert.deepEqual(out, ['Loaded image: s:1\n', `Loaded image: ${IMAGE}\n`])
  assert.equal((await images.inspect('s:1')).Id, Id)
  await fails(images.save(['nope'], {}), 'not-found', 'No such image: nope')

  const layer = await buffer(tarOf({ f: 'old' }))
  const [top, base] = ['1'.repeat(64), '2'.repeat(64)]
  const legacy = pack()
  const add = (name: string, data: string | Buffer): void => { legacy.entry({ name }, data) }
  add(`${base}/json`, JSON.stringify({ id: base, created: '2015-01-01T00:00:00Z' }))
  add(`${base}/layer.tar`, layer)
  add(`${top}/json`, JSON.stringify({ id: top, parent: base, created: '2015-01-02T00:00:00Z', config: { Cmd: ['old'] }, container_config: { Cmd: ['/bin/sh', '-c', '#(nop) CMD'] } }))
  add(`${top}/layer.tar`, await buffer(tarOf({ g: 'older' })))
  add('repositories', JSON.stringify({ old: { v1: top } }))
  legacy.finalize()
  assert.deepEqual(await lines((say) => images.load(Readable.from(legacy), { quiet: false }, say)), ['Loaded image: old:v1\n'])
  const old = await images.inspect('old:v1')
  assert.deepEqual([old.Config.Cmd, old.RootFS.Layers.length, old.Size], [['old'], 2, 8])
  assertClean()
})

/** A registry of one image whose parts may lie. */
async function hostile(layer: Buffer, lie: { size?: number; diffId?: string; stall?: boolean; truncate?: boolean }): Promise<string> {
  const digest = (b: Buffer): string => `sha256:${createHash('sha256').update(b).digest('hex')}`
  const plain = ((): Buffer => { try { return execFileSync('gzip', ['-dc'], { input: layer, maxBuffer: 1 << 30 }) } catch { return layer } })()
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [lie.diffId ?? digest(plain)] } }))
  const manifest = Buffer.from(JSON.stringify({
    schemaVersion: 2, mediaType: DOCKER_MANIFEST, config: { mediaType: DOCKER_CONFIG, digest: digest(config), size: config.length },
    layers: [{ mediaType: DOCKER_LAYER_GZIP, digest: digest(layer), size: lie.size ?? layer.length }],
  }))
  return fake((req, res) => {
    if (req.url === '/v2/') return void res.end('{}')
    if (req.url!.includes('/manifests/')) return void res.writeHead(200, { 'content-type': DOCKER_MANIFEST }).end(manifest)
    if (req.url!.endsWith(digest(config))) return void res.end(config)
    res.writeHead(200, lie.truncate === true ? {} : { 'content-length': String(layer.length) })
    res.write(layer.subarray(0, Math.ceil(layer.length / 2)))
    if (lie.stall === true) return
    if (lie.truncate === true) return void setTimeout(() => res.destroy(), 50)
    res.end(layer.subarray(Math.ceil(layer.length / 2)))
  })
}

async function tarWith(entries: [{ name: string } & Partial<Header>, string?][]): Promise<Buffer> {
  const tar = pack()
  for (const [header, text] of entries) tar.entry(header, text ?? '')
  tar.finalize()
  return gzipSync(await buffer(Readable.from(tar)))
}

test('hostile registries: lies, stalls, broken bodies, tars that climb out; nothing is left', async () => {
  // Another one each time: what an attempt before brought may still be here, and would not be asked for again.
  const good = (): Promise<Buffer> => tarWith([[{ name: 'f' }, randomBytes(200_000).toString('hex')]])
  const first = await good()
  const victim = join(m.dir, 'victim')
  mkdirSync(victim)
  writeFileSync(join(victim, 'file'), 'untouched')
  const refused = async (host: string, message: RegExp): Promise<void> => {
    await assert.rejects(m.engine.images.pull(`${host}/x:1`, { keepReplaced: true, stallMs: 300 }), (e: Error) => { assert.match(e.message, message); return true })
  }
  await refused(await hostile(first, { size: first.length - 5 }), /wrong|more than/)
  await refused(await hostile(await good(), { diffId: `sha256:${'0'.repeat(64)}` }), /its image says sha256:0000/)
  await refused(await hostile(Buffer.concat([first.subarray(0, 1000), randomBytes(1000)]), {}), /cannot be (decompressed|unpacked)/)
  await refused(await hostile(await good(), { stall: true }), /sent nothing|did not answer/)
  await refused(await hostile(await good(), { truncate: true }), /broke off|ended after/)
  const climbing: [{ name: string } & Partial<Header>, string?][][] = [
    [[{ name: '../../../../../../../../../..' + victim + '/file' }, 'evil']],
    [[{ name: victim + '/file' }, 'evil']],
    [[{ name: 'd', type: 'symlink', linkname: victim }], [{ name: 'd/file' }, 'evil']],
    [[{ name: 'l', type: 'symlink', linkname: '../../../../../../../../../..' + victim }], [{ name: 'l/file' }, 'evil']],
    [[{ name: 'h', type: 'link', linkname: victim + '/file' }], [{ name: 'h' }, 'evil']],
  ]
  for (const entries of climbing) {
    await m.engine.images.pull(`${await hostile(await tarWith(entries), {})}/x:1`, { keepReplaced: true }).catch(() => undefined)
    assert.equal(execFileSync('cat', [join(victim, 'file')], { encoding: 'utf8' }), 'untouched', JSON.stringify(entries))
  }
  for (const l of m.ctr('leases', 'ls', '-q').trim().split('\n')) assert.doesNotMatch(l, /gantry-(load|import|push|unpack)/)
  assert.doesNotMatch(m.ctr('snapshots', 'ls'), /Active|View/)
})
