import { test } from 'node:test'
import assert from 'node:assert/strict'
import { bootstrapDebian } from './bootstrap.ts'

const attempt = (suite: string, mirror?: string) =>
  bootstrapDebian({ suite, ...(mirror === undefined ? {} : { mirror }), reference: 'debian:x', import: () => assert.fail('nothing to import') })

test('what cannot be made is refused before anything runs', async () => {
  await assert.rejects(attempt('nosuch'), { code: 'invalid', message: /unknown suite "nosuch": known are Debian's .*bookworm.*Ubuntu's .*noble/ })
  for (const bad of ['', 'ftp://x/debian', 'http://x/ [trusted=yes] evil', 'http://x/"quote']) {
    await assert.rejects(attempt('bookworm', bad), { code: 'invalid', message: /no address of a package mirror/ }, bad)
  }
})
