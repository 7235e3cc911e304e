/** Images, registries, peers and builds on real containerds, with Debian's docker-registry. */
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import type { ChildProcess } from 'node:child_process'
import { createServer as createHttp } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import type { BuildOptions, ImageInfo, PeerSource } from '../../src/engine/index.ts'
import { chainIds } from '../../src/engine/images/unpack.ts'
import { contextOf } from './engine-build-support.ts'
import { IMAGE, TestMachine, until } from './engine-support.ts'

const a = new TestMachine()
const b = new TestMachine()
let registry: ChildProcess
let registryHost = ''

before(async () => {
  await Promise.all([a.start(), b.start()])
  for (const m of [a, b]) useNetwork(m)
  const port = await freePort()
  registryHost = `127.0.0.1:${port}`
  const config = join(a.dir, 'registry.yml')
  writeFileSync(config, `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${join(a.dir, 'registry')}}, delete: {enabled: true}}\nhttp: {addr: "${registryHost}"}\n`)
  registry = spawn('docker-registry', ['serve', config], { stdio: 'ignore' })
  for (let n = 0; ; n++) {
    if (await fetch(`http://${registryHost}/v2/`).then((r) => r.ok, () => false)) break
    assert.ok(n < 100, 'docker-registry does not answer')
    await new Promise((r) => setTimeout(r, 100))
  }
})

after(async () => {
  registry.kill()
  await Promise.all([a.stop(), b.stop()])
})

function useNetwork(m: TestMachine): void {
  m.engine.setBuildNetwork({ open: () => Promise.resolve({ netnsPath: m.netns, resolvConf: 'nameserver 192.0.2.1\n', close: () => Promise.resolve() }) })
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const s = createServer().listen(0, '127.0.0.1', () => {
      const { port } = s.address() as AddressInfo
      s.close(() => { resolve(port) })
    })
  })
}

async function build(m: TestMachine, files: Record<string, string>, options: Partial<BuildOptions> = {}): Promise<{ image: ImageInfo; output: string }> {
  let output = ''
  const image = await m.engine.builder.build({
    context: contextOf(files), tags: [], ...options, onProgress: (p) => { output += p.stream ?? '' },
  })
  return { image, output }
}

/** Nothing is left over: no lease, no half-done snapshot or upload. */
function assertClean(m: TestMachine): void {
  assert.equal(m.ctr('leases', 'ls', '-q').trim(), '')
  assert.doesNotMatch(m.ctr('snapshots', 'ls'), /Active|View/)
  assert.equal(m.ctr('content', 'active').trim().split('\n').length, 1)
}

function assertWhole(m: TestMachine, name: string): void {
  const line = m.ctr('images', 'check', `name==${name}`).split('\n').find((l) => l.startsWith(name))
  assert.match(line ?? '', /complete .* true/)
}

test('an imported image is what containerd calls complete, under the chain ids', async () => {
  const image = await a.engine.images.find(IMAGE)
  assert.deepEqual(image?.names, ['docker.io/test/busybox:1'])
  assertWhole(a, 'docker.io/test/busybox:1')
  assertClean(a)
  const config = JSON.parse(a.ctr('content', 'get', image.id)) as { rootfs: { diff_ids: string[] } }
  for (const chain of chainIds(config.rootfs.diff_ids)) assert.match(a.ctr('snapshots', 'info', chain), /Committed/)
  for (const name of [IMAGE, image.id, image.id.slice(7, 19), `${IMAGE.split(':')[0]}@${image.digests[0]}`]) {
    assert.equal((await a.engine.images.find(name))?.id, image.id, name)
  }
  assert.equal((await a.engine.images.config(IMAGE)).env[0], 'FROM_IMAGE=yes')
  assert.equal(await a.engine.images.find('nothing/here'), undefined)
})

