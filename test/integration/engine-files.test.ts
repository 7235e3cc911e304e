/** A container's files from outside: copied in and out, running or not, against hostile links; changes, export, commit. Needs root. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable, Transform } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { after, before, describe, it } from 'node:test'
import { pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { EngineError } from '../../src/engine/index.ts'
import { readTar } from '../../src/engine/filesystem/tar-reader.ts'
import { encodeHeader } from '../../src/engine/filesystem/tar-header.ts'
import { TestMachine, until } from './engine-support.ts'

const m = new TestMachine()
before(() => m.start())
after(() => m.stop())

type NewEntry = [Partial<Header> & { name: string }, (string | Buffer)?]
const PLAIN = { noOverwriteDirNonDir: false, keepOwner: true }

function archive(...entries: NewEntry[]): Readable {
  const p = pack()
  for (const [h, body] of entries) p.entry(h, body ?? '')
  p.finalize()
  return Readable.from(p)
}

interface Seen { type: string; mode: number; uid: number; gid: number; text: string; link: string; size: number; xattrs: Map<string, Buffer> }

async function contents(tar: Readable): Promise<Map<string, Seen>> {
  const out = new Map<string, Seen>()
  for await (const e of readTar(tar)) {
    const parts: Buffer[] = []
    for await (const b of e.body()) parts.push(b)
    out.set(e.name, {
      type: e.type, mode: e.mode, uid: e.uid, gid: e.gid, text: Buffer.concat(parts).toString(), link: e.linkName, size: e.sizeBytes, xattrs: e.xattrs,
    })
  }
  return out
}

const read = async (id: string, path: string): Promise<Map<string, Seen>> => contents((await m.engine.containers.readArchive(id, path)).tar)
const put = (id: string, path: string, tar: Readable, options = PLAIN): Promise<void> => m.engine.containers.writeArchive(id, path, tar, options)
const code = (c: EngineError['code'], text: RegExp) => (e: unknown): boolean => e instanceof EngineError && e.code === c && text.test(e.message)

/** The mounts of the machine, where none of ours may appear. */
const mounts = (): string => readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((l) => l.includes(join(m.dir, 'run/view'))).join('\n')

