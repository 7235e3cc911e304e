import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeRoom } from './cgroups.ts'

/** Plain files stand for the kernel's: what is written to one stays as it is. */
function tree(files: Record<string, string>): { dir: string; read(file: string): string; [Symbol.dispose](): void } {
  const dir = mkdtempSync(join(tmpdir(), 'cgroup-'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text)
  return { dir, read: file => readFileSync(join(dir, file), 'utf8'), [Symbol.dispose]: () => rmSync(dir, { recursive: true }) }
}

test('processes at the top of a container\'s tree give way to groups', () => {
  using t = tree({ 'cgroup.type': 'domain\n', 'cgroup.controllers': 'cpu io memory\n', 'cgroup.subtree_control': 'cpu io\n', 'cgroup.procs': '17\n' })
  makeRoom(t.dir)
  assert.equal(t.read('init/cgroup.procs'), '17')
  assert.equal(t.read('cgroup.subtree_control'), '+memory')
})

test('nothing is moved where all controllers are handed on already, nor at the true top', () => {
  using ready = tree({ 'cgroup.type': 'domain\n', 'cgroup.controllers': 'cpu\n', 'cgroup.subtree_control': 'cpu\n', 'cgroup.procs': '17\n' })
  using top = tree({ 'cgroup.controllers': 'cpu\n', 'cgroup.subtree_control': '\n', 'cgroup.procs': '17\n' })
  for (const t of [ready, top]) {
    makeRoom(t.dir)
    assert.ok(!existsSync(join(t.dir, 'init')))
  }
})