test('a multi-stage build: every kind of instruction, and what the result runs as', async () => {
  const files = {
    '.dockerignore': '*.secret\n',
    'a.secret': 'no', 'src/one.txt': 'one', 'src/two.txt': 'two', 'src/link': '->one.txt', 'run.sh': '#!/bin/sh\necho "$GREETING from $(id -un) in $(pwd)"; cat /out/*.txt\n',
    Dockerfile: [
      'ARG BASE=nothing', 'FROM ${BASE} AS build', 'ARG WHO=world', 'ENV GREETING="hello ${WHO:-x}"',
      'RUN mkdir -p /made && echo "$GREETING $WHO" > /made/greeting.txt && cat /etc/resolv.conf > /made/resolv',
      'COPY src/*.txt /made/', 'FROM ${BASE} AS unused', 'RUN exit 9', 'FROM ${BASE}',
      'COPY --from=build --chown=app:app /made /out', 'COPY --chmod=755 run.sh /usr/local/bin/', 'COPY <<EOF /doc', 'inline', 'EOF',
      'WORKDIR /work/dir', 'ENV GREETING=hi', 'LABEL a=b', 'EXPOSE 80', 'USER app', 'VOLUME /data', 'STOPSIGNAL SIGINT', 'HEALTHCHECK CMD true',
      'ENTRYPOINT ["/bin/sh", "-c"]', 'CMD ["run.sh"]',
    ].join('\n'),
  }
  const options = { tags: ['test/multi', 'test/multi:v2'], buildArgs: { BASE: IMAGE, WHO: 'builder', STRAY: 'x' } }
  const first = await build(a, files, options)
  assert.match(first.output, /Step 1\/\d+ : ARG BASE=nothing\n/)
  assert.match(first.output, /build-args \[STRAY\] were not consumed/)
  assert.doesNotMatch(first.output, /exit 9/)
  assert.match(first.output, /Successfully built [0-9a-f]{12}\nSuccessfully tagged test\/multi:latest\nSuccessfully tagged test\/multi:v2\n$/)
  assertWhole(a, 'docker.io/test/multi:latest')
  assertClean(a)
  assert.equal(await a.output('multi', [], { image: 'test/multi', args: undefined }), 'hi from app in /work/dir\nhello builder builder\nonetwo')
  assert.equal(await a.output('owner', ['stat -c %u:%g /out/one.txt; cat /doc /out/resolv; ls /'], { image: 'test/multi' })
    .then((t) => t.split('\n').slice(0, 3).join('|')), '1000:1000|inline|nameserver 192.0.2.1')
  const config = await a.engine.images.config('test/multi')
  assert.deepEqual([config.user, config.workingDir, config.stopSignal, config.exposedPorts, config.volumes], ['app', '/work/dir', 'SIGINT', ['80/tcp'], ['/data']])

  const started = performance.now()
  const second = await build(a, files, options)
  const ms = performance.now() - started
  assert.equal(second.image.id, first.image.id)
  assert.doesNotMatch(second.output, /Running in/)
  console.log(`fully cached build: ${Math.round(ms)} ms`)
  // A changed file is noticed, and only from there on.
  const third = await build(a, { ...files, 'run.sh': 'echo other' }, options)
  assert.notEqual(third.image.id, first.image.id)
  assert.doesNotMatch(third.output, /RUN [^\n]*\n ---> Running in/)
})

test('the cache survives a restart of the engine; noCache and prune go around it', async () => {
  const files = { Dockerfile: `FROM ${IMAGE}\nRUN date +%N > /stamp\n` }
  const first = await build(a, files, { tags: ['test/stamp'] })
  await a.engine.close()
  await a.open()
  useNetwork(a)
  assert.equal((await build(a, files, { tags: ['test/stamp'] })).image.id, first.image.id)
  assert.notEqual((await build(a, files, { tags: ['test/stamp'], noCache: true })).image.id, first.image.id)
})

