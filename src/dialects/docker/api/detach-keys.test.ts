import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DEFAULT_DETACH_KEYS, DetachFilter, parseDetachKeys } from './detach-keys.ts'

/** Pushes the parts one after the other: what came out, and after which part it was over. */
function type(keys: readonly number[], ...parts: string[]): { out: string; detachedAt: number } {
  const filter = new DetachFilter(keys)
  let out = ''
  for (const [i, part] of parts.entries()) {
    const { data, detached } = filter.push(Buffer.from(part, 'latin1'))
    out += data.toString('latin1')
    if (detached) return { out, detachedAt: i }
  }
  return { out, detachedAt: -1 }
}

test('keys are parsed as docker writes them', () => {
  assert.deepEqual(parseDetachKeys(undefined), DEFAULT_DETACH_KEYS)
  assert.deepEqual(parseDetachKeys('ctrl-p,ctrl-q'), [16, 17])
  assert.deepEqual(parseDetachKeys('ctrl-@,a,ctrl-_,ctrl-['), [0, 97, 31, 27])
  for (const wrong of ['ctrl-P', 'ctrl-1', 'ab', 'ctrl-', 'a,,b']) assert.throws(() => parseDetachKeys(wrong), /Invalid detach keys/, wrong)
})

test('the sequence is found within and over reads, and nothing of it is passed on', () => {
  assert.deepEqual(type([16, 17], 'ls\x10\x11rest'), { out: 'ls', detachedAt: 0 })
  assert.deepEqual(type([16, 17], 'a\x10', '\x11'), { out: 'a', detachedAt: 1 })
  assert.deepEqual(type([16, 17], '\x10\x10\x11'), { out: '\x10', detachedAt: 0 })
})

test('what does not become the sequence comes out in order', () => {
  assert.deepEqual(type([16, 17], '\x10', 'x\x10y'), { out: '\x10x\x10y', detachedAt: -1 })
  // a a b: after "aa", another "a" leaves the last two a's as a beginning.
  assert.deepEqual(type([97, 97, 98], 'aa', 'ab'), { out: 'a', detachedAt: 1 })
  assert.deepEqual(type([97, 98, 97, 99], 'ababac'), { out: 'ab', detachedAt: 0 })
})
