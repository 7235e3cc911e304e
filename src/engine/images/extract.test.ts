/** What the thread that unpacks layers takes, and what it leaves to containerd. */
import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { Readable } from 'node:stream'
import { pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { LayerExtractor } from './extract.ts'
import type { ExtractedLayer } from './extract.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-extract-'))
after(() => { rmSync(dir, { recursive: true }) })
const owner = { uid: process.getuid!(), gid: process.getgid!() }
type Item = [Partial<Header> & { name: string }, string?]

async function unpack(items: Item[], change: (tar: Buffer) => Buffer = (t) => t): Promise<{ layer: ExtractedLayer | undefined; target: string }> {
  const tar = pack()
  for (const [h, body] of items) tar.entry({ ...owner, ...h }, body ?? '')
  tar.finalize()
  const extractor = new LayerExtractor(dir, 'test')
  await extractor.write([change(await buffer(tar as unknown as Readable))])
  extractor.end(true)
  const target = mkdtempSync(join(dir, 'target-'))
  try {
    const layer = await extractor.layer
    if (layer !== undefined) await extractor.moveTo(target, layer)
    return { layer, target }
  } finally {
    await extractor.close()
  }
}

test('files, directories, links of both kinds and modes', async () => {
  const { layer, target } = await unpack([
    [{ name: 'd/', type: 'directory', mode: 0o750 }], [{ name: 'd/f', mode: 0o4755 }, 'text'], [{ name: 'd/h', type: 'link', linkname: 'd/f', mode: 0o4755 }],
    [{ name: 's', type: 'symlink', linkname: '../../etc/passwd' }], [{ name: 'ä' }, 'x'],
  ])
  assert.equal(layer?.fileBytes, 4 + 16 + 1)
  assert.equal(readFileSync(join(target, 'd/h'), 'utf8'), 'text')
  assert.equal(lstatSync(join(target, 'd/f')).mode & 0o7777, 0o4755)
  assert.equal(lstatSync(join(target, 'd')).mode & 0o7777, 0o750)
  assert.equal(readlinkSync(join(target, 's')), '../../etc/passwd')
  assert.ok(existsSync(join(target, 'ä')))
})

test('whatever leads elsewhere, or is read in two ways, is left to containerd', async () => {
  const outside = join(dir, 'outside')
  mkdirSync(outside)
  const link: Item = [{ name: 'l', type: 'symlink', linkname: outside }]
  const cases: Record<string, Item[]> = {
    'below a link': [link, [{ name: 'l/f' }, 'x']],
    'a link in place of a directory': [[{ name: 'd/', type: 'directory' }], [{ name: 'd', type: 'symlink', linkname: outside }], [{ name: 'd/f' }, 'x']],
    'a directory over a link': [link, [{ name: 'l', type: 'directory' }], [{ name: 'l/f' }, 'x']],
    'up': [[{ name: '../f' }, 'x']],
    'a hard link out': [[{ name: 'h', type: 'link', linkname: '../../etc/passwd' }]],
    'a hard link to a link': [link, [{ name: 'h', type: 'link', linkname: 'l' }]],
    'a hard link through a link': [link, [{ name: 'h', type: 'link', linkname: 'l/f' }]],
    'a whiteout of the parent': [[{ name: '.wh...' }]], 'an empty whiteout': [[{ name: '.wh.' }]], 'an opaque mark': [[{ name: '.wh..wh..opq' }]],
    'a device': [[{ name: 'n', type: 'character-device', devmajor: 0, devminor: 0 }]], 'a FIFO': [[{ name: 'p', type: 'fifo' }]],
    'an attribute': [[{ name: 'f', pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } }, 'x']],
    'no parent': [[{ name: 'x/f' }, 'x']], 'twice': [[{ name: 'f' }, 'x'], [{ name: 'f' }, 'y']],
  }
  for (const [what, items] of Object.entries(cases)) assert.equal((await unpack(items)).layer, undefined, what)
  assert.equal(existsSync(join(outside, 'f')), false)
})

test('names that are no UTF-8 are left to containerd', async () => {
  const latin1 = (tar: Buffer): Buffer => {
    const out = Buffer.from(tar)
    // `Xb` becomes a name with the byte E9; the check sum grows as much.
    out[0] = 0xe9
    const sum = parseInt(out.toString('latin1', 148, 154), 8) + 0xe9 - 'X'.charCodeAt(0)
    out.write(sum.toString(8).padStart(6, '0'), 148, 'latin1')
    return out
  }
  assert.notEqual((await unpack([[{ name: 'Xb' }, 'x']])).layer, undefined)
  assert.equal((await unpack([[{ name: 'Xb' }, 'x']], latin1)).layer, undefined)
})
