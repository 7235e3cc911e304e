import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { replaceFile, replaceFileDurably, replaceFileSync } from './replace.ts'

for (const [name, replace] of Object.entries({ replaceFile, replaceFileDurably, replaceFileSync })) {
  test(`${name}: new text, private mode, nothing left beside it`, async t => {
    const dir = mkdtempSync(join(tmpdir(), 'gantry-files-'))
    t.after(() => rmSync(dir, { recursive: true }))
    const path = join(dir, 'a.json')
    writeFileSync(path, 'a longer old text', { mode: 0o644 })
    await replace(path, 'new')
    assert.equal(readFileSync(path, 'utf8'), 'new')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(readdirSync(dir), ['a.json'])
    await assert.rejects(async () => replace(join(dir, 'none', 'x'), ''), { code: 'ENOENT' })
  })
}
