import { test } from 'node:test'
import assert from 'node:assert/strict'
import { choosePlatform, parsePlatform } from './platform.ts'
import type { Descriptor } from './media-types.ts'

const entry = (digest: string, architecture?: string, variant?: string, os = 'linux'): Descriptor =>
  ({ mediaType: 'm', digest, size: 1, ...(architecture === undefined ? {} : { platform: { os, architecture, ...(variant ? { variant } : {}) } }) })

test('exact match first, then what the machine can also run', () => {
  const list = [entry('att', 'unknown', '', 'unknown'), entry('386', '386'), entry('arm7', 'arm', 'v7'), entry('arm64', 'arm64', 'v8'), entry('amd', 'amd64')]
  const pick = (p: string) => choosePlatform(list, parsePlatform(p))?.digest
  assert.equal(pick('linux/amd64'), 'amd')
  assert.equal(pick('linux/arm64'), 'arm64')
  assert.equal(pick('linux/arm/v7'), 'arm7')
  assert.equal(pick('linux/arm/v6'), undefined)
  assert.equal(pick('s390x'), undefined)
  assert.equal(choosePlatform(list.slice(0, 2), parsePlatform('amd64'))?.digest, '386')
  assert.equal(choosePlatform([entry('only')], parsePlatform('amd64'))?.digest, 'only')
})