test('failures: exit code, missing file, escape from the context, bad Dockerfile, abort', async () => {
  const fails = (files: Record<string, string>, code: string, message: RegExp, options: Partial<BuildOptions> = {}) =>
    assert.rejects(build(a, files, options), (e: Error & { code?: string }) => e.code === code && message.test(e.message))
  await fails({ Dockerfile: `FROM ${IMAGE}\nRUN exit 3` }, 'failed', /The command '\/bin\/sh -c exit 3' returned a non-zero code: 3/)
  await fails({ Dockerfile: `FROM ${IMAGE}\nCOPY nothing /` }, 'invalid', /file not found in build context/)
  await fails({ Dockerfile: `FROM ${IMAGE}\nCOPY ../etc/passwd /` }, 'invalid', /outside the build context/)
  await fails({ Dockerfile: `FROM ${IMAGE}\nCOPY l /x`, l: '->/etc/hostname' }, 'invalid', /file not found/)
  await fails({ Dockerfile: 'FROM\n' }, 'invalid', /line 1/)
  await fails({ x: 'y' }, 'invalid', /Cannot locate specified Dockerfile/)
  const abort = new AbortController()
  const aborted = build(a, { Dockerfile: `FROM ${IMAGE}\nRUN sleep 1000` }, { signal: abort.signal })
  setTimeout(() => { abort.abort() }, 500)
  await assert.rejects(aborted, /cancelled/)
  assertClean(a)
  assert.equal(a.ctr('containers', 'ls', '-q').trim(), '')
  assert.deepEqual(readdirSync(join(a.options.dataDir, 'build/mounts')), [])
})

test('an engine killed in the middle of a build leaves nothing after the next start', async () => {
  await b.engine.close()
  const child = spawn(process.execPath, [fileURLToPath(new URL('engine-build-child.ts', import.meta.url)), JSON.stringify(b.options), b.netns])
  let output = ''
  child.stdout.on('data', (d: Buffer) => { output += String(d) })
  await until(() => /^begun$/m.test(output), 'the second RUN', 20_000)
  child.kill('SIGKILL')
  await new Promise((resolve) => child.once('exit', resolve))
  assert.match(b.ctr('leases', 'ls', '-q'), /gantry-build/)
  await b.open()
  useNetwork(b)
  // What is let go is collected with the next deletion.
  await until(() => !/Active|View/.test(b.ctr('snapshots', 'ls')), 'the clean-up of snapshots')
  assertClean(b)
  assert.equal(b.ctr('containers', 'ls', '-q').trim(), '')
  // The step that had ended is still known.
  const { output: again } = await build(b, { Dockerfile: `FROM ${IMAGE}\nRUN echo kept > /kept\n` })
  assert.match(again, /Using cache/)
})

test('push to a registry and pull elsewhere; blobs are mounted from sibling repositories', async () => {
  const name = `${registryHost}/team/app:1`
  await a.engine.images.tag('test/multi', name)
  const statuses: string[] = []
  const { digest } = await a.engine.images.push(name, { onProgress: (p) => { statuses.push(p.status) } })
  assert.ok(statuses.includes('Pushed'))
  const pulled = await b.engine.images.pull(name)
  assert.equal(pulled.digests[pulled.names.indexOf(name)], digest)
  assertWhole(b, name)
  assertClean(b)
  assert.match(a.ctr('content', 'ls'), new RegExp(`distribution.source.${registryHost.replace('.', '\\.')}=team/app`))

  const sibling = `${registryHost}/team/sibling:1`
  await a.engine.images.tag(name, sibling)
  const again: string[] = []
  await a.engine.images.push(sibling, { onProgress: (p) => { again.push(p.status) } })
  assert.ok(again.some((s) => s.startsWith('Mounted from team/')) && !again.includes('Pushed'), again.join())
  const third: string[] = []
  await a.engine.images.push(sibling, { onProgress: (p) => { third.push(p.status) } })
  assert.ok(third.includes('Layer already exists'))

  const byDigest = `${registryHost}/team/app@${digest}`
  assert.equal((await b.engine.images.pull(byDigest)).id, pulled.id)
  await assert.rejects(b.engine.images.pull(`${registryHost}/team/none`), { code: 'not-found' })
  await assert.rejects(b.engine.images.pull('127.0.0.1:1/team/none'), { code: 'unavailable' })
})

