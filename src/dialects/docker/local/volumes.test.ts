import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openNamedVolumes } from '../../../volumes/named/index.ts'
import { DockerError } from '../errors.ts'
import { createVolumes } from './volumes.ts'

const root = mkdtempSync(join(tmpdir(), 'gantry-docker-volumes-'))
after(() => { rmSync(root, { recursive: true, force: true }) })

async function open(name: string): Promise<{ api: ReturnType<typeof createVolumes>; events: string[]; volumes: Awaited<ReturnType<typeof openNamedVolumes>> }> {
  const volumes = await openNamedVolumes({ dataDir: join(root, name), pluginDirs: [] })
  const events: string[] = []
  const api = createVolumes({ volumes, events: { emit: (type, action, id, attributes) => { events.push(`${type} ${action} ${id} ${JSON.stringify(attributes)}`) } } })
  return { api, events, volumes }
}

test('filters of the list, and what dangles', async () => {
  const { api, volumes } = await open('list')
  await api.create({ Name: 'web-data', Labels: { tier: 'web', x: '' } })
  await api.create({ Name: 'db-data', Labels: { tier: 'db' } })
  await volumes.reference('db-data', 'c1')
  const names = async (filters: Record<string, string[]>): Promise<string[]> => (await api.list(filters)).Volumes.map((v) => v.Name)
  assert.deepEqual(await names({}), ['db-data', 'web-data'])
  assert.deepEqual(await names({ dangling: ['true'] }), ['web-data'])
  assert.deepEqual(await names({ dangling: ['0'] }), ['db-data'])
  assert.deepEqual(await names({ label: ['tier=db'] }), ['db-data'])
  assert.deepEqual(await names({ label: ['tier', 'x'] }), ['web-data'])
  assert.deepEqual(await names({ 'label!': ['x'] }), ['db-data'])
  assert.deepEqual(await names({ name: ['web', 'nothing'] }), ['web-data'])
  assert.deepEqual(await names({ name: ['^db'] }), ['db-data'])
  assert.deepEqual(await names({ driver: ['store'] }), [])
  await assert.rejects(names({ dangling: ['perhaps'] }), (e) => e instanceof DockerError && e.status === 400 && e.message === "invalid filter 'dangling=[perhaps]'")
})

test("errors have dockerd's texts and statuses", async () => {
  const { api, volumes } = await open('errors')
  await api.create({ Name: 'used' })
  await volumes.reference('used', 'c0ffee')
  for (const [work, status, message] of [
    [() => api.inspect('none'), 404, 'get none: no such volume'],
    [() => api.remove('none', false), 404, 'get none: no such volume'],
    [() => api.remove('used', true), 409, 'remove used: volume is in use - [c0ffee]'],
    [() => api.create({ Name: 'v', Driver: 'local' }), 400, 'create v: volume name is too short, names should be at least two alphanumeric characters'],
    [() => api.create({ Name: 'vv', DriverOpts: { a: 'b' } }), 400, 'create vv: invalid option: "a"'],
  ] as const) {
    await assert.rejects(work, (e) => { assert.ok(e instanceof DockerError); assert.deepEqual([e.status, e.message], [status, message]); return true })
  }
})

test('prune takes anonymous ones, or all; what is used stays; df and events tell', async () => {
  const { api, events, volumes } = await open('prune')
  const anonymous = await api.create({})
  const kept = await api.create({})
  const created = await api.create({ Name: 'named', Labels: { keep: 'no' } })
  assert.match(created.CreatedAt ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  await api.create({ Name: 'other' })
  await volumes.reference(kept.Name, 'c1')
  writeFileSync(join(anonymous.Mountpoint, 'f'), 'x'.repeat(1000))
  const usage = await api.diskUsage()
  assert.deepEqual(usage.find((v) => v.Name === anonymous.Name)?.UsageData, { Size: 1000, RefCount: 0 })
  assert.deepEqual(usage.find((v) => v.Name === kept.Name)?.UsageData, { Size: 0, RefCount: 1 })
  events.length = 0
  assert.deepEqual(await api.prune({}), { VolumesDeleted: [anonymous.Name], SpaceReclaimed: 1000 })
  assert.deepEqual(events, [`volume destroy ${anonymous.Name} {"driver":"local"}`, 'volume prune  {"reclaimed":"1000"}'])
  assert.deepEqual((await api.prune({ all: ['1'], label: ['keep=no'] })).VolumesDeleted, ['named'])
  assert.deepEqual((await api.prune({ all: ['true'] })).VolumesDeleted, ['other'])
})
