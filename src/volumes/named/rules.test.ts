import assert from 'node:assert/strict'
import { test } from 'node:test'
import { anonymousName, checkLocalName, checkLocalOptions, checkPluginName, folderOf } from './rules.ts'

const message = (work: () => void): string => {
  try {
    work()
  } catch (e) {
    return (e as Error).message
  }
  return ''
}

test('names as dockerd takes them', () => {
  for (const name of ['ab', 'A1', 'a_b.c-d', '0x', anonymousName()]) assert.equal(message(() => checkLocalName(name)), '', name)
  assert.equal(message(() => checkLocalName('a')), 'create a: volume name is too short, names should be at least two alphanumeric characters')
  for (const name of ['', '-a', '.a', 'a b', 'a/b', '../x', 'ä1']) {
    assert.match(message(() => checkLocalName(name)), /includes invalid characters for a local volume name, only "\[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\]" are allowed/, name)
  }
})

test('options of the local driver', () => {
  const of = (options: Record<string, string>): string => message(() => checkLocalOptions('v', options))
  const good: Record<string, string>[] = [{}, { type: 'tmpfs', device: 'tmpfs' }, { type: 'none', o: 'bind', device: '/x' }, { size: '0' }]
  for (const options of good) assert.equal(of(options), '')
  assert.equal(of({ colour: 'red' }), 'create v: invalid option: "colour"')
  assert.equal(of({ device: '/x' }), 'create v: missing required option: "type"')
  assert.equal(of({ type: 'tmpfs' }), 'create v: missing required option: "device"')
  assert.equal(of({ type: 'none', o: 'bind' }), 'create v: missing required option: "device"')
  assert.equal(of({ size: 'much' }), "create v: invalid size: 'much'")
  assert.equal(of({ size: '10m' }), 'create v: quota size requested but no quota support')
})

test('a folder for any name, and none that leaves its parent', () => {
  assert.equal(folderOf('plain_name.1-x'), 'plain_name.1-x')
  for (const name of ['..', '.', 'a/b', '/etc', '.gone-1', 'a\nb']) {
    assert.doesNotMatch(folderOf(name), /\/|^\.|\n/, name)
  }
  assert.notEqual(folderOf('a/b'), folderOf('a_b'))
  assert.match(message(() => checkPluginName('x'.repeat(256))), /too long/)
})