test('a broken line is resumed where it ended, wrong bytes are refused', async () => {
  let ranges: string[] = []
  let mode = 'break'
  const fake = createHttp((req, res) => {
    void fetch(`http://${registryHost}${req.url}`, { headers: { accept: req.headers.accept ?? '*/*' } }).then(async (r) => {
      const body = Buffer.from(await r.arrayBuffer())
      const headers = { 'content-type': r.headers.get('content-type') ?? '', 'docker-content-digest': r.headers.get('docker-content-digest') ?? '' }
      const from = Number(/bytes=(\d+)-/.exec(req.headers.range ?? '')?.[1] ?? 0)
      if (!req.url!.includes('/blobs/') || body.length < 100_000) return void res.writeHead(r.status, headers).end(body)
      ranges.push(req.headers.range ?? 'whole')
      if (mode === 'lie') return void res.writeHead(200, headers).end(Buffer.alloc(body.length, 1))
      const end = from === 0 ? Math.floor(body.length / 2) : body.length
      res.writeHead(from === 0 ? 200 : 206, { ...headers, 'content-length': body.length - from, 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` })
      res.write(body.subarray(from, end), () => { if (end < body.length) res.destroy(); else res.end() })
    })
  }).listen(0, '127.0.0.1')
  after(() => { fake.closeAllConnections(); fake.close() })
  await until(() => fake.listening, 'the fake registry')
  const name = `127.0.0.1:${(fake.address() as AddressInfo).port}/team/big:1`
  await build(a, { Dockerfile: 'FROM scratch\nCOPY big /', big: randomBytes(3 << 20).toString('hex') }, { tags: [`${registryHost}/team/big:1`] })
  await a.engine.images.push(`${registryHost}/team/big:1`)
  mode = 'lie'
  await assert.rejects(b.engine.images.pull(name), { code: 'failed', message: /wrong/ })
  mode = 'break'
  ranges = []
  await b.engine.images.pull(name)
  assert.ok(ranges.some((r) => /^bytes=[1-9]\d+-$/.test(r)), ranges.join())
  assertWhole(b, name)
  assertClean(b)
})

test('peers: a tag is taken from the peer that set it last, without any registry', async () => {
  const peer = (m: TestMachine) => ({
    name: m === a ? 'a' : 'b',
    fetch: async (path: string, headers: Record<string, string>) => {
      const r = await m.engine.images.serve('GET', path, headers)
      return { ...r, body: r.body ?? Readable.from([]) }
    },
  })
  const source: PeerSource = { sources: () => Promise.resolve([{ name: 'dead', fetch: () => Promise.reject(new Error('gone')) }, peer(a)]) }
  b.engine.images.setPeers(source)
  const one = await build(a, { Dockerfile: `FROM ${IMAGE}\nRUN echo 1 > /version` }, { tags: ['test/peer:x'] })
  assert.equal((await b.engine.images.pull('test/peer:x', { peersOnly: true })).id, one.image.id)
  assertWhole(b, 'docker.io/test/peer:x')
  const two = await build(a, { Dockerfile: `FROM ${IMAGE}\nRUN echo 2 > /version` }, { tags: ['test/peer:x'] })
  assert.equal((await b.engine.images.pull('test/peer:x')).id, two.image.id)
  // What is newer here is not replaced by a peer's older one.
  const three = await build(b, { Dockerfile: 'FROM test/peer:x\nLABEL v=3' }, { tags: ['test/peer:x'] })
  assert.equal((await b.engine.images.pull('test/peer:x')).id, three.image.id)
  await assert.rejects(b.engine.images.pull('test/never:x', { peersOnly: true }), { code: 'unavailable' })
  b.engine.images.setPeers({ sources: () => Promise.resolve([peer(a)]) })
  await assert.rejects(b.engine.images.pull('test/never:x', { peersOnly: true }), { code: 'not-found' })
})

test('serving: manifests by tag and digest, blobs with ranges, nothing else', async () => {
  const image = (await a.engine.images.find('test/peer:x'))!
  const get = (path: string, headers = {}, method = 'GET') => a.engine.images.serve(method, path, headers)
  const manifest = await get('/v2/test/peer/manifests/x?ns=docker.io')
  assert.equal(manifest.headers['docker-content-digest'], image.digests[0])
  const parsed = JSON.parse(await text(manifest.body!)) as { layers: { digest: string; size: number }[] }
  const layer = parsed.layers[0]!
  const whole = await buffer((await get(`/v2/test/peer/blobs/${layer.digest}`)).body!)
  assert.equal(whole.length, layer.size)
  const part = await get(`/v2/test/peer/blobs/${layer.digest}`, { range: 'bytes=10-19' })
  assert.equal(part.status, 206)
  assert.deepEqual(await buffer(part.body!), whole.subarray(10, 20))
  const head = await get(`/v2/test/peer/blobs/${layer.digest}`, {}, 'HEAD')
  assert.deepEqual([head.status, head.headers['content-length'], head.body], [200, String(layer.size), undefined])
  assert.equal((await get('/v2/')).status, 200)
  assert.equal((await get(`/v2/test/peer/blobs/sha256:${'0'.repeat(64)}`)).status, 404)
  assert.equal((await get('/v2/test/peer/blobs/../../etc')).status, 404)
  assert.equal((await get('/v2/test/peer/blobs/uploads/', {}, 'POST')).status, 405)
})

test('save and load keep ids, plain and compressed; ctr reads the archive', async () => {
  const id = (await a.engine.images.find('test/multi'))!.id
  const archive = await buffer(await a.engine.images.save(['test/multi', 'test/stamp']))
  for (const data of [archive, gzipSync(archive, { level: 1 }), zstdCompressSync(archive)]) {
    for (const n of ['test/multi', 'test/stamp']) if (await b.engine.images.find(n) !== undefined) await b.engine.images.remove(n)
    const names = await b.engine.images.load(Readable.from([data]))
    assert.deepEqual(names.sort(), ['docker.io/test/multi:latest', 'docker.io/test/stamp:latest'])
    assert.equal((await b.engine.images.find('test/multi'))?.id, id)
  }
  assertWhole(b, 'docker.io/test/multi:latest')
  assertClean(b)
  const file = join(a.dir, 'saved.tar')
  writeFileSync(file, archive)
  execFileSync('ctr', ['-a', a.options.containerdSocket, '-n', 'other', 'images', 'import', file])
  assert.match(execFileSync('ctr', ['-a', a.options.containerdSocket, '-n', 'other', 'images', 'check'], { encoding: 'utf8' }), /test\/multi:latest.*complete/)
  await assert.rejects(b.engine.images.load(Readable.from([readFileSync('/bin/busybox')])), { code: 'invalid' })
})

test('removing: in use is refused, the last name takes content and snapshots along', async () => {
  await build(b, { Dockerfile: 'FROM test/multi\nLABEL in=use' }, { tags: ['test/one', 'test/other'] })
  await b.engine.containers.create(b.spec('user', ['true'], { image: 'test/other' }))
  assert.deepEqual((await b.engine.images.remove('test/one')).untagged, ['test/one:latest'])
  await assert.rejects(b.engine.images.remove('test/other'), { code: 'conflict', message: /is using its referenced image/ })
  await b.engine.containers.remove('user')
  for (const i of await b.engine.images.list()) await b.engine.images.remove(i.id, { force: true })
  await (b.engine.builder as unknown as { prune(): Promise<number> }).prune()
  await b.engine.builder.build({ context: contextOf({ Dockerfile: 'FROM scratch\nLABEL a=b' }), tags: ['test/last'] })
  await b.engine.images.remove('test/last')
  assert.equal(b.ctr('content', 'ls', '-q').trim(), '')
  assert.equal(b.ctr('snapshots', 'ls').trim().split('\n').length, 1)
  await assert.rejects(b.engine.images.remove('test/last'), { code: 'not-found' })
})
