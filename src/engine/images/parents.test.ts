/** Links between images built here, over restarts. */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Parents } from './parents.ts'

test('parents are kept on disk, first one wins, deletion unlinks both ways, unknown ones are swept', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-parents-'))
  t.after(() => rm(dir, { recursive: true }))
  const file = join(dir, 'parents.json')
  const table = await Parents.open(file)
  await Promise.all([table.set('b', 'a'), table.set('c', 'b'), table.set('d', 'b'), table.set('b', 'x'), table.set('e', 'e')])
  const again = await Parents.open(file)
  assert.deepEqual([again.get('b'), again.children('b').sort(), again.get('e')], ['a', ['c', 'd'], undefined])
  await again.delete(['b'])
  assert.deepEqual([again.get('b'), again.get('c'), again.children('a'), again.children('b')], [undefined, undefined, [], []])
  await again.set('f', 'd')
  await again.sweep(id => id !== 'd')
  assert.equal((await Parents.open(file)).get('f'), undefined)
})
