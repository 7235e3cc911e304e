/** The router's proxy for real: instances come and go under load, and no request fails. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, createServer, get, type Server } from 'node:http'
import { createServer as createTcpServer, connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { lineLogger } from '../../src/core/log.ts'
import type { Way } from '../../src/router/desired.ts'
import { planOf, type Plan } from '../../src/router/plan.ts'
import { emptyPlan, Proxy, proxyCommand, writeProxyFiles } from '../../src/router/proxy.ts'

const dir = mkdtempSync(join(tmpdir(), 'gantry-router-'))
const servers: Server[] = []
let place: { dataDir: string; runDir: string; httpAddress: string; httpPort: number }
let haproxy: ChildProcess
let proxy: Proxy
let plan: Plan | undefined
const held = new Map<string, string>()

const listening = (s: { listen(port: number, host: string, f: () => void): unknown; address(): unknown }) =>
  new Promise<number>(resolve => { s.listen(0, '127.0.0.1', () => resolve((s.address() as AddressInfo).port)) })

/** An instance that answers with its name; `close` lets requests under way finish. */
async function instance(name: string): Promise<{ port: number; close(): void }> {
  const s = createServer((_, res) => setTimeout(() => res.end(name), 5))
  servers.push(s)
  const port = await listening(s)
  return { port, close: () => s.close() }
}

function route(...ways: Partial<Way>[]): void {
  plan = planOf({ ways: ways.map(w => ({ route: 'default/x', sticky: false, targets: [], ...w })), refusals: [] }, plan, held)
  proxy.apply(plan)
}

function fetchText(host: string, path = '/', agent?: Agent): Promise<{ status: number; text: string; cookie: string | undefined }> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port: place.httpPort, path, headers: { host }, ...(agent && { agent }) }, res => {
      let text = ''
      res.on('data', d => { text += d })
      res.on('end', () => resolve({ status: res.statusCode!, text, cookie: res.headers['set-cookie']?.[0] }))
    }).on('error', reject)
  })
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5000
  while (!await check().catch(() => false)) {
    if (Date.now() > deadline) throw new Error(`in 5 s it did not come true that ${what}`)
    await sleep(20)
  }
}

function startHaproxy(): void {
  const [command, ...args] = proxyCommand(place)
  haproxy = spawn(command!, args, { stdio: 'ignore' })
}

before(async () => {
  const probe = createTcpServer()
  const httpPort = await listening(probe)
  probe.close()
  place = { dataDir: join(dir, 'data'), runDir: join(dir, 'run'), httpAddress: '127.0.0.1', httpPort }
  writeProxyFiles(place, emptyPlan())
  startHaproxy()
  proxy = new Proxy(place, lineLogger('router', () => {}))
  await until('the proxy answers', async () => (await fetchText('nobody.test')).status === 404)
})

after(() => {
  proxy.close()
  haproxy.kill('SIGKILL')
  for (const s of servers) s.close()
  rmSync(dir, { recursive: true, force: true })
})

const local = (port: number) => ({ ip: '127.0.0.1', port })

test('leads a host to its instances in turn, without a reload', async () => {
  const [a, b] = [await instance('a'), await instance('b')]
  route({ match: 'web.test/', targets: [local(a.port)] })
  await until('the route works', async () => (await fetchText('web.test')).text === 'a')
  route({ match: 'web.test/', targets: [local(a.port), local(b.port)] })
  await until('both answer', async () => new Set([(await fetchText('WEB.test')).text, (await fetchText('web.test:80', '/x')).text]).size === 2)
  assert.equal((await fetchText('other.test')).status, 404)
})

test('longest path prefix by whole elements, and wildcards', async () => {
  const [root, shop, wild] = [await instance('root'), await instance('shop'), await instance('wild')]
  route(
    { route: 'default/a', match: 'p.test/', targets: [local(root.port)] },
    { route: 'default/b', match: 'p.test/shop/', targets: [local(shop.port)] },
    { route: 'default/c', match: '*.w.test/', targets: [local(wild.port)] },
  )
  await until('the wildcard works', async () => (await fetchText('any.w.test')).text === 'wild')
  assert.equal((await fetchText('p.test', '/')).text, 'root')
  assert.equal((await fetchText('p.test', '/shop')).text, 'shop')
  assert.equal((await fetchText('p.test', '/shop/cart?x=1')).text, 'shop')
  assert.equal((await fetchText('p.test', '/shopping')).text, 'root')
  assert.equal((await fetchText('a.b.w.test')).status, 404)
})