/** Every test runs with a container that runs, one that has ended, and one that never ran. */
for (const state of ['running', 'exited', 'created'] as const) {
  describe(`files of a container that is ${state}`, () => {
    const id = `files-${state}`
    const volume = join(m.dir, `volume-${state}`)
    before(async () => {
      mkdirSync(volume)
      writeFileSync(join(volume, 'kept'), 'in the volume')
      const command = state === 'running' ? ['sleep', '100000'] : ['true']
      await m.engine.containers.create(m.spec(id, command, {
        mounts: [{ type: 'bind', source: volume, target: '/data/vol' }, { type: 'bind', source: volume, target: '/frozen', readOnly: true }],
      }))
      if (state === 'created') return
      await m.engine.containers.start(id)
      if (state === 'exited') await m.exited(id)
    })
    after(async () => {
      await m.engine.containers.remove(id, true)
      assert.equal(mounts(), '')
    })

    it('tells what a path is', async () => {
      const c = m.engine.containers
      const passwd = await c.statPath(id, '/etc/passwd')
      assert.deepEqual([passwd.name, passwd.mode & 0o170000, passwd.linkTarget], ['passwd', 0o100000, ''])
      const sh = await c.statPath(id, 'bin/sh')
      assert.deepEqual([sh.name, sh.mode & 0o170000, sh.linkTarget], ['sh', 0o120000, '/bin/busybox'])
      assert.equal((await c.statPath(id, '/')).name, '/')
      assert.equal((await c.statPath(id, '/data/vol/kept')).sizeBytes, 13)
      await assert.rejects(c.statPath(id, '/no/such'), code('not-found', /Could not find the file \/no\/such in container files-/))
      await assert.rejects(c.statPath(id, '/etc/passwd/'), code('not-found', /Could not find/))
      await assert.rejects(c.statPath(id, '/../../../no'), code('not-found', /Could not find/))
    })

    it('takes in what comes, as it comes, and gives it back', async () => {
      const long = `${'d'.repeat(90)}/${'n'.repeat(200)}`
      const name = 'ä,\\&^ [x]*'
      await put(id, '/tmp', archive(
        [{ name: 'a/', type: 'directory', mode: 0o2750, uid: 7, gid: 8, mtime: new Date(1e12) }],
        [{ name: 'a/set', mode: 0o4755, uid: 1000, gid: 2000 }, 'suid'],
        [{ name: 'a/hard', type: 'link', linkname: 'a/set' }],
        [{ name: 'a/soft', type: 'symlink', linkname: '/etc/passwd', uid: 3, gid: 4 }],
        [{ name: 'a/null', type: 'character-device', devmajor: 1, devminor: 3, mode: 0o666 }],
        [{ name: 'a/pipe', type: 'fifo', mode: 0o600 }],
        [{ name: `a/${name}` }, 'odd'],
        [{ name: `a/${long}` }, 'long'],
        [{ name: 'deep/er/file' }, 'parents'],
      ))
      const back = await read(id, '/tmp/a')
      const expected: Record<string, Partial<Seen>> = {
        'a/': { type: 'directory', mode: 0o2750, uid: 7, gid: 8 }, 'a/soft': { type: 'symlink', link: '/etc/passwd', uid: 3, gid: 4 },
        'a/null': { type: 'character', mode: 0o666 }, 'a/pipe': { type: 'fifo' }, [`a/${name}`]: { text: 'odd' }, [`a/${long}`]: { text: 'long' },
      }
      for (const [n, want] of Object.entries(expected)) {
        const got = back.get(n)
        assert.ok(got !== undefined, `${n} of ${[...back.keys()].join(' ')}`)
        for (const [k, v] of Object.entries(want)) assert.equal(got[k as keyof Seen], v, `${k} of ${n}`)
      }
      const [first, second] = ['a/set', 'a/hard'].map((n) => back.get(n))
      assert.deepEqual([first?.type, second?.type].sort(), ['file', 'link'])
      assert.equal(first?.type === 'file' ? second?.link : first?.link, first?.type === 'file' ? 'a/set' : 'a/hard')
      assert.equal((first?.type === 'file' ? first : second)?.mode, 0o4755)
      assert.equal((await m.engine.containers.statPath(id, '/tmp/a')).mtimeMs, 1e12)
      assert.deepEqual([...(await read(id, '/tmp/deep/.')).keys()].sort(), ['./', './er/', './er/file'])
      assert.deepEqual([...(await read(id, '/tmp/a/soft')).keys()], ['soft'])
      assert.equal((await read(id, '/tmp/a/set')).get('set')?.text, 'suid')
      const root = await read(id, '/')
      assert.ok(root.has('/tmp/a/set') && root.has('/data/vol/kept'), [...root.keys()].filter((k) => !k.startsWith('/bin')).join(' '))
      // One file at two places: the archive has it once.
      assert.deepEqual(['/data/vol/kept', '/frozen/kept'].map((k) => root.get(k)?.text).sort(), ['', 'in the volume'])
      assert.equal([...root.keys()].some((k) => k.startsWith('/proc/') && k.length > 6), false)
    })

    it('carries extended attributes, binary ones too', async () => {
      const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex')
      const body = Buffer.from('cap')
      const header = encodeHeader({
        name: 'capable', type: 'file', mode: 0o755, uid: 3_000_000, gid: 6, sizeBytes: 3, mtimeMs: 0,
        xattrs: new Map([['security.capability', capability], ['trusted.overlay.opaque', Buffer.from('y')]]),
      })
      await put(id, '/tmp', Readable.from([header, body, Buffer.alloc(509 + 1024)]))
      const got = (await read(id, '/tmp/capable')).get('capable')
      assert.deepEqual([got?.text, got?.mode, got?.uid], ['cap', 0o755, 3_000_000])
      assert.deepEqual([...(got?.xattrs ?? [])], [['security.capability', capability]])
    })

    it('sees and fills volumes, and refuses what is read-only or no directory', async () => {
      await put(id, '/data/vol', archive([{ name: 'new' }, 'from outside']))
      assert.equal(readFileSync(join(volume, 'new'), 'utf8'), 'from outside')
      assert.equal((await read(id, '/data/vol/kept')).get('kept')?.text, 'in the volume')
      await assert.rejects(put(id, '/frozen', archive([{ name: 'x' }])), code('invalid', /mounted volume is marked read-only/))
      // Also from above, where only the kernel sees where it leads.
      await assert.rejects(put(id, '/', archive([{ name: 'frozen/above' }, 'x'])), code('invalid', /marked read-only/))
      assert.equal(existsSync(join(volume, 'above')), false)
      await assert.rejects(put(id, '/etc/passwd', archive([{ name: 'x' }])), code('invalid', /extraction point is not a directory/))
      await assert.rejects(put(id, '/nowhere', archive([{ name: 'x' }])), code('not-found', /Could not find the file \/nowhere/))
    })

    it('replaces as docker does', async () => {
      const careful = { noOverwriteDirNonDir: true, keepOwner: true }
      await put(id, '/tmp', archive([{ name: 'r/', type: 'directory' }], [{ name: 'r/f' }, '1'], [{ name: 'link', type: 'symlink', linkname: 'r' }]))
      await assert.rejects(put(id, '/tmp', archive([{ name: 'r' }, 'x']), careful), code('invalid', /cannot overwrite directory "\/r" with non-directory/))
      await assert.rejects(put(id, '/tmp', archive([{ name: 'r/f/', type: 'directory' }]), careful), code('invalid', /cannot overwrite non-directory/))
      await put(id, '/tmp', archive([{ name: 'r/f' }, '2'], [{ name: 'link/g' }, 'through']), careful)
      assert.deepEqual([...(await read(id, '/tmp/r')).values()].map((s) => s.text).sort(), ['', '2', 'through'])
      await put(id, '/tmp', archive([{ name: 'r' }, 'file now']))
      assert.equal((await read(id, '/tmp/r')).get('r')?.text, 'file now')
    })

    it('lets nothing out of the root', async () => {
      const outside = join(m.dir, `outside-${state}`)
      mkdirSync(outside)
      writeFileSync(join(outside, 'secret'), 'secret')
      await put(id, '/tmp', archive(
        [{ name: 'abs', type: 'symlink', linkname: outside }], [{ name: 'up', type: 'symlink', linkname: `../../../../../..${outside}` }],
      ))
      for (const link of ['abs', 'up']) {
        await put(id, '/tmp', archive([{ name: `${link}/planted` }, 'x']))
        assert.equal((await read(id, `${outside}/planted`)).get('planted')?.text, 'x', 'it went into the container')
      }
      assert.deepEqual(readdirSync(outside), ['secret'])
      await assert.rejects(put(id, '/tmp', archive([{ name: '../../escaped' }, 'x'])), code('invalid', /outside of the archive's root/))
      await assert.rejects(put(id, '/tmp', archive([{ name: 'h', type: 'link', linkname: '../../etc/shadow' }])), code('invalid', /outside/))
      await assert.rejects(read(id, '/tmp/abs/secret'), code('not-found', /Could not find/))
      await assert.rejects(put(id, '/tmp', Readable.from([Buffer.from('no tar at all, but longer than a block'.repeat(30))])), code('invalid', /invalid tar header/))
      await assert.rejects(put(id, '/tmp', Readable.from([encodeHeader({ name: 'cut', type: 'file', mode: 0, uid: 0, gid: 0, sizeBytes: 5000, mtimeMs: 0 })])),
        code('invalid', /unexpected EOF/))
    })

    it('reads sparse files and compressed archives', async () => {
      const work = join(m.dir, `sparse-${state}`)
      mkdirSync(work)
      execFileSync('sh', ['-c', 'truncate -s 40M s; printf start | dd of=s conv=notrunc 2>/dev/null; printf end | dd of=s conv=notrunc bs=1M seek=39 2>/dev/null'], { cwd: work })
      for (const format of ['gnu', 'posix']) {
        const tar = execFileSync('tar', ['-cS', `--format=${format}`, 's'], { cwd: work, maxBuffer: 1 << 26 })
        assert.ok(tar.length < 1 << 20)
        await put(id, '/tmp', Readable.from([tar]))
        const { tar: out, info } = await m.engine.containers.readArchive(id, '/tmp/s')
        assert.equal(info.sizeBytes, 40 << 20)
        const hash = createHash('sha256')
        for await (const e of readTar(out)) for await (const b of e.body()) hash.update(b)
        assert.equal(hash.digest('hex'), createHash('sha256').update(readFileSync(join(work, 's'))).digest('hex'), format)
      }
      const zipped = execFileSync('sh', ['-c', 'echo zipped > z; tar -cz z'], { cwd: work })
      await put(id, '/tmp', Readable.from([zipped]))
      assert.equal((await read(id, '/tmp/z')).get('z')?.text, 'zipped\n')
    })

    it('streams large files with little memory', async () => {
      const size = 192 << 20
      const piece = randomBytes(1 << 20)
      const before = process.memoryUsage().arrayBuffers
      let most = 0
      async function* large(): AsyncGenerator<Buffer> {
        yield encodeHeader({ name: 'large', type: 'file', mode: 0o644, uid: 0, gid: 0, sizeBytes: size, mtimeMs: 0 })
        for (let n = 0; n < size; n += piece.length) {
          most = Math.max(most, process.memoryUsage().arrayBuffers - before)
          yield piece
        }
        yield Buffer.alloc(1024)
      }
      await put(id, '/tmp', Readable.from(large(), { objectMode: false }))
      const { tar } = await m.engine.containers.readArchive(id, '/tmp/large')
      let bytes = 0
      const counting = new Transform({
        transform: (b: Buffer, _, done) => {
          bytes += b.length
          most = Math.max(most, process.memoryUsage().arrayBuffers - before)
          done()
        },
      })
      await pipeline(tar, counting.resume() as Transform)
      assert.ok(bytes > size && most < 96 << 20, `${bytes} bytes through ${most}`)
    })

    it('lets go when a reader goes', async () => {
      const { tar } = await m.engine.containers.readArchive(id, '/')
      tar.destroy()
      await put(id, '/tmp', archive([{ name: 'after' }, 'x']))
      assert.equal((await m.engine.containers.statPath(id, '/tmp/after')).sizeBytes, 1)
    })

    it('finds folders for their owner, mounts left out', async () => {
      const names = await m.engine.containers.withFolder(id, '/etc', (path) => Promise.resolve(path === undefined ? [] : readdirSync(path).sort()))
      assert.ok(names.includes('passwd'))
      assert.equal(await m.engine.containers.withFolder(id, '/etc/passwd', (path) => Promise.resolve(path)), undefined)
      const hidden = await m.engine.containers.withFolder(id, '/data/vol', (path) => Promise.resolve(path === undefined ? [] : readdirSync(path)))
      assert.deepEqual(hidden, [])
    })
  })
}

describe('a hostile container', () => {
  it('gains nothing by exchanging directories for links while we copy', async () => {
    const c = m.engine.containers
    const outside = join(m.dir, 'race')
    mkdirSync(outside)
    await m.run('racer', ['sh', '-c', `mkdir -p /r/d; cd /r; while :; do mv d e; ln -s ${outside} d; rm d; mv e d; done`])
    await until(() => existsSync(`${c.rootPath('racer')}/r`), 'the race')
    let done = 0
    const failures: string[] = []
    for (let i = 0; i < 150; i++) {
      await put('racer', '/r', archive([{ name: 'd/x' }, 'x'])).then(() => { done++ }, (e: unknown) => { failures.push(String(e)) })
      await read('racer', '/r/d/').catch(() => undefined)
    }
    assert.deepEqual(readdirSync(outside), [])
    assert.ok(done > 0, failures[0] ?? 'nothing was put')
    await c.remove('racer', true)
  })

  it('cannot hold a removal up by a reader that never reads', async () => {
    const c = m.engine.containers
    await c.create(m.spec('stuck', ['true']))
    const { tar } = await c.readArchive('stuck', '/')
    tar.once('error', () => undefined)
    tar.read(1)
    const start = c.start('stuck').catch(() => undefined)
    await c.remove('stuck', true)
    await start
    assert.equal(c.inspect('stuck'), undefined)
    tar.destroy()
  })
})

describe('changes', () => {
  const SCRIPT = `echo new > /new; mkdir -p /dir/sub; echo x > /dir/sub/f; echo more >> /etc/passwd; rm /etc/group; rm -r /home; mkdir /home; echo y > /home/mine
    rm /bin/ls; chmod 700 /root; ln -s /new /link`
  const EXPECTED = [
    '0 /bin', '2 /bin/ls', '1 /dir', '1 /dir/sub', '1 /dir/sub/f', '0 /etc', '2 /etc/group', '0 /etc/passwd', '0 /home', '1 /home/mine', '1 /link', '1 /new', '0 /root',
  ]

  it('are found in the upper directory, places of mounts left out', async () => {
    const c = m.engine.containers
    writeFileSync(join(m.dir, 'hosts'), '')
    await m.run('changed', ['sh', '-c', `${SCRIPT}; sleep 100000`], {
      mounts: [{ type: 'bind', source: join(m.dir, 'hosts'), target: '/etc/hosts' }, { type: 'tmpfs', target: '/made/for/this' }],
    })
    await until(() => readdirSync(c.rootPath('changed') ?? '').includes('link'), 'the changes')
    const list = async (): Promise<string[]> => (await c.changes('changed')).map((x) => `${x.kind} ${x.path}`)
    assert.deepEqual(await list(), EXPECTED)
    await c.kill('changed', 9)
    await m.exited('changed')
    assert.deepEqual(await list(), EXPECTED)
    const sizes = await c.sizes('changed')
    assert.ok(sizes.writableBytes > 0 && sizes.rootBytes > sizes.writableBytes + statSync('/bin/busybox').size, JSON.stringify(sizes))
  })

  it('become an image that has them', async () => {
    const c = m.engine.containers
    const id = await c.commit('changed', {
      config: { Cmd: ['sh'], Env: ['E=1'] }, author: 'me', comment: 'why', createdBy: 'sh', tags: ['test/committed:1'],
    })
    const image = await m.engine.images.find('test/committed:1')
    assert.equal(image?.id, id)
    await c.create({ ...m.spec('from-commit', []), args: ['sh', '-c', 'cat /new /home/mine; ls /etc/group /bin/ls /home; stat -c %a /root; ls /etc/hosts'], image: 'test/committed:1' })
    await c.start('from-commit')
    await m.exited('from-commit')
    const out = await m.text('from-commit')
    assert.match(out, /^new\ny\n/)
    assert.match(out, /700/)
    const lines = (await c.changes('from-commit')).map((x) => x.path)
    assert.deepEqual(lines, [])
    await c.remove('from-commit')
    const nameless = await c.commit('changed', { config: {}, tags: [] })
    assert.notEqual(nameless, id)
    await m.engine.images.remove(nameless, { force: true })
    assert.equal((await c.changes('changed')).length, EXPECTED.length)
    const client = m.client()
    assert.deepEqual(await client.leases.list(), [])
    client.close()
  })

  it('are in an export, without mounts', async () => {
    const tar = await contents(await m.engine.containers.export('changed'))
    assert.equal(tar.get('new')?.text, 'new\n')
    assert.equal(tar.has('etc/group'), false)
    assert.equal(tar.get('home/mine')?.text, 'y\n')
    assert.equal(tar.get('etc/hosts')?.text, '')
    assert.ok(tar.has('bin/busybox') && !tar.has('bin/ls'))
    await m.engine.containers.remove('changed')
    await m.engine.containers.create(m.spec('fresh', ['true']))
    assert.ok((await buffer(await m.engine.containers.export('fresh'))).length > 1 << 20)
    await m.engine.containers.remove('fresh')
    assert.equal(mounts(), '')
  })
})
