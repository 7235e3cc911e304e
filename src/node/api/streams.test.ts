import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { FrameDecoder, encodeFrame } from '../../core/frames.ts'
import { Channel } from '../../core/node-api.ts'
import type { LogLine, ProcessStreams } from '../../engine/engine.ts'
import { busyNs, workingSetBytes } from '../../telemetry/node-stats.ts'
import { framed } from './exec.ts'
import { writeLogs } from './logs.ts'
import { optionalNumber, json } from './query.ts'

async function* lines(...texts: string[]): AsyncGenerator<LogLine> {
  for (const t of texts) yield { stream: 'stdout', time: '2026-11-22T12:00:00.000000001Z', text: Buffer.from(t), partial: t.endsWith('…') }
}

async function written(o: { timestamps?: boolean; limitBytes?: number }, ...texts: string[]): Promise<string> {
  const sink = new PassThrough()
  const chunks: Buffer[] = []
  sink.on('data', (b: Buffer) => chunks.push(b))
  await writeLogs(sink, lines(...texts), { timestamps: false, limitBytes: undefined, follow: false, ...o })
  sink.end()
  await new Promise(resolve => sink.once('end', resolve))
  return Buffer.concat(chunks).toString()
}

test('logs: lines, partial ends, timestamps, a limit that cuts inside a line', async () => {
  assert.equal(await written({}, 'a', 'b'), 'a\nb\n')
  assert.equal(await written({}, 'a', 'b…'), 'a\nb…')
  assert.equal(await written({ timestamps: true }, 'a'), '2026-11-22T12:00:00.000000001Z a\n')
  assert.equal(await written({ limitBytes: 4 }, 'abc', 'def'), 'abc\n')
  assert.equal(await written({ limitBytes: 2 }, 'abc', 'def'), 'ab')
  const many = Array.from({ length: 20_000 }, (_, i) => `line ${i}`)
  assert.equal(await written({}, ...many), many.join('\n') + '\n')
})

test('logs: a reader that goes away ends a follower', async () => {
  const sink = new PassThrough()
  let ended = false
  const endless: AsyncIterable<LogLine> = {
    [Symbol.asyncIterator]: () => {
      let stop = (): void => {}
      return {
        next: () => new Promise<IteratorResult<LogLine>>(resolve => { stop = () => resolve({ done: true, value: undefined }) }),
        return: async () => {
          ended = true
          stop()
          return { done: true as const, value: undefined }
        },
      }
    },
  }
  const done = writeLogs(sink, endless, { timestamps: false, limitBytes: undefined, follow: true })
  sink.destroy()
  await done
  assert.equal(ended, true)
})

/** Both ends of a stream of the tunnel, as far as `framed` uses it. */
async function session(process: Partial<ProcessStreams>, input: Buffer[]): Promise<[number, string][]> {
  const wanted = { stdin: true, stdout: true, stderr: true, exits: true }
  const { Duplex } = await import('node:stream')
  const frames: [number, string][] = []
  const decoder = new FrameDecoder((channel, payload) => frames.push([channel, payload.toString()]))
  const stream = Object.assign(new Duplex({
    read() {}, allowHalfOpen: true, write(chunk: Buffer, _e, done) {
      decoder.push(chunk)
      done()
    },
  }), { respond() {} })
  for (const b of input) stream.push(b)
  const defaults = { stdout: new PassThrough().end(), exit: Promise.resolve(0), resize: async () => {}, close() {} }
  await framed(stream as never, { ...defaults, ...process } as ProcessStreams, wanted)
  return frames
}

test('exec: output on its channels, then the exit code as a Status', async () => {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  stdout.end('out')
  stderr.end('err')
  const frames = await session({ stdout, stderr, exit: Promise.resolve(3) }, [])
  assert.deepEqual(frames.slice(0, 2).sort(), [[Channel.stdout, 'out'], [Channel.stderr, 'err']])
  assert.equal(frames[2]![0], Channel.error)
  const status = JSON.parse(frames[2]![1]) as { reason: string; details: { causes: { message: string }[] } }
  assert.deepEqual([status.reason, status.details.causes[0]!.message], ['NonZeroExitCode', '3'])
})

test('exec: input and its end, sizes; an output that closed before anybody listened does not hang', async () => {
  const stdin = new PassThrough()
  const got: string[] = []
  stdin.on('data', (b: Buffer) => got.push(b.toString()))
  const exit = new Promise<number>(resolve => stdin.on('end', () => resolve(0)))
  const sizes: string[] = []
  const closed = new PassThrough()
  closed.destroy()
  const frames = await session({ stdin, stdout: closed, exit, resize: async (w, h) => { sizes.push(`${w}x${h}`) } }, [
    encodeFrame(Channel.resize, '{"Width":80,"Height":24}\n'), encodeFrame(Channel.resize, 'nonsense'),
    encodeFrame(Channel.stdin, 'typed'), encodeFrame(Channel.close, Buffer.of(Channel.stdin)),
  ])
  assert.deepEqual(got, ['typed'])
  assert.deepEqual(sizes, ['80x24'])
  assert.deepEqual(JSON.parse(frames[0]![1]), { metadata: {}, status: 'Success' })
})

test('query: numbers and JSON objects, or a refusal that names the parameter', () => {
  const q = new URLSearchParams({ n: '5', bad: '-1', o: '{"a":"b"}', list: '[1]', broken: '{' })
  assert.equal(optionalNumber(q, 'n'), 5)
  assert.equal(optionalNumber(q, 'none'), undefined)
  assert.throws(() => optionalNumber(q, 'bad'), /"bad" must be a whole number/)
  assert.deepEqual(json(q, 'o'), { a: 'b' })
  for (const name of ['list', 'broken']) assert.throws(() => json(q, name), new RegExp(`"${name}" must be a JSON object`))
})

test('stats: busy time leaves out idle, iowait and guest; the working set is what is not available', () => {
  assert.equal(busyNs('cpu  100 1 50 1000 30 2 3 4 99 0\ncpu0 1 1 1 1'), 160n * 10_000_000n)
  assert.equal(workingSetBytes('MemTotal:       1000 kB\nMemFree: 10 kB\nMemAvailable:    400 kB\n'), 600 * 1024)
})
