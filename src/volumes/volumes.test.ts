import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { createVolumes, VolumeError } from './index.ts'

let dataDir: string
before(async () => { dataDir = await mkdtemp(join(tmpdir(), 'gantry-volumes-')) })
after(() => rm(dataDir, { recursive: true, force: true }))

const refuses = (code: VolumeError['code'], text: RegExp) => (error: unknown): boolean =>
  error instanceof VolumeError && error.code === code && text.test(error.message)

describe('content volumes', () => {
  test('hold files, modes and nested paths, and change all at once', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-a', 'config', {
      type: 'content', files: [{ path: 'plain', data: 'one' }, { path: 'deep/er/file', data: Buffer.from([0, 255]), mode: 0o400 }],
    })
    assert.equal(await readFile(join(path, 'plain'), 'utf8'), 'one')
    assert.deepEqual(await readFile(join(path, 'deep/er/file')), Buffer.from([0, 255]))
    assert.equal((await stat(join(path, 'plain'))).mode & 0o777, 0o644)
    assert.equal((await stat(join(path, 'deep/er/file'))).mode & 0o777, 0o400)
    const firstVersion = await readlink(join(path, '..data'))

    assert.equal(await volumes.update('pod-a', 'config', [
      { path: 'plain', data: 'one' }, { path: 'deep/er/file', data: Buffer.from([0, 255]), mode: 0o400 }]), false)
    assert.equal(await readlink(join(path, '..data')), firstVersion)

    assert.equal(await volumes.update('pod-a', 'config', [{ path: 'plain', data: 'two' }, { path: 'new', data: '' }]), true)
    assert.equal(await readFile(join(path, 'plain'), 'utf8'), 'two')
    const version = await readlink(join(path, '..data'))
    assert.notEqual(version, firstVersion)
    assert.deepEqual((await readdir(path)).sort(), [version, '..data', 'new', 'plain'].sort())
  })

  test('a mode alone is a change; a new process finds the volume', async () => {
    const path = await createVolumes({ dataDir }).mount('pod-b', 'secret', { type: 'content', files: [{ path: 'k', data: 'v' }], defaultMode: 0o400 })
    const next = createVolumes({ dataDir })
    assert.equal(await next.update('pod-b', 'secret', [{ path: 'k', data: 'v' }]), false)
    assert.equal(await next.update('pod-b', 'secret', [{ path: 'k', data: 'v', mode: 0o444 }]), true)
    assert.equal((await stat(join(path, 'k'))).mode & 0o777, 0o444)
    await assert.rejects(next.update('pod-b', 'other', []), refuses('missing', /no volume other/))
  })

  test('what a kill left behind is cleaned up by the next write', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-c', 'config', { type: 'content', files: [{ path: 'k', data: '1' }] })
    await mkdir(join(path, '..vhalf'))
    await writeFile(join(path, '..vhalf', 'k'), 'half')
    await symlink('..vhalf', join(path, '..data_tmp'))
    await rm(join(path, 'k'))
    assert.equal(await volumes.update('pod-c', 'config', [{ path: 'k', data: '1' }]), false)
    assert.equal(await readFile(join(path, 'k'), 'utf8'), '1')
    assert.deepEqual((await readdir(path)).sort(), [await readlink(join(path, '..data')), '..data', 'k'].sort())
  })

  test('an empty one stays empty', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-e', 'none', { type: 'content', files: [] })
    assert.deepEqual((await readdir(path)).filter((name) => !name.startsWith('..')), [])
    assert.equal(await volumes.update('pod-e', 'none', []), false)
  })

  for (const [path, text] of [['../up', /contains "\.\."/], ['a/../../b', /contains "\.\."/], ['/etc/passwd', /absolute/], ['', /empty/],
    ['..data', /reserved/], ['..vx/k', /reserved/], ['.', /names nothing/], ['a\0b', /zero byte/], ['x'.repeat(300), /longer than 255/]] as const) {
    test(`refuses the path ${JSON.stringify(path.slice(0, 20))}`, async () => {
      await assert.rejects(createVolumes({ dataDir }).mount('pod-p', 'v', { type: 'content', files: [{ path, data: '' }] }), refuses('invalid', text))
    })
  }

  test('refuses a path that is both file and directory, and a mode that is none', async () => {
    const volumes = createVolumes({ dataDir })
    await assert.rejects(volumes.mount('pod-p', 'v', { type: 'content', files: [{ path: 'a', data: '' }, { path: 'a/b', data: '' }] }),
      refuses('invalid', /both a file and a directory/))
    await assert.rejects(volumes.mount('pod-p', 'v', { type: 'content', files: [{ path: 'a', data: '', mode: 0o4755 }] }), refuses('invalid', /mode/))
  })
})

