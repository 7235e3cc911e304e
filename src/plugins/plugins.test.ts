import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openPlugins, PluginError } from './index.ts'

const root = mkdtempSync(join(tmpdir(), 'gantry-plugins-'))
const servers: Server[] = []
after(() => {
  for (const s of servers) { s.closeAllConnections(); s.close() }
  rmSync(root, { recursive: true, force: true })
})

let folders = 0
function folder(): string {
  const dir = join(root, String(++folders))
  mkdirSync(dir)
  return dir
}

type Handler = (path: string, body: Record<string, unknown>) => { status?: number; body: unknown; afterMs?: number }

/** A plugin of the kind VolumeDriver; `calls` are the paths asked for. */
async function plugin(listen: string | number, handle: Handler = () => ({ body: {} }), kinds: unknown = ['VolumeDriver']): Promise<{ server: Server; calls: string[] }> {
  const calls: string[] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const p of request) parts.push(p as Buffer)
    const path = request.url ?? ''
    calls.push(path)
    const text = Buffer.concat(parts).toString()
    const { status = 200, body, afterMs } = path === '/Plugin.Activate'
      ? { status: 200, body: { Implements: kinds }, afterMs: undefined } : handle(path, JSON.parse(text || '{}') as Record<string, unknown>)
    if (afterMs !== undefined) await sleep(afterMs)
    response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  servers.push(server)
  server.listen(listen)
  await once(server, 'listening')
  return { server, calls }
}

const failing = (code: PluginError['code'], message: RegExp) => (e: unknown): boolean => {
  assert.ok(e instanceof PluginError, String(e))
  assert.equal(e.code, code)
  assert.match(e.message, message)
  return true
}

test('finds sockets, in folders too, spec and json files; and nothing by a name that is a path', async () => {
  const dir = folder()
  await plugin(join(dir, 'a.sock'))
  mkdirSync(join(dir, 'b'))
  await plugin(join(dir, 'b', 'b.sock'))
  const tcp = await plugin(0)
  const address = `tcp://127.0.0.1:${(tcp.server.address() as AddressInfo).port}`
  writeFileSync(join(dir, 'c.spec'), `${address}\n`)
  writeFileSync(join(dir, 'd.json'), JSON.stringify({ Name: 'd', Addr: address }))
  writeFileSync(join(dir, 'gone.spec'), 'unix:///nowhere/at/all.sock')
  const plugins = openPlugins({ dirs: [join(dir, 'none'), dir], connectMs: 100 })
  assert.deepEqual((await plugins.list('VolumeDriver')).map((p) => p.name), ['a', 'b', 'c', 'd'])
  assert.deepEqual(await plugins.list('NetworkDriver'), [])
  assert.equal((await plugins.get('c', 'VolumeDriver')).address, address)
  for (const name of ['nope', '../a', 'b/b', '']) await assert.rejects(plugins.get(name, 'VolumeDriver'), failing('not-found', /^plugin ".*" not found$/))
  await assert.rejects(plugins.get('a', 'IpamDriver'), failing('not-found', /plugin "a" does not implement IpamDriver/))
  await assert.rejects(plugins.get('gone', 'VolumeDriver'), failing('unreachable', /plugin "gone": Plugin\.Activate: /))
})

test('a call carries its body and its answer; errors say whose they are', async () => {
  const dir = folder()
  const { calls } = await plugin(join(dir, 'v.sock'), (path, body) => {
    switch (path) {
      case '/VolumeDriver.Echo': return { body: { got: body } }
      case '/VolumeDriver.Err': return { body: { Err: 'disk on fire' } }
      case '/IpamDriver.Error': return { body: { Error: 'no pool' } }
      case '/VolumeDriver.Status': return { status: 500, body: { Err: 'inside' } }
      case '/VolumeDriver.Text': return { status: 503, body: 'come back later' }
      case '/VolumeDriver.Empty': return { body: '' }
      case '/VolumeDriver.Junk': return { body: '<html>' }
      case '/VolumeDriver.Slow': return { body: {}, afterMs: 400 }
      default: return { status: 404, body: 'page not found' }
    }
  })
  const v = await openPlugins({ dirs: [dir] }).get('v', 'VolumeDriver')
  assert.deepEqual(await v.call('VolumeDriver.Echo', { Name: 'x' }), { got: { Name: 'x' } })
  assert.deepEqual(await v.call('VolumeDriver.Empty'), {})
  await assert.rejects(v.call('VolumeDriver.Err'), failing('refused', /^VolumeDriver\.Err: disk on fire$/))
  await assert.rejects(v.call('IpamDriver.Error'), failing('refused', /^IpamDriver\.Error: no pool$/))
  await assert.rejects(v.call('VolumeDriver.Status'), failing('refused', /^VolumeDriver\.Status: inside$/))
  await assert.rejects(v.call('VolumeDriver.Text'), failing('refused', /come back later/))
  await assert.rejects(v.call('VolumeDriver.Junk'), failing('protocol', /no JSON object/))
  await assert.rejects(v.call('VolumeDriver.Capabilities'), failing('not-implemented', /VolumeDriver\.Capabilities/))
  await assert.rejects(v.call('VolumeDriver.Slow', {}, { timeoutMs: 100 }), failing('timeout', /plugin "v": VolumeDriver\.Slow: no answer within 0\.1 s/))
  assert.equal(calls.filter((c) => c === '/Plugin.Activate').length, 1)
})

test('a call waits for a plugin that is starting again, and activates it anew', async () => {
  const dir = folder()
  const path = join(dir, 'r.sock')
  const first = await plugin(path)
  const r = await openPlugins({ dirs: [dir] }).get('r', 'VolumeDriver')
  await r.call('VolumeDriver.List')
  first.server.closeAllConnections()
  await new Promise((resolve) => { first.server.close(resolve) })
  const waiting = r.call('VolumeDriver.List')
  await sleep(150)
  const second = await plugin(path)
  await waiting
  assert.deepEqual(second.calls, ['/Plugin.Activate', '/VolumeDriver.List'])
})

test('wrong answers and spec files are told', async () => {
  const dir = folder()
  await plugin(join(dir, 'bad.sock'), undefined, 'VolumeDriver')
  await plugin(join(dir, 'huge.sock'), () => ({ body: 'x'.repeat(17 << 20) }))
  writeFileSync(join(dir, 'spec.spec'), 'not an address')
  writeFileSync(join(dir, 'json.json'), '{')
  const plugins = openPlugins({ dirs: [dir], connectMs: 100 })
  await assert.rejects(plugins.get('bad', 'VolumeDriver'), failing('protocol', /Implements is missing/))
  await assert.rejects((await plugins.get('huge', 'VolumeDriver')).call('VolumeDriver.List'), failing('protocol', /larger than 16 MiB/))
  await assert.rejects(plugins.get('spec', 'VolumeDriver'), failing('protocol', /spec\.spec: "not an address" is no address/))
  await assert.rejects(plugins.get('json', 'VolumeDriver'), failing('protocol', /json\.json: /))
})
