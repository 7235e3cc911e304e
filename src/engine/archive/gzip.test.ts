/** gzip on many threads against zlib's own reading. */
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { gzip, isNoise } from './gzip.ts'

test('what is compressed in blocks reads as one, equal each time, however it came in', async () => {
  const text = Buffer.from('a line that comes again and again\n'.repeat(60_000))
  for (const data of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(512 << 10, 1), Buffer.concat([text, randomBytes(700_000), text])]) {
    const cut = (size: number): Buffer[] => Array.from({ length: Math.ceil(data.length / size) }, (_, i) => data.subarray(i * size, (i + 1) * size))
    const one = await buffer(Readable.from(gzip(Readable.from([data]))))
    const other = await buffer(Readable.from(gzip(Readable.from(cut(77_777)))))
    assert.ok(gunzipSync(one).equals(data))
    assert.ok(one.equals(other))
  }
})

test('what is compressed already is only copied; what repeats is not taken for it', async () => {
  const noise = randomBytes(512 << 10)
  const piece = randomBytes(4096)
  assert.equal(isNoise(noise), true)
  assert.equal(isNoise(Buffer.from('plain text\n'.repeat(50_000))), false)
  // Every byte value comes equally often, but all of it again and again.
  assert.equal(isNoise(Buffer.concat(Array.from({ length: 128 }, () => piece))), false)
  const out = await buffer(Readable.from(gzip(Readable.from([noise]))))
  assert.ok(out.length < noise.length + 1024)
})
