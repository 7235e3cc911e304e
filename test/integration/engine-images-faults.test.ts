/** Layers unpacked on their way: equal to what is in them; kills in the middle of a pull and a load; a disk that fills up. Needs root. */
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST } from '../../src/engine/images/media-types.ts'
import { busyboxTar, TestMachine, until } from './engine-support.ts'

const m = new TestMachine()
const small = new TestMachine()
const closers: (() => void)[] = []

before(async () => {
  // Room for what must stay free, and a little more.
  mkdirSync(small.options.dataDir)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=380m', 'tmpfs', small.options.dataDir])
  await Promise.all([m.start(), small.start()])
})
after(async () => {
  for (const close of closers) close()
  await Promise.all([m.stop(), small.stop()])
})

type Entry = [{ name: string } & Partial<Header>, (Buffer | string)?]

async function tarOf(entries: Entry[]): Promise<Buffer> {
  const tar = pack()
  for (const [header, content] of entries) tar.entry(header, content ?? '')
  tar.finalize()
  return buffer(tar)
}

const digestOf = (b: Buffer): string => `sha256:${createHash('sha256').update(b).digest('hex')}`

interface Image { host: string; tars: Buffer[]; config: Buffer }

/** A registry with one image of these layers. `slow`: pieces of a layer come with a pause between them. */
async function serve(tars: Buffer[], slow = false): Promise<Image> {
  const config = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', config: { Cmd: ['sh'] }, rootfs: { type: 'layers', diff_ids: tars.map(digestOf) } }))
  const blobs = new Map([config, ...tars.map(t => gzipSync(t, { level: 1 }))].map(b => [digestOf(b), b]))
  const [, ...layers] = [...blobs].map(([digest, b]) => ({ mediaType: DOCKER_LAYER_GZIP, digest, size: b.length }))
  const manifest = Buffer.from(JSON.stringify({
    schemaVersion: 2, mediaType: DOCKER_MANIFEST, config: { mediaType: DOCKER_CONFIG, digest: digestOf(config), size: config.length }, layers,
  }))
  const server = createServer((req, res) => void (async () => {
    if (req.url === '/v2/') return void res.end('{}')
    if (req.url!.includes('/manifests/')) return void res.writeHead(200, { 'content-type': DOCKER_MANIFEST }).end(manifest)
    const blob = blobs.get(req.url!.split('/').at(-1)!)
    if (blob === undefined) return void res.writeHead(404).end()
    const from = Number(/bytes=(\d+)-/.exec(req.headers.range ?? '')?.[1] ?? 0)
    res.writeHead(from > 0 ? 206 : 200, { 'content-length': blob.length - from, ...(from > 0 ? { 'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}` } : {}) })
    for (let at = from; at < blob.length; at += 1 << 20) {
      res.write(blob.subarray(at, at + (1 << 20)))
      if (slow) await sleep(30)
    }
    res.end()
  })())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => { server.closeAllConnections(); server.close() })
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, tars, config }
}

/** As docker before 25 saves it. */
function archiveOf(image: Image): Promise<Buffer> {
  return tarOf([
    ['config.json', image.config], ...image.tars.map((t, n): [string, Buffer] => [`${n}/layer.tar`, t]),
    ['manifest.json', JSON.stringify([{ Config: 'config.json', RepoTags: ['loaded:1'], Layers: image.tars.map((_, n) => `${n}/layer.tar`) }])] as [string, string],
  ].map(([name, content]): Entry => [{ name: name as string }, content as Buffer]))
}

/** Nothing half-done; a pull that was cut off may keep its lease and its uploads, to go on. */
function assertClean(machine: TestMachine): void {
  assert.doesNotMatch(machine.ctr('leases', 'ls', '-q'), /gantry-(?!pull)/)
  assert.doesNotMatch(machine.ctr('snapshots', 'ls'), /Active|View/)
  const spools = readdirSync(machine.options.dataDir, { recursive: true, encoding: 'utf8' }).filter(f => /spool\/(layer|load)-[^/]*$/.test(f))
  assert.deepEqual(spools, [])
}

const BIG = 3 << 20
const list = 'cd /d; for f in $(find . | sort); do stat -c "%n %F %a %u:%g %Y %h" $f; done; readlink link; cat gone 2>&1; ls /d/dir; md5sum < big'

test('every kind of entry comes out as the layer says, unpacked by a thread or by containerd', async () => {
  const base = await buffer(busyboxTar())
  const lower = await tarOf([
    [{ name: 'd', type: 'directory', mode: 0o755 }], [{ name: 'd/gone' }, 'still here'], [{ name: 'd/dir', type: 'directory' }], [{ name: 'd/dir/old' }, 'old'],
  ])
  const big = randomBytes(BIG)
  const mtime = new Date(1_500_000_000_000)
  const entries: Entry[] = [
    [{ name: 'd/', type: 'directory', mode: 0o2750, uid: 7, gid: 8, mtime }], [{ name: 'd/big', mode: 0o4755, uid: 1000, gid: 1001, mtime }, big],
    [{ name: 'd/hard', type: 'link', linkname: 'd/big', mode: 0o4711, uid: 1000, gid: 1001, mtime }], [{ name: 'd/link', type: 'symlink', linkname: '/etc/passwd', uid: 5, gid: 6, mtime }],
    [{ name: `d/${'n'.repeat(120)}`, mtime }, 'a long name'], [{ name: 'd/.wh.gone' }], [{ name: 'd/empty', mode: 0o600, mtime }, ''],
  ]
  // The same, which the thread leaves to containerd: a mark that says nothing of what lies below.
  const opaque: Entry[] = [...entries, [{ name: 'd/dir', type: 'directory', mtime }], [{ name: 'd/dir/.wh..wh..opq' }]]
  const out: string[] = []
  for (const [n, layer] of [entries, opaque].entries()) {
    const { host } = await serve([base, lower, await tarOf(layer)])
    await m.engine.images.pull(`${host}/all:1`)
    out.push(await m.output(`all${n}`, ['sh', '-c', list], { image: `${host}/all:1` }))
  }
  const [threaded, byContainerd] = out as [string, string]
  const lines = threaded.split('\n')
  assert.ok(lines.includes('./big regular file 4711 1000:1001 1500000000 2'), threaded)
  assert.ok(lines.includes('. directory 2750 7:8 1500000000 1'), threaded)
  assert.ok(lines.includes('./link symbolic link 777 5:6 1500000000 1'), threaded)
  assert.match(threaded, /n{120} regular file 644 0:0 1500000000 1/)
  assert.match(threaded, /can't open 'gone'/)
  assert.match(threaded, new RegExp(createHash('md5').update(big).digest('hex')))
  const without = (text: string): string[] => text.split('\n').filter(l => !/dir|^old$/.test(l))
  assert.deepEqual(without(threaded), without(byContainerd))
  assert.match(threaded, /^old$/m)
  assert.doesNotMatch(byContainerd, /^old$/m)
  assertClean(m)
})

test('kill -9 at any moment of a pull or a load: nothing half-done stays, and the next one works', { timeout: 120_000 }, async () => {
  const base = await buffer(busyboxTar())
  const layers = [base, await tarOf([[{ name: 'one' }, randomBytes(8 << 20)]]), await tarOf([[{ name: 'two' }, randomBytes(8 << 20)]])]
  const image = await serve(layers, true)
  const archive = join(m.dir, 'archive.tar')
  writeFileSync(archive, await archiveOf(image))
  const main = fileURLToPath(new URL('engine-child.ts', import.meta.url))
  let died = 0
  for (const [n, command] of ['pull', 'load', 'pull', 'load', 'pull', 'load'].entries()) {
    await m.engine.close()
    const p = spawn(process.execPath, [main, JSON.stringify(m.options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    await once(p, 'message')
    const dead = once(p, 'exit')
    p.send({ do: command, ...(command === 'pull' ? { reference: `${image.host}/killed:1` } : { archive }), crashAfterMs: 30 + 60 * n })
    await Promise.race([dead, once(p, 'message')])
    if (p.exitCode === null && p.signalCode === null) p.kill('SIGKILL')
    else died++
    await dead
    await m.open()
    await until(() => !/Active|View/.test(m.ctr('snapshots', 'ls')), 'the clean-up of snapshots')
    assertClean(m)
  }
  assert.ok(died > 0, 'it was killed in the middle at least once')
  const pulled = await m.engine.images.pull(`${image.host}/killed:1`)
  assert.equal(pulled.id, digestOf(image.config))
  assert.equal(await m.output('killed', ['sh', '-c', 'cat /one /two | md5sum | cut -d" " -f1'], { image: `${image.host}/killed:1` }),
    `${createHash('md5').update(layers[1]!.subarray(512, 512 + (8 << 20))).update(layers[2]!.subarray(512, 512 + (8 << 20))).digest('hex')}\n`)
  assertClean(m)
})

test('a layer that would fill the disk is refused, by the thread and beside containerd; what is there works on', { timeout: 120_000 }, async () => {
  const zeros = Buffer.alloc(300 << 20)
  for (const [name, content] of [['compressible', zeros], ['mixed', Buffer.concat([randomBytes(BIG), zeros])]] as const) {
    const { host } = await serve([await tarOf([[{ name: 'f' }, content]])])
    await assert.rejects(small.engine.images.pull(`${host}/${name}:1`), /no space left on device/)
    assert.equal(await small.engine.images.find(`${host}/${name}:1`), undefined)
    await until(() => !/Active|View/.test(small.ctr('snapshots', 'ls')), 'the clean-up of snapshots')
    assertClean(small)
  }
  const { host } = await serve([await buffer(busyboxTar()), await tarOf([[{ name: 'fits' }, randomBytes(BIG)]])])
  await small.engine.images.pull(`${host}/fits:1`)
  assert.equal(await small.output('fits', ['sh', '-c', 'wc -c < /fits'], { image: `${host}/fits:1` }), `${BIG}\n`)
})
