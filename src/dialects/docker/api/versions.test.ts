import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CreateContainer, ImageInspect, ImageSummary } from '../model.ts'
import { createShape } from './shapes.ts'
import { requestedVersion } from './version-number.ts'
import { liftCreate, liftVolumePrune, lowerImageInspect, lowerImages, lowerInfo } from './versions.ts'

function lifted(version: number, host: CreateContainer['hostConfig'], more: Partial<CreateContainer> = {}) {
  const request: CreateContainer = { config: {}, hostConfig: structuredClone(host), endpoints: {}, ...more }
  return { warnings: liftCreate(version, request), request }
}

test('versions that are not spoken are refused in the words clients know', () => {
  assert.equal(requestedVersion('1.41').minor, 41)
  assert.match(requestedVersion('1.23').refusal!, /^client version 1\.23 is too old\. Minimum supported API version is 1\.24, please upgrade/)
  assert.equal(requestedVersion('1.23').plainErrors, true)
  assert.equal(requestedVersion('1.99').refusal, 'client version 1.99 is too new. Maximum supported API version is 1.50')
  assert.equal(requestedVersion('1.99').plainErrors, false)
  assert.match(requestedVersion('2.0').refusal!, /too new/)
  assert.match(requestedVersion('0.9').refusal!, /too old/)
})

test('a container of an old client is made as its daemon made it', () => {
  assert.equal(lifted(24, { AutoRemove: true }).request.hostConfig.AutoRemove, undefined)
  assert.equal(lifted(25, { AutoRemove: true }).request.hostConfig.AutoRemove, true)
  assert.equal(lifted(39, {}).request.hostConfig.IpcMode, 'shareable')
  assert.equal(lifted(40, {}).request.hostConfig.IpcMode, undefined)
  const wrongOptions = { Mounts: [{ Type: 'bind' as const, Source: '/a', Target: '/b', VolumeOptions: { NoCopy: true } }] }
  assert.equal(lifted(41, wrongOptions).request.hostConfig.Mounts![0]!.VolumeOptions, undefined)
  assert.deepEqual(lifted(42, wrongOptions).request.hostConfig.Mounts![0]!.VolumeOptions, { NoCopy: true })
  assert.throws(() => lifted(43, {}, { endpoints: { a: {}, b: {} } }), /Container cannot be connected to network endpoints: a, b/)
  assert.deepEqual(Object.keys(lifted(44, {}, { endpoints: { a: {}, b: {} } }).request.endpoints), ['a', 'b'])
})

test('a container-wide MAC address becomes the main network\'s', () => {
  const config = { MacAddress: '02:00:00:00:00:01' }
  const old = lifted(43, { NetworkMode: 'n' }, { config: { ...config } })
  assert.deepEqual([old.request.endpoints['n'], old.warnings], [{ MacAddress: config.MacAddress }, []])
  const today = lifted(44, { NetworkMode: 'n' }, { config: { ...config }, endpoints: { n: { Aliases: ['x'] } } })
  assert.deepEqual(today.request.endpoints['n'], { Aliases: ['x'], MacAddress: config.MacAddress })
  assert.match(today.warnings[0]!, /MacAddress field is now deprecated/)
  assert.throws(() => lifted(44, { NetworkMode: 'n' }, { config: { ...config }, endpoints: { n: { MacAddress: '02:00:00:00:00:02' } } }), /must match/)
})

test('sysctls of an interface move to its endpoint, and since 1.48 have to be there', () => {
  const host = { NetworkMode: 'n', Sysctls: { 'net.ipv4.conf.eth0.forwarding': '1', 'net.core.somaxconn': '5' } }
  const { request } = lifted(47, host)
  assert.deepEqual(request.hostConfig.Sysctls, { 'net.core.somaxconn': '5' })
  assert.deepEqual(request.endpoints['n']!.DriverOpts, { 'com.docker.network.endpoint.sysctls': 'net.ipv4.conf.IFNAME.forwarding=1' })
  assert.throws(() => lifted(48, host), /must be supplied using driver option/)
})

test('images are shown as the client\'s version shows them', () => {
  const image: ImageSummary = {
    Id: 'sha256:1', ParentId: '', RepoTags: [], RepoDigests: [], Created: 1, Size: 7, SharedSize: -1, Containers: -1, Labels: null,
  }
  const at = (v: number) => lowerImages(v, [image])[0] as ImageSummary & { VirtualSize?: number }
  assert.deepEqual([at(42).RepoTags, at(42).RepoDigests, at(42).VirtualSize], [['<none>:<none>'], ['<none>@<none>'], 7])
  assert.deepEqual([at(43).RepoTags, at(43).VirtualSize], [[], 7])
  assert.deepEqual([at(44).RepoTags, at(44).VirtualSize], [[], undefined])
  assert.deepEqual(image.RepoTags, [], 'the backend\'s object is left as it is')
  const inspected = { Size: 7, Config: { Hostname: 'h', Env: ['A=b'] }, ContainerConfig: {}, Container: '' } as unknown as ImageInspect
  for (const v of [24, 44, 45, 50]) assert.deepEqual(lowerImageInspect(v, inspected).ContainerConfig, {}, `1.${v}: docker-compose 1.29 reads it`)
  assert.deepEqual(lowerImageInspect(50, inspected).Config, { Env: ['A=b'] })
  assert.equal(lowerImageInspect(49, inspected).Config.AttachStdin, false)
})

test('older daemons pruned named volumes too; information appears with its version', () => {
  const filters = {}
  liftVolumePrune(41, filters)
  assert.deepEqual(filters, { all: ['true'] })
  const info = { Containerd: {}, FirewallBackend: {}, SecurityOptions: ['name=seccomp,profile=builtin'] }
  assert.deepEqual(lowerInfo(24, info), { SecurityOptions: ['seccomp'] })
  assert.deepEqual(Object.keys(lowerInfo(50, info)), ['Containerd', 'FirewallBackend', 'SecurityOptions'])
})

test('bodies: names in any case, unknown ones passed over, wrong types refused by name', () => {
  const body = createShape({ image: 'x', Cmd: 'ls', hostconfig: { memory: 5, PortBindings: { '80/tcp': null } }, What: 1, Env: null }, '')
  assert.deepEqual(body, { Image: 'x', Cmd: ['ls'], HostConfig: { Memory: 5, PortBindings: { '80/tcp': null } } })
  assert.throws(() => createShape({ HostConfig: { Memory: '5' } }, ''), { message: 'invalid JSON: HostConfig.Memory must be an integer, not a string' })
  assert.throws(() => createShape({ Env: ['A', 1] }, ''), /Env\[1\] must be a string/)
  assert.throws(() => createShape([], ''), /the body must be an object/)
})
