import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { extract, pack } from 'tar-stream'
import type { Header } from 'tar-stream'
import { indexTar } from '../archive/tar-index.ts'
import { parseDockerignore } from './dockerignore.ts'
import { layerTar, planDigest } from './layer.ts'
import type { CopyPlan } from './layer.ts'
import { stepKey } from './cache.ts'
import { archiveTree, matchSources, resolvePath } from './tree.ts'
import type { Tree } from './tree.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-copy-'))
after(() => rmSync(dir, { recursive: true }))
let n = 0
type Item = [Partial<Header> & { name: string }, string?]
async function tree(items: Item[], ignored?: (p: string) => boolean): Promise<Tree> {
  const p = pack()
  for (const [h, body] of items) p.entry(h, body ?? '')
  p.finalize()
  const index = await indexTar(p as unknown as Readable, join(dir, `s${n++}`), { maxBytes: 1e6, maxMembers: 1000 })
  after(() => index.close())
  return archiveTree(index, { ignored, rootOwned: true })
}
const link = (name: string, linkname: string): Item => [{ name, type: 'symlink', linkname }]
const directory = (name: string, mode = 0o755): Item => [{ name, type: 'directory', mode }]

/** `path type owner content` of each member the plan writes. */
async function written(plan: CopyPlan, target: Tree): Promise<string[]> {
  const out: string[] = []
  const tar = await layerTar(plan, target)
  if (tar === undefined) return out
  for await (const e of tar.pipe(extract())) {
    const h = e.header
    out.push([h.name, h.type, h.mode!.toString(8), `${h.uid}:${h.gid}`, h.type === 'file' ? await text(e as unknown as Readable) : h.linkname ?? ''].join(' ').trim())
    e.resume()
  }
  return out
}

test('.dockerignore: the last match decides', () => {
  const f = parseDockerignore('# c\n*.md\n!README.md\n/node_modules\n**/*.tmp\ndir/*\n!dir/keep\n')
  const left = (p: string) => f(p)
  for (const p of ['a.md', 'node_modules', 'node_modules/x/y', 'a/b/c.tmp', 'c.tmp', 'dir/x']) assert.equal(left(p), true, p)
  for (const p of ['README.md', 'sub/a.md', 'x/node_modules', 'dir/keep', 'dir/keep/z', 'dir']) assert.equal(left(p), false, p)
})

test('sources: wildcards, links inside the context, nothing outside of it', async () => {
  const t = await tree([[{ name: 'a.txt' }, 'a'], [{ name: 'b.txt' }, 'b'], [{ name: 'd/x.txt' }, 'x'], [{ name: 'e/x.txt' }, 'x'], link('l', '../../etc'), link('m', '/d'), link('loop', 'loop')],
    p => p === 'b.txt')
  assert.deepEqual(await matchSources(t, '*.txt'), ['a.txt'])
  assert.deepEqual(await matchSources(t, '?/x.*'), ['d/x.txt', 'e/x.txt', 'm/x.txt'])
  assert.deepEqual(await matchSources(t, '[de]/x.txt'), ['d/x.txt', 'e/x.txt'])
  assert.deepEqual(await matchSources(t, 'm/x.txt'), ['m/x.txt'])
  assert.equal(await resolvePath(t, 'm/x.txt'), 'd/x.txt')
  // A link out of the context ends inside: there is no /etc here.
  assert.deepEqual(await matchSources(t, 'l/passwd'), [])
  assert.deepEqual(await matchSources(t, 'b.txt'), [])
  await assert.rejects(matchSources(t, '../x'), /outside the build context/)
  await assert.rejects(matchSources(t, 'a/../../x'), /outside the build context/)
  await assert.rejects(matchSources(t, 'loop'), /too many symbolic links/)
})

test('files go where docker puts them', async () => {
  const context = await tree([[{ name: 'f', mode: 0o640, uid: 5 }, 'F'], [{ name: 'd/g' }, 'G'], directory('d/sub', 0o700), link('d/l', '/abs')])
  const target = await tree([directory('etc'), directory('usr/lib'), link('lib', 'usr/lib'), [{ name: 'file' }, '']])
  const file = { tree: context, path: 'f', contents: false, name: 'f' }
  const contents = { tree: context, path: 'd', contents: true, name: 'd' }
  assert.deepEqual(await written({ items: [file], destination: '/new', intoDirectory: false }, target), ['new file 640 0:0 F'])
  assert.deepEqual(await written({ items: [file], destination: '/etc', intoDirectory: false }, target), ['etc/f file 640 0:0 F'])
  assert.deepEqual(await written({ items: [file], destination: '/a/b/', intoDirectory: true }, target),
    ['a/ directory 755 0:0', 'a/b/ directory 755 0:0', 'a/b/f file 640 0:0 F'])
  // The image's link to a directory is followed, not replaced.
  assert.deepEqual(await written({ items: [contents], destination: '/lib', intoDirectory: true, owner: { uid: 7, gid: 8 }, mode: 0o711 }, target),
    ['usr/lib/g file 711 7:8 G', 'usr/lib/l symlink 644 7:8 /abs', 'usr/lib/sub/ directory 700 7:8'])
  assert.deepEqual(await written({ items: [], destination: '/etc', intoDirectory: true }, target), [])
  await assert.rejects(layerTar({ items: [file], destination: '/file/x', intoDirectory: false }, target), /\/file is not a directory/)
})

test('a tree that would replace the image\'s directory links goes through them', async () => {
  const context = await tree([directory('root/lib'), [{ name: 'root/lib/x' }, 'X']])
  const target = await tree([directory('usr/lib'), link('lib', 'usr/lib')])
  assert.deepEqual(await written({ items: [{ tree: context, path: 'root', contents: true, name: 'root' }], destination: '/', intoDirectory: true }, target),
    ['usr/lib/x file 644 0:0 X'])
})

test('whiteout names cannot be smuggled into an image', async () => {
  const context = await tree([[{ name: '.wh.etc' }, '']])
  await assert.rejects(layerTar({ items: [{ tree: context, path: '.wh.etc', contents: false, name: '.wh.etc' }], destination: '/', intoDirectory: true }, await tree([])), /\.wh\./)
})

test('the content hash sees everything but times', async () => {
  const digest = async (...items: Item[]) => planDigest({ items: [{ tree: await tree(items), path: '', contents: true, name: '' }] })
  const base = await digest([{ name: 'a', mtime: new Date(1000) }, 'x'])
  assert.equal(await digest([{ name: 'a', mtime: new Date(9_000_000) }, 'x']), base)
  for (const other of [[[{ name: 'a' }, 'y']], [[{ name: 'b' }, 'x']], [[{ name: 'a', mode: 0o755 }, 'x']], [link('a', 'x')], [[{ name: 'a' }, 'x'], directory('d')]] as Item[][]) {
    assert.notEqual(await digest(...other), base, JSON.stringify(other))
  }
  assert.notEqual(stepKey('a', 'bc'), stepKey('ab', 'c'))
})
