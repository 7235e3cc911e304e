import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { decompress, detect } from './compression.ts'
import { entryName } from './entry-name.ts'
import { indexTar } from './tar-index.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-archive-'))
after(() => rmSync(dir, { recursive: true }))
let n = 0
const limits = { maxBytes: 1 << 20, maxMembers: 100 }
const archive = (...entries: [Partial<Header> & { name: string }, string?][]): Readable => {
  const p = pack()
  for (const [h, body] of entries) p.entry(h, body ?? '')
  p.finalize()
  return p as unknown as Readable
}
const index = (stream: Readable, l = limits) => indexTar(stream, join(dir, `spool${n++}`), l)

test('compressed streams are recognised and undone', async () => {
  const plain = Buffer.from('hello '.repeat(1000))
  for (const [kind, data] of [['none', plain], ['gzip', gzipSync(plain)], ['zstd', zstdCompressSync(plain)]] as const) {
    assert.equal(detect(data), kind)
    // Given one byte at a time: detection must not depend on how the stream is cut.
    const { compression, stream } = await decompress(Readable.from(Array.from(data, b => Buffer.from([b])), { objectMode: false }))
    assert.equal(compression, kind)
    assert.deepEqual(await buffer(stream), plain)
  }
  const { stream } = await decompress(Readable.from([gzipSync(plain).subarray(0, 20)]))
  await assert.rejects(buffer(stream))
  assert.equal((await buffer((await decompress(Readable.from([]))).stream)).length, 0)
})

test('names that leave the root are refused', () => {
  assert.equal(entryName('./a//b/./c/'), 'a/b/c')
  assert.equal(entryName('/etc/passwd'), 'etc/passwd')
  assert.equal(entryName('./'), '')
  for (const bad of ['../x', 'a/../../x', 'a/..', '/..', 'a\0b']) assert.throws(() => entryName(bad), { code: 'invalid' }, bad)
})

test('members are indexed with their content', async () => {
  const i = await index(archive(
    [{ name: 'd/', type: 'directory', mode: 0o700 }],
    [{ name: './d/f', mode: 0o4755, uid: 7, gid: 8 }, 'content'],
    [{ name: 'empty' }, ''],
    [{ name: 'l', type: 'symlink', linkname: '/etc/shadow' }],
    [{ name: 'h', type: 'link', linkname: 'd/f' }],
    [{ name: 'd/f2' }, 'second'],
  ))
  const f = i.members.get('d/f')!
  assert.deepEqual([f.type, f.mode, f.uid, f.gid, f.sizeBytes], ['file', 0o4755, 7, 8, 7])
  assert.equal(f.sha256, 'ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73')
  assert.equal(await text(i.read(f)), 'content')
  assert.equal(await text(i.read(i.members.get('h')!)), 'content')
  assert.equal(await text(i.read(i.members.get('d/f2')!)), 'second')
  assert.equal(await text(i.read(i.members.get('empty')!)), '')
  assert.equal(i.members.get('l')!.target, '/etc/shadow')
  assert.equal(i.members.get('d')!.mode, 0o700)
  await i.close()
})

test('the padding of the last member may be missing, its content not', async () => {
  const whole = await buffer(archive([{ name: 'a' }, 'first'], [{ name: 'b' }, 'x'.repeat(600)]))
  const contentEnd = 512 + 512 + 512 + 600
  for (const length of [contentEnd, contentEnd + 1, contentEnd + 423]) {
    const i = await index(Readable.from([whole.subarray(0, length)]))
    assert.equal(await text(i.read(i.members.get('b')!)), 'x'.repeat(600))
    await i.close()
  }
  for (const length of [contentEnd - 1, contentEnd - 88, contentEnd - 89, contentEnd - 600, contentEnd - 700]) {
    await assert.rejects(index(Readable.from([whole.subarray(0, length)])), /the archive cannot be read/, `${length} bytes`)
  }
})

test('hostile archives are refused', async () => {
  const refused = (s: Readable, pattern: RegExp, l = limits) =>
    assert.rejects(index(s, l), (e: Error & { code?: string }) => e.code === 'invalid' && pattern.test(e.message))
  await refused(archive([{ name: '../../etc/cron.d/x' }, 'x']), /outside/)
  await refused(archive([{ name: 'dev', type: 'character-device', devmajor: 1, devminor: 3 }]), /character-device/)
  await refused(archive([{ name: 'h', type: 'link', linkname: '../../etc/shadow' }]), /outside/)
  await refused(archive([{ name: 'h', type: 'link', linkname: '/etc/shadow' }]), /no file of the archive/)
  await refused(archive([{ name: 'big' }, 'x'.repeat(2000)]), /more than 1000 bytes/, { ...limits, maxBytes: 1000 })
  await refused(archive([{ name: 'a' }], [{ name: 'b' }], [{ name: 'c' }]), /more than 2 members/, { ...limits, maxMembers: 2 })
  const long = (n: number) => ({ name: `${n}${'x'.repeat(4_000_000)}` })
  await refused(archive(...Array.from({ length: 17 }, (_, i): [{ name: string }] => [long(i)])), /names are longer than/)
  await refused(Readable.from([Buffer.alloc(2048, 'garbage')]), /cannot be read/)
})
