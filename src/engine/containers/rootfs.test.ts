import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { layerDirectories, readInRoot } from './rootfs.ts'

const root = mkdtempSync(join(tmpdir(), 'gantry-rootfs-'))
after(() => { rmSync(root, { recursive: true, force: true }) })
const [upper, lower] = [join(root, 'upper'), join(root, 'lower')] as const
for (const d of [upper, lower]) mkdirSync(join(d, 'etc'), { recursive: true })
writeFileSync(join(root, 'secret'), 'host')
writeFileSync(join(lower, 'etc/passwd'), 'lower')
writeFileSync(join(lower, 'etc/group'), 'lower group')
writeFileSync(join(upper, 'etc/passwd'), 'upper')
symlinkSync('/etc/passwd', join(lower, 'absolute'))
symlinkSync('../../../../secret', join(lower, 'etc/escape'))
symlinkSync(join(root, 'secret'), join(lower, 'etc/host'))
symlinkSync('loop', join(lower, 'loop'))
symlinkSync('/etc', join(lower, 'config'))
const read = (path: string): string | undefined => readInRoot([upper, lower], path, 100)

test('the newest layer counts', () => {
  assert.equal(read('/etc/passwd'), 'upper')
  assert.equal(read('/etc/group'), 'lower group')
  assert.equal(read('/etc/none'), undefined)
})

test('links are followed inside the root, in whichever layer they end, and never out of it', () => {
  assert.equal(read('/absolute'), 'upper')
  assert.equal(read('/config/group'), 'lower group')
  assert.equal(read('/etc/escape'), undefined)
  assert.equal(read('/etc/host'), undefined)
  assert.equal(read('/loop'), undefined)
  assert.equal(read('/../../etc/passwd'), 'upper')
})

test('only regular files within the bound are read', () => {
  assert.equal(read('/etc'), undefined)
  assert.equal(readInRoot([lower], '/etc/passwd', 3), undefined)
})

test('layers come from the mount', () => {
  const options = ['index=off', 'workdir=/w', 'upperdir=/u', 'lowerdir=/b:/a']
  assert.deepEqual(layerDirectories([{ type: 'overlay', source: 'overlay', options }]), ['/u', '/b', '/a'])
  assert.deepEqual(layerDirectories([{ type: 'bind', source: '/s', options: [] }]), ['/s'])
  assert.equal(layerDirectories([]), undefined)
})
