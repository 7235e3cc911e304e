import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { encodeHeader } from './tar-header.ts'
import { readTar } from './tar-reader.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-tar-'))
after(() => { rmSync(dir, { recursive: true }) })
const MIB = 1 << 20

/** Files of an archive as `offset: first byte of the piece`. */
async function piecesOf(tar: Buffer): Promise<{ sizeBytes: number; pieces: [number, string][] }> {
  for await (const e of readTar(Readable.from([tar], { objectMode: false }))) {
    const parts: Buffer[] = []
    for await (const chunk of e.body()) parts.push(chunk)
    const all = Buffer.concat(parts)
    let at = 0
    const pieces = (e.extents ?? []).filter((x) => x.size > 0).map((x): [number, string] => {
      const first = String.fromCharCode(all[at]!)
      at += x.size
      return [x.offset, first]
    })
    return { sizeBytes: e.sizeBytes, pieces }
  }
  throw new Error('empty')
}

for (const version of ['0.1', '1.0']) {
  test(`sparse files of GNU tar's form ${version}, with many pieces`, async () => {
    const path = join(dir, `s${version}`)
    const fd = openSync(path, 'w')
    for (let n = 0; n < 60; n++) writeSync(fd, String.fromCharCode(65 + n % 26), n * MIB)
    ftruncateSync(fd, 61 * MIB)
    closeSync(fd)
    const tar = execFileSync('tar', ['-C', dir, '--format=posix', '--sparse', `--sparse-version=${version}`, '-cf', '-', `s${version}`], { maxBuffer: 64 * MIB })
    assert.ok(tar.length < 2 * MIB, 'the archive is not sparse')
    const { sizeBytes, pieces } = await piecesOf(tar)
    assert.equal(sizeBytes, 61 * MIB)
    assert.deepEqual(pieces, Array.from({ length: 60 }, (_, n) => [n * MIB, String.fromCharCode(65 + n % 26)]))
  })
}

test('a map that does not end, or is none, is refused before it is read whole', { timeout: 20_000 }, async () => {
  const record = (text: string): string => `${text.length + 4} ${text}\n`
  const pax = Buffer.from(record('GNU.sparse.major=1') + record('GNU.sparse.realsize=5'))
  assert.equal(pax.toString().split('\n')[0]!.length + 1, 22)
  const sizeBytes = 1 << 30
  for (const first of ['262144\n', 'x\n', '-1\n', '1.5\n', '9'.repeat(512)]) {
    let sent = 0
    async function* archive(): AsyncGenerator<Buffer> {
      const head = encodeHeader({ name: 'h', type: 'file', mode: 0o644, uid: 0, gid: 0, sizeBytes: pax.length, mtimeMs: 0 })
      head[156] = 'x'.charCodeAt(0)
      head.write('        ', 148, 'latin1')
      head.write(`${head.reduce((a, b) => a + b, 0).toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
      yield Buffer.concat([head, pax, Buffer.alloc(512 - pax.length)])
      yield encodeHeader({ name: 'f', type: 'file', mode: 0o644, uid: 0, gid: 0, sizeBytes, mtimeMs: 0 })
      yield Buffer.from(first)
      for (; sent < sizeBytes; sent += MIB) yield Buffer.alloc(MIB, '1')
    }
    await assert.rejects(piecesOfStream(archive()), /broken map/, first.slice(0, 10))
    assert.ok(sent < 64 * MIB, `${sent} bytes read`)
  }
})

async function piecesOfStream(chunks: AsyncGenerator<Buffer>): Promise<void> {
  for await (const e of readTar(Readable.from(chunks, { objectMode: false }))) assert.fail(e.name)
}
