/** `gantry engine` in a hostile world: full disks, registries that lie, clients that misbehave, crowds, and stops in an orderly way. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { DockerApiClient } from '../support/docker-api.ts'
import { daemonProcess, endPullLeases, leftOver, openFiles, restingInventory, rssBytes } from '../support/docker-faults.ts'
import { dockerCommands, GantryEngine } from '../support/docker.ts'
import { digestOf, type FakeImage, FakeRegistry, randomImage, tarOf } from '../support/fake-registry.ts'
import { run, waitFor } from '../support/gantry.ts'
import { busyboxArchive } from '../support/transcript.ts'

const MB = 1 << 20
const skip = process.getuid?.() !== 0 ? 'needs root' : dockerCommands.length === 0 ? 'needs the docker command' : false
const dir = mkdtempSync(join(tmpdir(), 'gantry-docker-world-'))
const registry = new FakeRegistry()

before(() => registry.start())
after(() => {
  registry.stop()
  rmSync(dir, { recursive: true, force: true })
})

describe('a disk of 128 MB', { skip }, () => {
  const disk = join(dir, 'disk')
  const ballast = join(disk, 'ballast')
  let engine: GantryEngine

  before(async () => {
    mkdirSync(disk)
    assert.equal((await run('mount', ['-t', 'tmpfs', '-o', 'size=128m', 'gantry-test', disk])).code, 0)
    engine = await GantryEngine.start('--data-root', join(disk, 'data'))
    await busyboxArchive(mkdtempSync(join(dir, 'busybox-')), engine)
  }, { timeout: 120_000 })

  after(async () => {
    await engine?.stop()
    await run('umount', ['-l', disk])
  }, { timeout: 120_000 })

  const works = async (): Promise<void> => { assert.equal(await engine.ok('run', '--rm', 'busybox', 'echo', 'works'), 'works') }

  test('pulls that do not fit fail in clear words; smaller ones go on', { timeout: 120_000 }, async () => {
    const big = await engine.docker('pull', registry.add('big', await randomImage('big', 160 * MB)))
    assert.notEqual(big.code, 0)
    assert.match(big.stderr, /no space left on device/i)
    await works()
    // A gzip bomb: 4 MB that become a gigabyte.
    const zeros = Buffer.alloc(64 * MB)
    const entry = await tarOf(Array.from({ length: 16 }, (_, i) => [{ name: `zeros-${i}` }, zeros]))
    const bomb = await engine.docker('pull', registry.add('bomb', { layer: gzipSync(entry, { level: 1 }), diffId: digestOf(entry) }))
    assert.notEqual(bomb.code, 0)
    assert.match(bomb.stderr, /no space left on device|disk/i)
    await works()
    await engine.ok('pull', registry.add('small', await randomImage('small')))
  })

  test('a build that fills it', { timeout: 120_000 }, async () => {
    const context = join(dir, 'context')
    mkdirSync(context)
    writeFileSync(join(context, 'Dockerfile'), 'FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=200\n')
    const built = await engine.docker('build', '-t', 'full', context)
    assert.notEqual(built.code, 0)
    assert.match(built.stdout + built.stderr, /No space left on device/i)
    await works()
    writeFileSync(join(context, 'Dockerfile'), 'FROM busybox\nRUN dd if=/dev/zero of=/small bs=1M count=2\n')
    await engine.ok('build', '-t', 'fits', context)
  })

  test('a container that writes logs, and others that are made, while nothing fits; all goes on afterwards', { timeout: 120_000 }, async () => {
    await engine.ok('run', '-d', '--name', 'writer', 'busybox', 'sh', '-c', 'i=0; while :; do echo line $i; i=$((i+1)); [ $((i % 200)) = 0 ] && usleep 20000; done')
    const filled = await run('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=64k'])
    assert.match(filled.stderr, /No space left/)
    await sleep(1500)
    assert.equal(await engine.ok('inspect', '-f', '{{.State.Status}}', 'writer'), 'running')
    const made = await engine.docker('run', '--name', 'unlucky', 'busybox', 'true')
    assert.notEqual(made.code, 0)
    assert.match(made.stderr, /no space left on device/i)
    assert.equal((await engine.docker('logs', '--tail', '1', 'writer')).code, 0)
    rmSync(ballast)
    const last = async (): Promise<number> => Number(/line (\d+)/.exec(await engine.ok('logs', '--tail', '1', 'writer'))![1])
    const from = await last()
    await waitFor('new lines in the log', 20_000, async () => await last() > from + 200)
    await works()
    await engine.docker('rm', '-f', 'unlucky')
    await engine.ok('rm', '-f', 'writer')
  })
})

describe('hostile peers', { skip }, () => {
  let engine: GantryEngine
  let api: DockerApiClient

  before(async () => {
    engine = await GantryEngine.start()
    api = new DockerApiClient(engine.socket)
    await busyboxArchive(mkdtempSync(join(dir, 'busybox-')), engine)
  }, { timeout: 120_000 })

  after(() => engine?.stop(), { timeout: 120_000 })

  const pid = (): number => daemonProcess(engine, 'engine')!.pid

  test('docker pull of lies, endless redirects, broken bodies and climbing tars', { timeout: 120_000 }, async () => {
    await engine.ok('run', '--rm', 'busybox', 'true')
    const before = await restingInventory(engine)
    const good = await randomImage('good')
    const victim = join(dir, 'victim')
    writeFileSync(victim, 'untouched')
    const climb = await tarOf([[{ name: `../../../../../../../../../../../..${victim}` }, 'evil'], [{ name: 'l', type: 'symlink', linkname: dir }], [{ name: 'l/victim' }, 'evil']])
    const cases: Record<string, [FakeImage, RegExp]> = {
      size: [{ ...good, size: good.layer.length - 5 }, /more than|wrong|size/i],
      digest: [{ ...good, digest: `sha256:${'0'.repeat(64)}`, sendLayer: (_, res) => { res.end(good.layer) } }, /digest|sha256:0000/],
      diff: [{ ...good, diffId: `sha256:${'1'.repeat(64)}` }, /sha256:1111/],
      truncated: [{ ...good, sendLayer: (_, res) => { res.writeHead(200, { 'content-length': good.layer.length }).write(good.layer.subarray(0, 1000)); setTimeout(() => res.destroy(), 20) } }, /broke off|ended after|aborted|closed/i],
      redirects: [{ ...good, sendLayer: (req, res) => { res.writeHead(307, { location: req.url }).end() } }, /redirect/i],
      garbage: [{ ...good, sendManifest: (_, res) => { res.writeHead(200, { 'content-type': 'application/vnd.docker.distribution.manifest.v2+json' }).end('{"schemaVersion":') } }, /manifest|JSON/i],
      huge: [{ ...good, sendManifest: (_, res) => { res.writeHead(200, { 'content-type': 'application/vnd.docker.distribution.manifest.v2+json' }).end(Buffer.alloc(20 * MB, 32)) } }, /larger|large|more than|size/i],
    }
    for (const [name, [image, message]] of Object.entries(cases)) {
      const r = await engine.docker('pull', registry.add(name, image))
      assert.notEqual(r.code, 0, name)
      assert.match(r.stderr, message, name)
    }
    await engine.docker('pull', registry.add('climb', { layer: gzipSync(climb), diffId: digestOf(climb) }))
    assert.equal(readFileSync(victim, 'utf8'), 'untouched')
    await engine.docker('rmi', '-f', `${registry.host}/climb:1`)
    // One that stalls holds nobody up, and nothing of it stays when its client goes.
    const stalled = registry.add('stalled', { ...good, sendLayer: (_, res) => { res.writeHead(200, { 'content-length': good.layer.length }).write(good.layer.subarray(0, 1000)) } })
    const gone = await run('/usr/bin/docker', ['pull', stalled], { env: engine.env, timeoutMs: 2000 })
    assert.equal(gone.code, null, 'it waited')
    await engine.ok('run', '--rm', 'busybox', 'true')
    // What may still be good is kept for who tries again, as long as its lease.
    await endPullLeases(engine)
    assert.deepEqual(await leftOver(engine, before, 20_000), [])
  })

  test('clients that never read, vanish, stand half-open, send garbage or drop by drop', { timeout: 180_000 }, async t => {
    await engine.ok('run', '-d', '--name', 'idle', 'busybox', 'sleep', '10000')
    await engine.ok('run', '--name', 'told', 'busybox', 'sh', '-c', 'yes 0123456789012345678901234567890123456789012345678 | head -n 400000')
    const files = openFiles(pid())
    const rss = rssBytes(pid())
    const sockets: Socket[] = []
    const raw = async (text: string | Buffer): Promise<Socket> => {
      const s = await api.connect()
      s.on('error', () => undefined)
      s.pause()
      s.write(text)
      sockets.push(s)
      return s
    }
    const upgrade = (path: string): string => `POST ${path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n`
    // Never read: 20 followers of 20 MB of log, and attached to a container that writes 30 MB and must come to its end.
    for (let n = 0; n < 20; n++) await raw('GET /containers/told/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n')
    await engine.ok('create', '--name', 'writer', 'busybox', 'sh', '-c', 'yes 0123456789012345678901234567890123456789012345678 | head -n 600000; echo end')
    for (let n = 0; n < 4; n++) await raw(upgrade('/containers/writer/attach?stream=1&stdout=1&stderr=1'))
    const began = performance.now()
    await engine.ok('start', 'writer')
    // Half-open, half a request, drop by drop, garbage, gone in the midst.
    for (let n = 0; n < 50; n++) await raw('POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"Image":')
    for (let n = 0; n < 50; n++) await raw('GET /containers/js')
    for (let n = 0; n < 50; n++) (await raw(randomBytes(500))).end()
    for (let n = 0; n < 50; n++) (await raw(upgrade('/containers/idle/attach?stream=1&stdout=1&stdin=1'))).destroy()
    const drops = await Promise.all(Array.from({ length: 10 }, () => raw('PUT /containers/idle/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n')))
    const dropping = setInterval(() => { for (const s of drops) if (s.writable) s.write('1\r\n\0\r\n') }, 50)
    const large = await api.call('POST', '/containers/create?name=large', { body: { Image: 'busybox', Env: [`A=${'x'.repeat(10 * MB)}`] } })
    assert.ok(large.status < 500, `10 MB of JSON: ${large.status} ${large.text.slice(0, 200)}`)
    const times: number[] = []
    for (let n = 0; n < 5; n++) {
      const at = performance.now()
      await engine.ok('run', '--rm', 'busybox', 'true')
      times.push(performance.now() - at)
    }
    const grown = rssBytes(pid()) - rss
    t.diagnostic(`docker run among them: ${times.map(ms => ms.toFixed(0)).join(', ')} ms; ${(grown / MB).toFixed(0)} MB more memory`)
    assert.ok(Math.max(...times) < 10_000)
    assert.ok(grown < 150 * MB, `${grown} bytes more`)
    assert.equal(await engine.ok('wait', 'writer'), '0')
    t.diagnostic(`a container with four deaf clients wrote 30 MB in ${((performance.now() - began) / 1000).toFixed(1)} s`)
    assert.equal(await engine.ok('logs', '--tail', '1', 'writer'), 'end')
    clearInterval(dropping)
    for (const s of sockets) s.destroy()
    await waitFor('the engine to let go of them', 20_000, () => openFiles(pid()).length <= files.length + 5)
      .catch((e: unknown) => { throw new Error(`${openFiles(pid()).length} open files, before ${files.length}: ${[...new Set(openFiles(pid()))].join(' ')}`, { cause: e }) })
    await engine.docker('rm', 'large')
    await engine.ok('rm', '-f', 'idle', 'told', 'writer')
  })

  test('crowds of clients start and remove containers; nothing is left', { timeout: 1_800_000 }, async t => {
    // In full it takes minutes.
    const [rounds, containers, clients] = process.env['GANTRY_FAULTS_FULL'] === '1' ? [20, 200, 16] : [2, 48, 16]
    const before = await restingInventory(engine)
    const memory: number[] = []
    const seconds: number[] = []
    for (let round = 0; round < rounds; round++) {
      const began = performance.now()
      const left = Array.from({ length: containers }, (_, n) => `crowd-${round}-${n}`)
      const each = async (work: (name: string) => Promise<unknown>): Promise<void> => {
        const queue = [...left]
        await Promise.all(Array.from({ length: clients }, async () => {
          for (let name = queue.shift(); name !== undefined; name = queue.shift()) await work(name)
        }))
      }
      await each(async name => {
        await api.ok('POST', `/containers/create?name=${name}`, { Image: 'busybox', Cmd: ['sleep', '1000'] })
        await api.ok('POST', `/containers/${name}/start`)
      })
      assert.equal((await api.json<unknown[]>('GET', '/containers/json')).length, containers)
      await each(name => api.ok('DELETE', `/containers/${name}?force=1&v=1`))
      seconds.push((performance.now() - began) / 1000)
      memory.push(rssBytes(pid()) / MB)
    }
    t.diagnostic(`${rounds} × ${containers} containers by ${clients} clients: ${seconds.map(s => s.toFixed(1)).join(', ')} s; memory ${memory.map(m => m.toFixed(0)).join(', ')} MB`)
    assert.deepEqual(await leftOver(engine, before, 30_000), [])
    assert.ok(memory.at(-1)! < 300, 'memory of the engine')
    assert.ok(memory.at(-1)! < memory[0]! * 1.5 + 50, 'memory does not grow from round to round')
  })

  test('stopped and started again: containers, attach, ports, names and health go on', { timeout: 120_000 }, async () => {
    await engine.ok('network', 'create', 'talk')
    await engine.ok('run', '-d', '--name', 'web', '--network', 'talk', '-p', '0:80', '--health-cmd', 'true', '--health-interval', '1s', 'busybox', 'httpd', '-f', '-h', '/etc')
    await engine.ok('run', '-di', '--name', 'echo', '--network', 'talk', 'busybox', 'cat')
    const port = /:(\d+)$/m.exec(await engine.ok('port', 'web', '80'))![1]!
    const health = async (): Promise<{ Status: string; Log: { Start: string }[] }> => JSON.parse(await engine.ok('inspect', '-f', '{{json .State.Health}}', 'web')) as { Status: string; Log: { Start: string }[] }
    await waitFor('it to be healthy', 20_000, async () => (await health()).Status === 'healthy')
    const identity = (): Promise<string> => engine.ok('inspect', '-f', '{{.State.Pid}} {{.State.StartedAt}} {{.State.Status}}', 'web', 'echo')
    const was = await identity()
    const stopped = await engine.gantry('engine', 'stop')
    assert.equal(stopped.code, 0, stopped.stderr)
    await assert.rejects(api.call('GET', '/_ping'))
    await engine.restart()
    assert.equal(await identity(), was)
    assert.match(await (await fetch(`http://127.0.0.1:${port}/passwd`)).text(), /^root:/)
    assert.match(await engine.ok('exec', 'echo', 'nslookup', 'web', '127.0.0.11'), /Address.*172\./)
    const s = await api.connect()
    s.write('POST /containers/echo/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n')
    let text = ''
    s.on('data', (d: Buffer) => { text += d.toString('latin1') })
    await waitFor('the upgrade', 5_000, () => text.includes('101 UPGRADED'))
    s.write('again\n')
    await waitFor('its echo', 5_000, () => /\x01\0\0\0\0\0\0\x06again\n$/.test(text))
    s.destroy()
    const at = (await health()).Log.at(-1)?.Start ?? ''
    await waitFor('the next check of its health', 20_000, async () => {
      const h = await health()
      return h.Status === 'healthy' && (h.Log.at(-1)?.Start ?? '') > at
    })
    await engine.ok('rm', '-f', 'web', 'echo')
    await engine.ok('network', 'rm', 'talk')
  })
})
