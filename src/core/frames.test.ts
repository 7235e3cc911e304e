import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FrameDecoder, MAX_PAYLOAD_BYTES, encodeFrame } from './frames.ts'

function decode(chunks: Buffer[]): { frames: [number, string][]; truncated: boolean } {
  const frames: [number, string][] = []
  const decoder = new FrameDecoder((channel, payload) => frames.push([channel, payload.toString('latin1')]))
  for (const chunk of chunks) decoder.push(chunk)
  return { frames, truncated: decoder.truncated }
}

test('frames survive any cut of the byte stream', () => {
  const bytes = Buffer.concat([encodeFrame(1, 'out'), encodeFrame(255, Buffer.of(0)), encodeFrame(2, ''), encodeFrame(3, '{"status":"Success"}')])
  const whole = decode([bytes])
  assert.deepEqual(whole.frames, [[1, 'out'], [255, '\0'], [2, ''], [3, '{"status":"Success"}']])
  for (let size = 1; size < bytes.length; size++) {
    const chunks: Buffer[] = []
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size))
    assert.deepEqual(decode(chunks), whole)
  }
})

test('a long payload is split and comes back whole', () => {
  const payload = Buffer.alloc(MAX_PAYLOAD_BYTES * 2 + 7, 'abc')
  const { frames, truncated } = decode([encodeFrame(1, payload)])
  assert.equal(frames.length, 3)
  assert.equal(frames.map((f) => f[1]).join(''), payload.toString('latin1'))
  assert.equal(truncated, false)
})

test('a frame beyond the limit is refused and a cut one is noticed', () => {
  const bad = Buffer.from([1, 0, 1, 0, 1])
  assert.throws(() => decode([bad]), /frame of 65537 bytes exceeds the limit/)
  assert.equal(decode([encodeFrame(1, 'abc').subarray(0, 6)]).truncated, true)
})
