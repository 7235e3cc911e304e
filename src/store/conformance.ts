/** The test every store passes. `openStore` gives a store over the same data each time it is called after a close. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PreconditionFailed } from './store.ts'
import type { Change, Entry, Store } from './store.ts'

const bytes = (s: string): Uint8Array => Buffer.from(s)
const text = (v: Uint8Array): string => Buffer.from(v).toString()

async function entriesOf(store: Store): Promise<Entry[]> {
  const out: Entry[] = []
  for await (const e of (await store.load()).entries) out.push(e)
  return out
}

async function until(done: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 5000; !done();) {
    assert.ok(Date.now() < end, `waited 5 s for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** `fresh` gives an opener for new, empty data; it is called once a test. */
export function storeConformance(name: string, fresh: () => Promise<{ open(): Promise<Store>; remove(): Promise<void> }>): void {
  const check = (what: string, body: (store: Store, open: () => Promise<Store>) => Promise<void>): void => {
    test(`${name}: ${what}`, async () => {
      const { open, remove } = await fresh()
      const opened: Store[] = []
      const openTracked = async (): Promise<Store> => {
        const s = await open()
        opened.push(s)
        return s
      }
      try {
        await body(await openTracked(), openTracked)
      } finally {
        for (const s of opened) await s.close()
        await remove()
      }
    })
  }

  check('what was written is loaded again in key order', async (store, open) => {
    await store.put('b/2', bytes('two'), undefined)
    const first = await store.put('a/1', bytes('one'), { exists: false })
    const second = await store.put('a/1', bytes('uno'), { revision: first })
    await store.put('c/3', bytes('three'), undefined)
    await store.delete('c/3', undefined)
    assert.ok(second > first)
    const before = store.revision()
    await store.close()
    const again = await open()
    assert.ok(again.revision() >= before, 'a deletion’s revision is remembered')
    const entries = await entriesOf(again)
    assert.deepEqual(entries.map(e => [e.key, text(e.value)]), [['a/1', 'uno'], ['b/2', 'two']])
    assert.equal(entries[0]!.revision, second)
    assert.ok(await again.put('d', bytes('x'), undefined) > before)
  })

  check('preconditions', async store => {
    const failed = (current: number) => (e: unknown): boolean => e instanceof PreconditionFailed && e.currentRevision === current
    const r = await store.put('k', bytes('1'), { exists: false })
    await assert.rejects(store.put('k', bytes('2'), { exists: false }), failed(r))
    await assert.rejects(store.put('k', bytes('2'), { revision: r - 1 }), failed(r))
    await assert.rejects(store.put('none', bytes('2'), { revision: r }), failed(0))
    await assert.rejects(store.delete('k', { revision: r + 100 }), failed(r))
    await assert.rejects(store.delete('none', undefined), failed(0))
    assert.equal(text((await entriesOf(store))[0]!.value), '1')
    await store.delete('k', { revision: r })
    await store.put('k', bytes('3'), { exists: false })
  })

  check('of many concurrent writers to one revision, one wins', async store => {
    const r = await store.put('k', bytes('0'), undefined)
    const results = await Promise.allSettled(Array.from({ length: 50 }, (_, i) => store.put('k', bytes(String(i)), { revision: r })))
    assert.equal(results.filter(x => x.status === 'fulfilled').length, 1)
    const winner = results.findIndex(x => x.status === 'fulfilled')
    assert.equal(text((await entriesOf(store))[0]!.value), String(winner))
  })

  check('a subscriber sees each change once, in order, before the write resolves', async store => {
    const r0 = await store.put('before', bytes('x'), undefined)
    const seen: Change[] = []
    const stop = store.subscribe(r0, cs => seen.push(...cs), e => assert.fail(e))
    let early = 0
    await Promise.all(Array.from({ length: 100 }, async (_, i) => {
      const r = await store.put(`k/${i % 10}`, bytes(String(i)), undefined)
      if (!seen.some(c => c.revision === r)) early++
    }))
    const deleted = await store.delete('k/3', undefined)
    await until(() => seen.length === 101, '101 changes')
    assert.equal(early, 0)
    for (let i = 1; i < seen.length; i++) assert.ok(seen[i]!.revision > seen[i - 1]!.revision)
    const last = seen.at(-1)!
    // Writes that nothing orders may be done in any order; the deletion tells the state that was the last.
    const before = seen.findLast(c => c.type === 'PUT' && c.key === 'k/3')!
    assert.deepEqual([last.type, last.key, last.revision, text(last.value)], ['DELETE', 'k/3', deleted, text(before.value)])
    assert.equal(last.previousRevision, before.revision)
    const heads = new Map<string, number>()
    for (const c of seen) {
      assert.equal(c.previousRevision, heads.get(c.key) ?? 0)
      heads.set(c.key, c.revision)
    }
    stop()
    await store.put('after', bytes('x'), undefined)
    assert.equal(seen.length, 101)
  })

  check('a subscriber that starts at an older revision gets what it missed', async store => {
    const { revision } = await store.load()
    await store.put('a', bytes('1'), undefined)
    await store.put('b', bytes('2'), undefined)
    const seen: Change[] = []
    store.subscribe(revision, cs => seen.push(...cs), e => assert.fail(e))
    await store.put('c', bytes('3'), undefined)
    await until(() => seen.length === 3, '3 changes')
    assert.deepEqual(seen.map(c => c.key), ['a', 'b', 'c'])
  })

  check('a subscriber from before a compaction is told', async store => {
    const first = await store.put('a', bytes('1'), undefined)
    await store.put('a', bytes('2'), undefined)
    await store.compact(await store.put('a', bytes('3'), undefined))
    const broken = await new Promise<Error>(resolve => {
      store.subscribe(first, () => {}, resolve)
    })
    assert.ok(broken instanceof Error)
    assert.equal(text((await entriesOf(store))[0]!.value), '3')
  })

  check('a load while writes go on is one revision', async store => {
    const writes: Promise<number>[] = []
    for (let i = 0; i < 200; i++) writes.push(store.put(`k/${String(i).padStart(4, '0')}`, bytes('v'), undefined))
    const { revision, entries } = await store.load()
    for (let i = 200; i < 300; i++) writes.push(store.put(`k/${String(i).padStart(4, '0')}`, bytes('v'), undefined))
    const keys = new Set<string>()
    for await (const e of entries) {
      assert.ok(e.revision <= revision)
      keys.add(e.key)
    }
    const revisions = await Promise.all(writes)
    revisions.forEach((r, i) => assert.equal(r <= revision, keys.has(`k/${String(i).padStart(4, '0')}`)))
  })

  check('values of a megabyte and of nothing', async (store, open) => {
    const big = Buffer.alloc(1 << 20, 'x')
    await Promise.all([store.put('big', big, undefined), store.put('empty', bytes(''), undefined)])
    await store.close()
    const entries = await entriesOf(await open())
    assert.deepEqual(entries.map(e => [e.key, e.value.length]), [['big', 1 << 20], ['empty', 0]])
  })
}