test('no request fails while every instance is replaced under load', async () => {
  let live = await Promise.all([instance('1'), instance('1'), instance('1')])
  route({ match: 'roll.test/', targets: live.map(i => local(i.port)) })
  await until('it answers', async () => (await fetchText('roll.test')).status === 200)
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  const seen = new Map<string, number>()
  let failed = 0
  let stop = false
  const load = Promise.all(Array.from({ length: 8 }, async () => {
    while (!stop) {
      const r = await fetchText('roll.test', '/', agent).catch(() => ({ status: 0, text: '' }))
      if (r.status === 200) seen.set(r.text, (seen.get(r.text) ?? 0) + 1)
      else failed++
    }
  }))
  for (let n = 0; n < 3; n++) {
    const fresh = await instance('2')
    route({ match: 'roll.test/', targets: [...live, fresh].map(i => local(i.port)) })
    await sleep(100)
    const [gone, ...rest] = live
    live = [...rest, fresh]
    route({ match: 'roll.test/', targets: live.map(i => local(i.port)) })
    await sleep(30)
    gone!.close()
    await sleep(100)
  }
  stop = true
  await load
  agent.destroy()
  assert.equal(failed, 0)
  assert.ok(seen.get('1')! > 10 && seen.get('2')! > 10, `both versions were seen: ${JSON.stringify([...seen])}`)
  assert.equal((await fetchText('roll.test')).text, '2')
})

test('an instance that died untold is avoided', async () => {
  const [dead, alive] = [await instance('dead'), await instance('alive')]
  dead.close()
  route({ match: 'dead.test/', targets: [local(dead.port), local(alive.port)] })
  await until('it answers', async () => (await fetchText('dead.test')).text === 'alive')
  for (let n = 0; n < 20; n++) assert.equal((await fetchText('dead.test')).text, 'alive')
})

test('sticky routes hold a client by cookie', async () => {
  const [a, b] = [await instance('a'), await instance('b')]
  route({ match: 's.test/', sticky: true, targets: [local(a.port), local(b.port)] })
  await until('it answers', async () => (await fetchText('s.test')).status === 200)
  const first = await fetchText('s.test')
  assert.match(first.cookie ?? '', /^GANTRY_INSTANCE=/)
  for (let n = 0; n < 6; n++) {
    const again = await new Promise<string>((resolve, reject) => {
      get({ host: '127.0.0.1', port: place.httpPort, headers: { host: 's.test', cookie: first.cookie!.split(';')[0] } },
        res => { let t = ''; res.on('data', d => { t += d }); res.on('end', () => resolve(t)) }).on('error', reject)
    })
    assert.equal(again, first.text)
  }
})

test('a TCP route passes bytes on, also after the proxy was killed', async () => {
  const echo = createTcpServer(c => c.on('error', () => {}).pipe(c))
  const port = await listening(echo)
  const probe = createTcpServer()
  const front = await listening(probe)
  probe.close()
  route({ tcpPort: front, targets: [local(port)] })
  const ask = () => new Promise<string>((resolve, reject) => {
    const c = connect(front, '127.0.0.1', () => c.write('hello'))
    c.once('data', d => { c.destroy(); resolve(String(d)) }).on('error', reject).setTimeout(1000, () => c.destroy(new Error('timeout'))).on('close', () => reject(new Error('closed')))
  })
  await until('bytes come back', async () => await ask() === 'hello')
  haproxy.kill('SIGKILL')
  await new Promise(resolve => haproxy.once('exit', resolve))
  await sleep(200)
  startHaproxy()
  await until('bytes come back again', async () => await ask() === 'hello')
  const more = await instance('more')
  route({ tcpPort: front, targets: [local(port)] }, { route: 'default/y', match: 'more.test/', targets: [local(more.port)] })
  await until('the restarted proxy takes changes', async () => (await fetchText('more.test')).text === 'more')
  echo.close()
})
