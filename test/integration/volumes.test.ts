/** What needs root: tmpfs, groups, and readers during a swap. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { createVolumes } from '../../src/volumes/index.ts'

let dataDir: string
before(async () => { dataDir = await mkdtemp(join(tmpdir(), 'gantry-volumes-')) })
after(async () => {
  for (const uid of await createVolumes({ dataDir }).pods()) await createVolumes({ dataDir }).unmountPod(uid)
  execFileSync('umount', [join(dataDir, 'memory')])
  await rm(dataDir, { recursive: true, force: true })
})

const mounts = (): number => execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' }).split('\n').filter((line) => line.includes(dataDir)).length

test('an emptyDir in memory has its size, its group, survives a restart and goes with its pod', async () => {
  const volumes = createVolumes({ dataDir })
  const path = await volumes.mount('pod-m', 'cache', { type: 'emptyDir', memory: true, sizeLimitBytes: 1 << 20 }, { fsGroup: 4321 })
  const { bsize, blocks, type } = await statfs(path)
  assert.equal(type, 0x01021994)
  assert.equal(bsize * blocks, 1 << 20)
  const info = await stat(path)
  assert.equal(info.gid, 4321)
  assert.equal(info.mode & 0o7777, 0o2777)
  await writeFile(join(path, 'x'), 'kept')
  await assert.rejects(writeFile(join(path, 'big'), Buffer.alloc(2 << 20)), { code: 'ENOSPC' })
  const next = createVolumes({ dataDir })
  await next.mount('pod-m', 'cache', { type: 'emptyDir', memory: true, sizeLimitBytes: 1 << 20 }, { fsGroup: 4321 })
  assert.equal(await readFile(join(path, 'x'), 'utf8'), 'kept')
  assert.equal(mounts(), 1)
  await next.unmountPod('pod-m')
  assert.equal(mounts(), 0)
  await assert.rejects(stat(path), { code: 'ENOENT' })
})

test('a secret lies in memory, readable by its group', async () => {
  const volumes = createVolumes({ dataDir })
  const path = await volumes.mount('pod-s', 'token', { type: 'content', files: [{ path: 'token', data: 's3' }], defaultMode: 0o600, memory: true },
    { fsGroup: 1234 })
  assert.equal((await statfs(path)).type, 0x01021994)
  const info = await stat(join(path, 'token'))
  assert.equal(info.mode & 0o777, 0o640)
  assert.equal(info.gid, 1234)
  assert.equal(await volumes.update('pod-s', 'token', [{ path: 'token', data: 's4' }]), true)
  assert.equal((await stat(join(path, 'token'))).gid, 1234)
  assert.equal((await volumes.usage('pod-s')).get('token')! > 0, true)
  // The next process uses the same memory, and a volume there is as it was.
  const next = createVolumes({ dataDir })
  assert.equal(await next.update('pod-s', 'token', [{ path: 'token', data: 's4' }]), false)
  assert.equal(await next.subPath('pod-s', 'token', 'token').then(p => readFile(p, 'utf8')), 's4')
  await next.mount('pod-t', 'token', { type: 'content', files: [{ path: 'token', data: 't1' }], memory: true })
  assert.equal(mounts(), 1)
  assert.deepEqual((await next.removeOrphans(new Set())).sort(), ['pod-s', 'pod-t'])
  await assert.rejects(stat(join(dataDir, 'memory', 'pod-s')), { code: 'ENOENT' })
  await assert.rejects(stat(path), { code: 'ENOENT' })
})

test('a reader of `..data` never sees two versions mixed', async () => {
  const volumes = createVolumes({ dataDir })
  const files = (version: number): { path: string; data: string }[] => ['a', 'b', 'c'].map((path) => ({ path, data: String(version) }))
  const path = await volumes.mount('pod-r', 'config', { type: 'content', files: files(0) })
  let done = false
  const writer = (async () => {
    for (let version = 1; version <= 15; version++) await volumes.update('pod-r', 'config', files(version))
    done = true
  })()
  let reads = 0
  while (!done) {
    // A shell that enters the version once, as a program would that opens the directory.
    const seen = execFileSync('sh', ['-c', 'cd -P "$1/..data" && cat a b c 2>/dev/null || true', 'sh', path], { encoding: 'utf8' })
    await new Promise((resolve) => setImmediate(resolve))
    if (seen.length % 3 !== 0) continue
    const third = seen.length / 3
    assert.equal(seen.slice(0, third), seen.slice(third, 2 * third))
    assert.equal(seen.slice(0, third), seen.slice(2 * third))
    reads++
  }
  await writer
  assert.ok(reads > 0)
  assert.equal(await readFile(join(path, 'b'), 'utf8'), '15')
})
