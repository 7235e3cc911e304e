import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { storeConformance } from './conformance.ts'
import { openSqliteStore } from './sqlite.ts'

const tempDir = (): string => mkdtempSync(join(tmpdir(), 'gantry-store-'))
const value = Buffer.from('{"a":1}')

storeConformance('sqlite', async () => {
  const dir = tempDir()
  return {
    open: () => openSqliteStore(join(dir, 'state.db')),
    remove: async () => rmSync(dir, { recursive: true }),
  }
})

test('the file is readable by its owner only, also when it was not', async t => {
  const dir = tempDir()
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'state.db')
  writeFileSync(path, '')
  chmodSync(path, 0o644)
  const store = await openSqliteStore(path)
  await store.put('k', value, undefined)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(statSync(`${path}-wal`).mode & 0o777, 0o600)
  await store.close()
})

test('a file that is no database, and one in use, are refused with a reason', async t => {
  const dir = tempDir()
  t.after(() => rmSync(dir, { recursive: true }))
  writeFileSync(join(dir, 'junk'), 'x'.repeat(5000))
  await assert.rejects(openSqliteStore(join(dir, 'junk')), /cannot open the database .*junk: .*not a database/)
  const store = await openSqliteStore(join(dir, 'state.db'))
  await assert.rejects(openSqliteStore(join(dir, 'state.db')), /in use by another server/)
  await store.close()
  await assert.rejects(store.put('k', value, undefined), /closed/)
})

/** Runs a module in a process of its own; `lines` are what it prints. */
function child(dir: string, source: string, args: string[], limitFileKiB?: number): { kill(): void; lines: AsyncIterable<string>; exit: Promise<unknown> } {
  writeFileSync(join(dir, 'child.mjs'), source)
  const node = [process.execPath, join(dir, 'child.mjs'), ...args]
  const p = limitFileKiB === undefined
    ? spawn(node[0]!, node.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
    : spawn('sh', ['-c', 'ulimit -f "$1"; shift; exec "$@"', 'sh', String(limitFileKiB * 2), ...node], { stdio: ['ignore', 'pipe', 'inherit'] })
  return { kill: () => p.kill('SIGKILL'), lines: createInterface(p.stdout), exit: new Promise(resolve => p.on('close', resolve)) }
}
const storeUrl = new URL('./sqlite.ts', import.meta.url).href

test('kill -9 loses no acknowledged write', async t => {
  const dir = tempDir()
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'state.db')
  const source = `
    const { openSqliteStore } = await import(process.argv[2])
    const { writeSync } = await import('node:fs')
    const store = await openSqliteStore(process.argv[3])
    let n = Number(process.argv[4])
    const writer = async () => { for (;;) {
      const key = 'k/' + n++
      const revision = await store.put(key, Buffer.from(key), undefined)
      writeSync(1, key + ' ' + revision + '\\n')
    } }
    for (let i = 0; i < 16; i++) void writer()`
  const acknowledged = new Map<string, number>()
  for (let round = 0; round < 3; round++) {
    const p = child(dir, source, [storeUrl, path, String(round * 1_000_000)])
    const enough = acknowledged.size + 200 + round * 150
    for await (const line of p.lines) {
      const [key, revision] = line.split(' ')
      acknowledged.set(key!, Number(revision))
      if (acknowledged.size === enough) p.kill()
    }
    await p.exit
  }
  const store = await openSqliteStore(path)
  t.after(() => store.close())
  const found = new Map<string, number>()
  for await (const e of (await store.load()).entries) {
    assert.equal(Buffer.from(e.value).toString(), e.key)
    found.set(e.key, e.revision)
  }
  for (const [key, revision] of acknowledged) assert.equal(found.get(key), revision, key)
  assert.ok(acknowledged.size >= 200)
  assert.ok(store.revision() >= Math.max(...found.values()))
})

test('a write the disk has no room for is refused, the next one that fits is kept', async t => {
  const dir = tempDir()
  t.after(() => rmSync(dir, { recursive: true }))
  const path = join(dir, 'state.db')
  const source = `
    const { openSqliteStore } = await import(process.argv[2])
    const store = await openSqliteStore(process.argv[3])
    await store.put('first', Buffer.from('1'), undefined)
    const results = await Promise.allSettled([store.put('huge', Buffer.alloc(4 << 20), undefined), store.put('with', Buffer.from('1'), undefined)])
    console.log(results.map(r => r.status).join(), store.failing())
    await store.put('with', Buffer.from('2'), { exists: false })
    console.log(store.failing())
    await store.put('first', Buffer.from('2'), { revision: 1 })
    console.log('kept')
    await store.close()`
  const lines: string[] = []
  const p = child(dir, source, [storeUrl, path], 1024)
  for await (const line of p.lines) lines.push(line)
  await p.exit
  assert.match(lines[0]!, /^rejected,rejected .*(disk|full)/)
  assert.deepEqual(lines.slice(1), ['undefined', 'kept'])
  const store = await openSqliteStore(path)
  t.after(() => store.close())
  const keys: string[] = []
  for await (const e of (await store.load()).entries) keys.push(`${e.key}=${Buffer.from(e.value)}`)
  assert.deepEqual(keys, ['first=2', 'with=2'])
})

test('when the writing thread dies, writes are refused and the owner is told', async t => {
  const dir = tempDir()
  t.after(() => rmSync(dir, { recursive: true }))
  let worker: Worker | undefined
  process.once('worker', w => { worker = w })
  const told: Error[] = []
  const store = await openSqliteStore(join(dir, 'state.db'), e => told.push(e))
  await store.put('k', value, undefined)
  assert.equal(store.failing(), undefined)
  const pending = store.put('k', value, undefined)
  await worker!.terminate()
  await assert.rejects(pending, /the store is lost/)
  await assert.rejects(store.put('k', value, undefined), /the store is lost/)
  assert.match(store.failing()!, /the store is lost/)
  assert.equal(told.length, 1)
  await store.close()
})
