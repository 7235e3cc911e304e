/**
 * The thread that owns the database file. It takes every commit message that waits into one transaction, so that one
 * fsync serves all writes that arrived while the previous one ran.
 */
import { chmodSync, closeSync, fsyncSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { CommitMessage, FromWorker, ToWorker } from './sqlite-protocol.ts'

const PAGE_BYTES = 4096
/** Checkpoint above the first size once nothing has been written for a moment, above the second at once: it holds up writes. */
const WAL_IDLE_BYTES = 1000 * PAGE_BYTES
const WAL_MAX_BYTES = 2000 * PAGE_BYTES
const IDLE_MS = 100
/** A group is closed at this size, so that a latency-bound writer does not wait for a giant one. */
const GROUP_MAX_BYTES = 8 << 20
const LOAD_PAGE = 500

const port = parentPort!
const { path } = workerData as { path: string }
const send = (m: FromWorker, transfer?: ArrayBuffer[]): void => port.postMessage(m, transfer ?? [])

function open(): DatabaseSync {
  // Made with its final mode before SQLite opens it; the -wal and -shm files take over the mode.
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
  const db = new DatabaseSync(path, { timeout: 0 })
  // Exclusive: one server owns the file, and the WAL index needs no shared memory.
  db.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA page_size = ${PAGE_BYTES};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -8192;
    CREATE TABLE IF NOT EXISTS entry (key TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO meta VALUES ('format', 1), ('revision', 0);
  `)
  const dir = openSync(dirname(path), 'r')
  fsyncSync(dir)
  closeSync(dir)
  return db
}

function run(db: DatabaseSync): void {
  const put = db.prepare('INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value')
  const remove = db.prepare('DELETE FROM entry WHERE key = ? RETURNING value')
  const setRevision = db.prepare("UPDATE meta SET value = ? WHERE name = 'revision'")
  const getRevision = db.prepare("SELECT value FROM meta WHERE name = 'revision'")
  const all = db.prepare('SELECT key, revision, value FROM entry ORDER BY key')
  let deadEpoch = -1
  let idle: NodeJS.Timeout | undefined

  function write(m: CommitMessage, deleted: Uint8Array[]): void {
    let offset = 0
    for (let i = 0; i < m.keys.length; i++) {
      const length = m.lengths[i]!
      if (length < 0) {
        const row = remove.get(m.keys[i]!) as { value: Uint8Array } | undefined
        deleted.push(row?.value ?? new Uint8Array())
      } else {
        put.run(m.keys[i]!, m.revisions[i]!, new Uint8Array(m.data, offset, length))
        offset += length
      }
    }
  }

  function walBytes(): number {
    return statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0
  }

  function checkpoint(): void {
    try {
      db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      // A full disk: the log keeps what is committed; the next checkpoint tries again.
    }
  }

  function commit(first: CommitMessage): ToWorker | undefined {
    const deleted: Uint8Array[] = []
    let next: ToWorker | undefined
    let last = first
    try {
      db.exec('BEGIN IMMEDIATE')
      write(first, deleted)
      let bytes = first.data.byteLength
      while (bytes < GROUP_MAX_BYTES) {
        const message = (receiveMessageOnPort(port) as { message: ToWorker } | undefined)?.message
        if (message === undefined) break
        if (message.type !== 'commit') { next = message; break }
        write(message, deleted)
        bytes += message.data.byteLength
        last = message
      }
      setRevision.run(last.revisions.at(-1)!)
      db.exec('COMMIT')
    } catch (e) {
      deadEpoch = first.epoch
      if (db.isTransaction) db.exec('ROLLBACK')
      send({ type: 'failed', epoch: first.epoch, message: e instanceof Error ? e.message : String(e) })
      return next
    }
    send({ type: 'committed', through: last.through, deleted })
    if (walBytes() > WAL_MAX_BYTES) checkpoint()
    else if (idle !== undefined) idle.refresh()
    else idle = setTimeout(() => {
      idle = undefined
      if (walBytes() > WAL_IDLE_BYTES) checkpoint()
    }, IDLE_MS)
    return next
  }

  function load(): void {
    let page = { type: 'page' as const, keys: [] as string[], revisions: [] as number[], values: [] as Uint8Array[] }
    try {
      for (const row of all.iterate() as Iterable<{ key: string; revision: number; value: Uint8Array }>) {
        page.keys.push(row.key)
        page.revisions.push(row.revision)
        page.values.push(row.value)
        if (page.keys.length === LOAD_PAGE) {
          send(page, page.values.map(v => v.buffer as ArrayBuffer))
          page = { type: 'page', keys: [], revisions: [], values: [] }
        }
      }
    } catch (e) {
      send({ type: 'failed-load', message: e instanceof Error ? e.message : String(e) })
      return
    }
    send(page, page.values.map(v => v.buffer as ArrayBuffer))
    send({ type: 'loaded', revision: (getRevision.get() as { value: number }).value })
  }

  function handle(m: ToWorker): ToWorker | undefined {
    if (m.type === 'commit') return m.epoch > deadEpoch ? commit(m) : undefined
    if (m.type === 'load') load()
    else {
      clearTimeout(idle)
      checkpoint()
      db.close()
      send({ type: 'closed' })
      port.close()
    }
    return undefined
  }

  port.on('message', (m: ToWorker) => {
    for (let next: ToWorker | undefined = m; next !== undefined;) next = handle(next)
  })
  send({ type: 'open', revision: (getRevision.get() as { value: number }).value })
}

try {
  run(open())
} catch (e) {
  const message = e instanceof Error ? e.message : String(e)
  send({ type: 'failed-open', message: /locked/.test(message) ? 'it is in use by another server' : message })
}