describe('emptyDir and the life of pods', () => {
  test('keeps what a pod wrote until the pod goes; orphans go too', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-1', 'scratch', { type: 'emptyDir' })
    assert.equal((await stat(path)).mode & 0o7777, 0o777)
    await writeFile(join(path, 'kept'), Buffer.alloc(100_000))
    const next = createVolumes({ dataDir })
    assert.equal(await next.mount('pod-1', 'scratch', { type: 'emptyDir' }), path)
    assert.equal((await readFile(join(path, 'kept'))).length, 100_000)
    const bytes = (await next.usage('pod-1')).get('scratch') ?? 0
    assert.ok(bytes >= 100_000 && bytes < 200_000, `usage ${bytes}`)
    await next.mount('pod-2', 'scratch', { type: 'emptyDir' })
    const orphans = await next.removeOrphans(new Set(['pod-2']))
    assert.ok(orphans.includes('pod-1') && !orphans.includes('pod-2'))
    assert.deepEqual(await next.pods(), ['pod-2'])
    await assert.rejects(stat(path), { code: 'ENOENT' })
    await next.unmountPod('pod-2')
    await next.unmountPod('pod-2')
    assert.deepEqual(await next.pods(), [])
  })

  test('refuses names that are paths', async () => {
    const volumes = createVolumes({ dataDir })
    await assert.rejects(volumes.mount('../x', 'v', { type: 'emptyDir' }), refuses('invalid', /pod uid/))
    await assert.rejects(volumes.mount('x', '..', { type: 'emptyDir' }), refuses('invalid', /volume name/))
    await assert.rejects(volumes.unmountPod('a/b'), refuses('invalid', /pod uid/))
  })
})

describe('hostPath', () => {
  test('checks and makes what its type says, and is not removed with the pod', async () => {
    const volumes = createVolumes({ dataDir })
    const directory = join(dataDir, 'host', 'made')
    assert.equal(await volumes.mount('pod-h', 'd', { type: 'hostPath', path: directory, check: 'DirectoryOrCreate' }), directory)
    const file = join(directory, 'file')
    await volumes.mount('pod-h', 'f', { type: 'hostPath', path: file, check: 'FileOrCreate' })
    await writeFile(file, 'content')
    await volumes.mount('pod-h', 'f', { type: 'hostPath', path: file, check: 'FileOrCreate' })
    assert.equal(await readFile(file, 'utf8'), 'content')
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: file, check: 'Directory' }), refuses('check', /is not a directory/))
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: file, check: 'DirectoryOrCreate' }), refuses('check', /not a directory/))
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: directory, check: 'FileOrCreate' }), refuses('check', /is not a file/))
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: '/no/such', check: 'File' }), refuses('check', /does not exist/))
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: '/dev/null', check: 'Socket' }), refuses('check', /is not a socket/))
    assert.equal(await volumes.mount('pod-h', 'c', { type: 'hostPath', path: '/dev/null', check: 'CharDevice' }), '/dev/null')
    await assert.rejects(volumes.mount('pod-h', 'x', { type: 'hostPath', path: 'relative' }), refuses('invalid', /absolute/))
    await volumes.unmountPod('pod-h')
    assert.equal(await readFile(file, 'utf8'), 'content')
  })
})

describe('subPath', { skip: process.getuid?.() !== 0 && 'only root can bind' }, () => {
  test('makes directories, finds files, and never leaves the volume', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-s', 'v', { type: 'emptyDir' })
    const part = async (sub: string): Promise<number> => (await stat(await volumes.subPath('pod-s', 'v', sub))).ino
    await part('a/b')
    const { ino } = await stat(join(path, 'a/b'))
    assert.equal(await part('a/b'), ino)
    await symlink('/etc', join(path, 'etc'))
    await symlink('../../../..', join(path, 'up'))
    await symlink('a', join(path, 'inner'))
    await symlink('/nowhere/at/all', join(path, 'dangling'))
    assert.equal(await part('inner/b'), ino)
    for (const outside of ['etc/passwd', 'etc', 'up/x', '../v', '/etc', 'dangling/x']) {
      await assert.rejects(volumes.subPath('pod-s', 'v', outside), refuses('invalid', /./), outside)
    }
    await volumes.mount('pod-s', 'c', { type: 'content', files: [{ path: 'app.conf', data: 'x' }] })
    assert.equal(await readFile(await volumes.subPath('pod-s', 'c', 'app.conf'), 'utf8'), 'x')
    await writeFile(join(path, 'a/b/kept'), 'y')
    await volumes.unmountPod('pod-s')
  })

  test('what it answers stays what it was, whatever is put in its place', async () => {
    const volumes = createVolumes({ dataDir })
    const path = await volumes.mount('pod-t', 'v', { type: 'emptyDir' })
    await mkdir(join(path, 'data'))
    await writeFile(join(path, 'data/own'), 'own')
    const part = await volumes.subPath('pod-t', 'v', 'data')
    await rename(join(path, 'data'), join(path, 'moved'))
    await symlink('/etc', join(path, 'data'))
    assert.deepEqual(await readdir(part), ['own'])
    await volumes.unmountPod('pod-t')
  })

  test('a host path keeps its files when the pod goes', async () => {
    const volumes = createVolumes({ dataDir })
    const host = join(dataDir, 'host')
    await mkdir(join(host, 'sub'), { recursive: true })
    await writeFile(join(host, 'sub/file'), 'x')
    await volumes.mount('pod-u', 'h', { type: 'hostPath', path: host })
    await volumes.subPath('pod-u', 'h', 'sub')
    await volumes.unmountPod('pod-u')
    assert.equal(await readFile(join(host, 'sub/file'), 'utf8'), 'x')
  })
})
