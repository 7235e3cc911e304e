import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readLogs } from '../containers/logs.ts'
import type { LogOptions } from '../engine.ts'
import { Compressor } from './compressor.ts'
import { LineFormatter, Stamps } from './format.ts'
import { LogFile } from './log-file.ts'

const root = mkdtempSync(join(tmpdir(), 'gantry-log-'))
after(() => { rmSync(root, { recursive: true, force: true }) })

function write(dir: string, from: number, to: number, maxBytes: number, maxFiles: number): void {
  const stamps = new Stamps()
  const lines = new LineFormatter('stdout', stamps)
  const file = new LogFile({ dir, maxBytes, maxFiles }, new Compressor(), stamps)
  for (let at = from; at <= to; at += 500) {
    const text = Array.from({ length: Math.min(500, to - at + 1) }, (_, i) => `${at + i}\n`).join('')
    file.append(Buffer.from(lines.push(Buffer.from(text), Date.now()), 'latin1'))
  }
  file.close()
}

async function numbers(dir: string, options: LogOptions = {}): Promise<number[]> {
  const out: number[] = []
  for await (const l of readLogs(dir, options)) out.push(Number(l.text.toString()))
  return out
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

test('rotates between lines, keeps order over rotated and reopened files, and finds the tail', async () => {
  const dir = join(root, 'order')
  write(dir, 1, 6000, 20_000, 100)
  write(dir, 6001, 10_000, 20_000, 100)
  assert.ok(readdirSync(dir).length > 10)
  assert.deepEqual(await numbers(dir), range(1, 10_000))
  for (const tail of [0, 1, 7, 400, 5000, 20_000]) assert.deepEqual(await numbers(dir, { tail }), range(Math.max(1, 10_001 - tail), 10_000), `tail ${tail}`)
  while (readdirSync(dir).some((n) => /^\d+$/.test(n))) await new Promise((resolve) => { setTimeout(resolve, 20) })
  assert.deepEqual(await numbers(dir), range(1, 10_000))
  assert.deepEqual(await numbers(dir, { tail: 5000 }), range(5001, 10_000))
})

test('no file is larger than asked for, and no more are kept', () => {
  const dir = join(root, 'bounds')
  write(dir, 1, 10_000, 20_000, 3)
  const names = readdirSync(dir).filter((n) => !n.endsWith('.tmp'))
  assert.equal(new Set(names.map((n) => n.replace('.zst', ''))).size, 3)
  assert.ok(readFileSync(join(dir, 'current')).length <= 20_000)
})

test('with one file, the log starts again', async () => {
  const dir = join(root, 'one')
  write(dir, 1, 10_000, 20_000, 1)
  assert.deepEqual(readdirSync(dir), ['current'])
  assert.equal((await numbers(dir)).at(-1), 10_000)
})

test('half a line of a crash is ended and passed over', async () => {
  const dir = join(root, 'torn')
  write(dir, 1, 5, 20_000, 3)
  appendFileSync(join(dir, 'current'), '2026-01-0')
  write(dir, 6, 9, 20_000, 3)
  assert.deepEqual(await numbers(dir), range(1, 9))
})

test('times select', async () => {
  const dir = join(root, 'times')
  const stamps = new Stamps()
  const lines = new LineFormatter('stdout', stamps)
  const file = new LogFile({ dir, maxBytes: 1 << 20, maxFiles: 2 }, new Compressor(), stamps)
  for (const at of [1000, 2000, 3000]) file.append(Buffer.from(lines.push(Buffer.from(`${at}\n`), at), 'latin1'))
  file.close()
  assert.deepEqual(await numbers(dir, { sinceMs: 2000 }), [2000, 3000])
  assert.deepEqual(await numbers(dir, { sinceMs: 1500, untilMs: 2500 }), [2000])
})
