import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogStreamOptions } from '../engine.ts'
import { Compressor } from '../logger/compressor.ts'
import { LineFormatter, Stamps } from '../logger/format.ts'
import { LogFile } from '../logger/log-file.ts'
import type { Follow } from './log-blocks.ts'
import { streamLogs } from './log-stream.ts'

const root = mkdtempSync(join(tmpdir(), 'gantry-stream-'))
after(() => { rmSync(root, { recursive: true, force: true }) })
const T = Date.UTC(2026, 0, 2, 3, 4, 5)
const all = { follow: false, stdout: true, stderr: true }

/** Writes as the daemon does. */
class Writer {
  readonly dir: string
  readonly #stamps = new Stamps()
  readonly #lines = { stdout: new LineFormatter('stdout', this.#stamps), stderr: new LineFormatter('stderr', this.#stamps) }
  readonly #file: LogFile
  constructor(name: string, maxBytes = 1 << 20, maxFiles = 100) {
    this.dir = join(root, name)
    this.#file = new LogFile({ dir: this.dir, maxBytes, maxFiles }, new Compressor(), this.#stamps)
  }

  put(stream: 'stdout' | 'stderr', text: string, atMs = T): void {
    this.#file.append(Buffer.from(this.#lines[stream].push(Buffer.from(text), atMs), 'latin1'))
  }

  end(): void {
    for (const l of Object.values(this.#lines)) this.#file.append(Buffer.from(l.end(T), 'latin1'))
    this.#file.close()
  }
}

async function frames(dir: string, options: LogStreamOptions, follow?: Follow): Promise<{ stream: number; text: string }[]> {
  const parts: Buffer[] = []
  for await (const p of streamLogs(dir, { ...options, tty: false }, async () => follow)) parts.push(p as Buffer)
  const data = Buffer.concat(parts)
  const out: { stream: number; text: string }[] = []
  for (let at = 0; at < data.length;) {
    assert.deepEqual([...data.subarray(at + 1, at + 4)], [0, 0, 0])
    const length = data.readUInt32BE(at + 4)
    out.push({ stream: data[at] as number, text: data.toString('latin1', at + 8, at + 8 + length) })
    at += 8 + length
    assert.ok(at <= data.length)
  }
  return out
}

const textOf = async (dir: string, options: LogStreamOptions, stream = 1): Promise<string> =>
  (await frames(dir, options)).filter((f) => f.stream === stream).map((f) => f.text).join('')

test('streams, their order, what is wanted of them, times and details', async () => {
  const w = new Writer('order')
  w.put('stdout', 'a\nb\n')
  w.put('stderr', 'E\n')
  w.put('stdout', 'c\n')
  w.end()
  assert.deepEqual(await frames(w.dir, all), [{ stream: 1, text: 'a\nb\n' }, { stream: 2, text: 'E\n' }, { stream: 1, text: 'c\n' }])
  assert.deepEqual(await frames(w.dir, { ...all, stderr: false }), [{ stream: 1, text: 'a\nb\nc\n' }])
  assert.equal((await frames(w.dir, { ...all, frameLines: true })).length, 4)
  assert.deepEqual(await frames(w.dir, { ...all, tail: 2 }), [{ stream: 2, text: 'E\n' }, { stream: 1, text: 'c\n' }])
  assert.deepEqual(await frames(w.dir, { ...all, tail: 0 }), [])
  assert.equal(await textOf(w.dir, { ...all, timestamps: true, details: 'k=v ' }, 2), '2026-01-02T03:04:05.000000001Z k=v E\n')
  let plain = ''
  for await (const p of streamLogs(w.dir, { ...all, tty: true }, async () => undefined)) plain += String(p)
  assert.equal(plain, 'a\nb\nE\nc\n')
})

test('a long line is joined, with one time; the end needs no newline', async () => {
  const w = new Writer('long')
  const long = 'x'.repeat(1 << 20)
  for (let at = 0; at < long.length; at += 30_000) { w.put('stdout', long.slice(at, at + 30_000)); w.put('stderr', `e${at}\n`) }
  w.put('stdout', '\nlast')
  w.end()
  assert.equal(await textOf(w.dir, all), `${long}\nlast`)
  assert.equal((await textOf(w.dir, { ...all, timestamps: true, stderr: false })).replaceAll(/2026-01-02T03:04:05\.\d{9}Z /g, 'T '), `T ${long}\nT last`)
})

test('since and until take both their ends', async () => {
  const w = new Writer('times')
  for (let i = 0; i < 5; i++) w.put('stdout', `${i}\n`, T + i * 1000)
  w.end()
  const ns = (i: number): bigint => BigInt(T + i * 1000) * 1_000_000n
  assert.equal(await textOf(w.dir, { ...all, sinceNs: ns(1), untilNs: ns(3) }), '1\n2\n3\n')
  assert.equal(await textOf(w.dir, { ...all, sinceNs: ns(1) + 1n }), '2\n3\n4\n')
  assert.equal(await textOf(w.dir, { ...all, untilNs: ns(0) - 1n }), '')
})

test('tail and whole over rotated, compressed files', async () => {
  const w = new Writer('rotated', 20_000)
  for (let i = 1; i <= 10_000; i++) w.put('stdout', `${i}\n`)
  w.end()
  await sleep(100)
  const numbers = (n: number): string => Array.from({ length: n }, (_, i) => `${10_001 - n + i}\n`).join('')
  for (const tail of [1, 399, 2500, 10_000]) assert.equal(await textOf(w.dir, { ...all, tail }), numbers(tail), `tail ${tail}`)
  assert.equal(await textOf(w.dir, all), numbers(10_000))
})

for (const maxFiles of [1, 50]) {
  test(`follows over rotation, ${maxFiles} file(s), one frame a line, and ends after everything`, async () => {
    const w = new Writer(`follow${maxFiles}`, 5000, maxFiles)
    let ended = false
    let changed = Promise.withResolvers<void>()
    const follow: Follow = {
      next: async () => { await changed.promise; changed = Promise.withResolvers() }, ended: () => ended, stop: () => undefined,
    }
    const reading = frames(w.dir, { ...all, follow: true }, follow)
    for (let i = 1; i <= 1000; i++) {
      w.put('stdout', `${i}\n`)
      changed.resolve()
      if (i % 20 === 0) await sleep(3)
    }
    w.end()
    ended = true
    changed.resolve()
    assert.deepEqual((await reading).map((f) => f.text), Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`))
  })
}

test('a follower of a silent log goes when its reader does, or at its time', async () => {
  const w = new Writer('silent')
  w.put('stdout', 'a\n')
  let stopped = 0
  const silent = (): Follow => ({ next: () => new Promise(() => undefined), ended: () => false, stop: () => { stopped++ } })
  const s = streamLogs(w.dir, { ...all, follow: true, tty: true }, async () => silent())
  for await (const p of s) { assert.equal(String(p), 'a\n'); break }
  await sleep(20)
  assert.equal(stopped, 1)
  assert.equal((await frames(w.dir, { ...all, follow: true, untilNs: BigInt(Date.now() + 50) * 1_000_000n }, silent())).length, 1)
  assert.equal(stopped, 2)
  w.end()
})
