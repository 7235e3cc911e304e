/** The network on machines that are namespaces: two members of a cluster and a host outside it. Needs root. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import type { Sandbox, ServicePortRule } from '../../src/network/network.ts'
import type { Lab, Machine } from './lab/network-lab.ts'
import { datagrams, echoServer, inside, makeLab, outsideAddress, startInside, tally, talk } from './lab/network-lab.ts'

let lab: Lab
let one: Machine
let two: Machine
let client: Sandbox
let near: Sandbox
let far: Sandbox
const servers: ChildProcess[] = []

const serve = async (path: string, text: string, port: number): Promise<ChildProcess> => {
  const server = await startInside(path, echoServer(text, port))
  servers.push(server)
  return server
}

const rule = (name: string, more: Partial<ServicePortRule>): ServicePortRule =>
  ({ name, clusterIP: '10.143.0.10', port: 80, protocol: 'tcp', endpoints: [], ...more })

const bothEndpoints = (): ServicePortRule['endpoints'] => [{ ip: near.ip, port: 8080 }, { ip: far.ip, port: 8080 }]
const services = (rules: ServicePortRule[]): Promise<unknown> => Promise.all([one, two].map((machine) => machine.ask({ do: 'setServices', rules })))

before(async () => {
  lab = await makeLab('net', 2)
  ;[one, two] = lab.machines as [Machine, Machine]
  client = await one.sandbox('client')
  near = await one.sandbox('near', { ports: [{ hostPort: 18080, containerPort: 8080, protocol: 'tcp' }, { hostPort: 18080, containerPort: 8080, protocol: 'udp' }] })
  far = await two.sandbox('far', { ip: '10.142.2.77' })
  await serve(near.netnsPath, 'near', 8080)
  await serve(far.netnsPath, 'far', 8080)
  await serve(lab.outside, 'outside', 9090)
})

after(async () => {
  for (const server of servers) server.kill()
  await lab.remove()
})

describe('pods', () => {
  test('reach each other with their own addresses, on one machine and across', async () => {
    assert.equal(far.ip, '10.142.2.77')
    assert.deepEqual(await talk(client.netnsPath, near.ip, 8080), [`near ${client.ip}`])
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`])
    assert.deepEqual(await talk(far.netnsPath, near.ip, 8080, 1, 'udp'), [`near ${far.ip}`])
    assert.deepEqual(await talk(one.netns, far.ip, 8080), [`far 10.142.1.1`])
  })

  test('full packets cross the overlay without fragments', async () => {
    const sent = async (): Promise<string> => (await inside(client.netnsPath, 'cat', '/proc/net/snmp')).output
    assert.equal(await datagrams(client.netnsPath, far.ip, 8080, 1450 - 28, 3), 3)
    const [names, values] = (await sent()).split('\n').filter((line) => line.startsWith('Ip:')).map((line) => line.split(' '))
    assert.equal(values?.[names?.indexOf('FragCreates') ?? 0], '0')
  })

  test('leave the cluster with their machine\'s address', async () => {
    assert.deepEqual(await talk(client.netnsPath, outsideAddress, 9090), [`outside ${one.address}`])
    assert.deepEqual(await talk(client.netnsPath, two.address, 1), ['ECONNREFUSED'])
  })

  test('are counted', async () => {
    const before = await one.ask<{ rxBytes: number; txBytes: number }>({ do: 'counters', id: 'client' })
    await datagrams(client.netnsPath, near.ip, 8080, 1000, 5)
    const after = await one.ask<{ rxBytes: number; txBytes: number }>({ do: 'counters', id: 'client' })
    assert.ok(after.txBytes - before.txBytes >= 5000 && after.rxBytes - before.rxBytes >= 5 * 42, JSON.stringify({ before, after }))
    assert.equal(await one.ask({ do: 'counters', id: 'nobody' }), null)
  })

  test('keep out packets that only claim to come from a peer', async () => {
    await inside(lab.outside, 'ip', 'link', 'add', 'forged', 'address', '0e:58:0a:8e:02:00', 'type', 'vxlan', 'id', '4242', 'dstport', '8472', 'remote', one.address,
      'local', outsideAddress)
    await inside(lab.outside, 'ip', 'addr', 'add', '10.142.9.0/32', 'dev', 'forged')
    await inside(lab.outside, 'ip', 'link', 'set', 'forged', 'up')
    await inside(lab.outside, 'ip', 'neigh', 'add', '10.142.1.0', 'lladdr', '0e:58:0a:8e:01:00', 'dev', 'forged')
    await inside(lab.outside, 'ip', 'route', 'add', '10.142.1.0/24', 'via', '10.142.1.0', 'dev', 'forged', 'onlink')
    const count = async (): Promise<number> => (await one.ask<{ rxBytes: number }>({ do: 'counters', id: 'near' })).rxBytes
    await new Promise((resolve) => setTimeout(resolve, 50))
    const before = await count()
    await datagrams(lab.outside, near.ip, 8080, 1000, 3)
    assert.ok((await inside(lab.outside, 'ip', '-s', 'link', 'show', 'forged')).output.match(/TX:.*\n\s+(\d+)/)?.[1] !== '0', 'the packets were sent')
    assert.ok(await count() - before < 1000)
    await inside(lab.outside, 'ip', 'link', 'del', 'forged')
  })
})

describe('services', () => {
  test('balance over endpoints of all machines, from pods, from machines, and from an endpoint itself', async () => {
    await services([rule('d/web:http', { endpoints: bothEndpoints() }), rule('d/web:dns', { protocol: 'udp', endpoints: bothEndpoints() })])
    const clients = [['pod', client.netnsPath], ['machine', one.netns], ['endpoint', near.netnsPath], ['endpoint of the other machine', far.netnsPath],
      ['the other machine', two.netns]] as const
    for (const [who, path] of clients) {
      const counts = tally(await talk(path, '10.143.0.10', 80, 60))
      assert.deepEqual([...counts.keys()].sort(), ['far', 'near'], who)
      assert.ok(Math.min(...counts.values()) >= 15, `${who}: ${JSON.stringify([...counts])}`)
      assert.deepEqual([...tally(await talk(path, '10.143.0.10', 80, 12, 'udp')).keys()].sort(), ['far', 'near'], `${who}, udp`)
    }
  })

  test('show pods the client\'s address', async () => {
    await services([rule('d/web:http', { endpoints: [{ ip: far.ip, port: 8080 }] })])
    assert.deepEqual(await talk(client.netnsPath, '10.143.0.10', 80), [`far ${client.ip}`])
  })

  test('refuse at once without endpoints, and where there is no service', async () => {
    await services([rule('d/none:http', { nodePort: 30090, externalIPs: ['172.31.99.200'] }), rule('d/none:udp', { protocol: 'udp' })])
    for (const path of [client.netnsPath, one.netns]) {
      const startedMs = performance.now()
      assert.deepEqual(await talk(path, '10.143.0.10', 80), ['ECONNREFUSED'])
      assert.deepEqual(await talk(path, '10.143.0.10', 80, 1, 'udp'), ['ECONNREFUSED'])
      assert.deepEqual(await talk(path, '10.143.77.7', 4711), ['ECONNREFUSED'])
      assert.deepEqual(await talk(path, one.address, 30090), ['ECONNREFUSED'])
      assert.deepEqual(await talk(path, '172.31.99.200', 80), ['ECONNREFUSED'])
      assert.ok(performance.now() - startedMs < 2500, 'refusals take no time-out')
    }
  })

  test('keep a client with its endpoint until that is gone', async () => {
    const sticky = (endpoints: ServicePortRule['endpoints']): ServicePortRule[] =>
      [rule('d/sticky:http', { endpoints, affinitySeconds: 60, nodePort: 30091 })]
    await services(sticky(bothEndpoints()))
    const first = tally(await talk(client.netnsPath, '10.143.0.10', 80, 20))
    assert.equal(first.size, 1)
    const kept = [...first.keys()][0]!
    assert.equal(tally(await talk(lab.outside, one.address, 30091, 20)).size, 1)
    // Another endpoint, sorted before both, must not move the client.
    await services(sticky([...bothEndpoints(), { ip: client.ip, port: 8080 }]))
    assert.deepEqual([...tally(await talk(client.netnsPath, '10.143.0.10', 80, 10)).keys()], [kept])
    await services(sticky(bothEndpoints().filter(({ ip }) => ip !== (kept === 'near' ? near.ip : far.ip))))
    assert.deepEqual([...tally(await talk(client.netnsPath, '10.143.0.10', 80, 10)).keys()], [kept === 'near' ? 'far' : 'near'])
  })

  test('answer on node ports and external addresses, whichever machine is asked', async () => {
    await services([rule('d/web:http', { endpoints: [{ ip: far.ip, port: 8080 }], nodePort: 30080, externalIPs: [outsideAddress] })])
    assert.deepEqual(await talk(lab.outside, one.address, 30080), ['far 10.142.1.0'])
    assert.deepEqual(await talk(lab.outside, two.address, 30080), [`far ${outsideAddress}`])
    for (const host of [one.address, two.address, '127.0.0.1']) assert.match((await talk(one.netns, host, 30080))[0]!, /^far /, host)
    assert.match((await talk(client.netnsPath, one.address, 30080))[0]!, /^far /)
    assert.match((await talk(client.netnsPath, outsideAddress, 80))[0]!, /^far /)
  })

  test('lead out of the cluster too', async () => {
    await services([rule('d/api:https', { endpoints: [{ ip: outsideAddress, port: 9090 }], nodePort: 30443 })])
    assert.deepEqual(await talk(client.netnsPath, '10.143.0.10', 80), [`outside ${one.address}`])
    assert.deepEqual(await talk(one.netns, '10.143.0.10', 80), [`outside ${one.address}`])
    assert.deepEqual(await talk(lab.outside, one.address, 30443), [`outside ${one.address}`])
  })

  test('a wrong one is named and does not stop the others', async () => {
    await assert.rejects(one.ask({ do: 'setServices', rules: [
      rule('d/web:http', { endpoints: bothEndpoints() }), rule('d/wrong:x', { clusterIP: 'nonsense' }), rule('d/zwei:http', { endpoints: bothEndpoints() }),
    ] }), (error: Error & { code?: string }) => error.code === 'conflict' && /d\/wrong:x/.test(error.message) && /d\/zwei:http.*d\/web:http/.test(error.message))
    assert.equal(tally(await talk(client.netnsPath, '10.143.0.10', 80, 20)).size, 2)
  })

  test('udp clients leave an endpoint that is gone', async () => {
    const udp = (endpoints: ServicePortRule['endpoints']): ServicePortRule[] => [rule('d/udp:x', { protocol: 'udp', endpoints })]
    await services(udp([{ ip: near.ip, port: 8080 }]))
    const code = `import dgram from 'node:dgram'; const s = dgram.createSocket('udp4'); const seen = []
      s.on('message', (m) => { const t = String(m).split(' ')[0]; if (!seen.includes(t)) { seen.push(t); console.log(t) } if (seen.length === 2) process.exit() })
      s.bind(40001); setInterval(() => s.send('x', 80, '10.143.0.10'), 100); setTimeout(() => process.exit(1), 8000)`
    const sender = await startInside(client.netnsPath, code)
    const ended = new Promise<number | null>((resolve) => sender.once('exit', resolve))
    await services(udp([{ ip: far.ip, port: 8080 }]))
    assert.equal(await ended, 0, 'the same flow is answered by the new endpoint')
  })
})

describe('many services', () => {
  const many = (version: number): ServicePortRule[] => Array.from({ length: 200 }, (_, n) => rule(`d/many-${n}:http`, {
    clusterIP: `10.143.8.${n}`, endpoints: [{ ip: near.ip, port: 8080 }, { ip: far.ip, port: n < version ? 8080 : 9 }],
  }))

  test('200 take one program, each change of one of them another, none when nothing changed', async () => {
    const calls = await one.nftCalls()
    await one.ask({ do: 'setServices', rules: many(0) })
    assert.equal(await one.nftCalls() - calls, 1)
    await one.ask({ do: 'setServices', rules: many(0).reverse() })
    assert.equal(await one.nftCalls() - calls, 1)
    const took: number[] = []
    for (let version = 1; version <= 20; version++) took.push((await one.timed({ do: 'setServices', rules: many(version) })).tookMs)
    assert.equal(await one.nftCalls() - calls, 21)
    assert.ok(took.toSorted((a, b) => a - b)[10]! < 100, `median of ${took.map((ms) => ms.toFixed(0)).join(' ')} ms`)
    assert.equal(tally(await talk(client.netnsPath, '10.143.8.7', 80, 20)).size, 2)
    assert.ok((await talk(client.netnsPath, '10.143.8.150', 80, 20)).includes('ECONNREFUSED'), 'port 9 has nobody')
  })

  test('a table that somebody else spoiled is put right by the next change but one', async () => {
    await inside(one.netns, 'nft', 'flush map ip gantry-lab backends')
    await one.ask({ do: 'setServices', rules: many(21) }).catch(() => undefined)
    await one.ask({ do: 'setServices', rules: many(22) })
    assert.equal(tally(await talk(client.netnsPath, '10.143.8.3', 80, 20)).size, 2)
  })
})

describe('names', () => {
  const lookup = async (path: string, name: string, type = 'resolve4'): Promise<unknown> => {
    const code = `import { Resolver } from 'node:dns/promises'; const r = new Resolver({ timeout: 2000, tries: 1 }); r.setServers(['10.142.1.1'])
      console.log(JSON.stringify(await r.${type}('${name}').catch((e) => e.code)))`
    return JSON.parse((await inside(path, process.execPath, '--input-type=module', '-e', code)).output)
  }

  test('are answered to pods and the machine; others come from upstream', async () => {
    const upstream = `import dgram from 'node:dgram'; const s = dgram.createSocket('udp4')
      s.on('message', (q, f) => { const end = q.indexOf(0, 12) + 5; const a = Buffer.concat([q.subarray(0, end), Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 33])])
        a.writeUInt16BE(0x8180, 2); a.writeUInt16BE(1, 6); a.writeUInt16BE(0, 10); s.send(a, f.port, f.address) })
      s.bind(5353, () => console.log('ready'))`
    servers.push(await startInside(lab.outside, upstream))
    await one.ask({ do: 'setDns', records: { a: [['web.d.svc.cluster.local', ['10.143.0.10']]], ptr: [['10.143.0.10', 'web.d.svc.cluster.local']] } })
    for (const path of [client.netnsPath, one.netns]) {
      assert.deepEqual(await lookup(path, 'web.d.svc.cluster.local'), ['10.143.0.10'])
      assert.equal(await lookup(path, 'web.d.svc.cluster.local', 'resolve6'), 'ENODATA')
      assert.equal(await lookup(path, 'nobody.d.svc.cluster.local'), 'ENOTFOUND')
      assert.deepEqual(await lookup(path, '10.143.0.10', 'reverse'), ['web.d.svc.cluster.local'])
      assert.deepEqual(await lookup(path, 'www.example.org'), ['192.0.2.33'])
    }
  })
})

describe('published ports', () => {
  test('answer from outside, from the machine, on loopback, and from pods', async () => {
    assert.deepEqual(await talk(lab.outside, one.address, 18080), [`near ${outsideAddress}`])
    assert.deepEqual(await talk(lab.outside, one.address, 18080, 1, 'udp'), [`near ${outsideAddress}`])
    for (const [path, host] of [[one.netns, one.address], [one.netns, '127.0.0.1'], [client.netnsPath, one.address], [near.netnsPath, one.address],
      [two.netns, one.address], [far.netnsPath, one.address]] as const) {
      assert.match((await talk(path, host, 18080))[0]!, /^near /, `${path} → ${host}`)
    }
    assert.match((await talk(one.netns, '127.0.0.1', 18080, 1, 'udp'))[0]!, /^near /)
  })

  test('port 53 can be published beside the DNS server', async () => {
    const ports = [{ hostPort: 53, containerPort: 5300, protocol: 'tcp' as const }]
    const dns = await one.sandbox('dns', { ports })
    await serve(dns.netnsPath, 'published-dns', 5300)
    assert.match((await talk(lab.outside, one.address, 53))[0]!, /^published-dns /)
    assert.deepEqual(await talk(client.netnsPath, '10.142.1.1', 53), ['ETIMEDOUT'], 'an open connection that waits for a question')
    await one.ask({ do: 'deleteSandbox', id: 'dns' })
  })

  test('belong to one sandbox, whole sets or nothing', async () => {
    const conflict = (text: RegExp) => (error: Error & { code?: string }): boolean => error.code === 'conflict' && text.test(error.message)
    const port = (hostPort: number, hostIP?: string) => ({ hostPort, containerPort: 80, protocol: 'tcp' as const, hostIP })
    await assert.rejects(one.sandbox('second', { ports: [port(18081), port(18080)] }), conflict(/18080\/tcp.*near/))
    await assert.rejects(one.sandbox('second', { ports: [port(18080, '127.0.0.1')] }), conflict(/18080\/tcp.*near/))
    await serve(one.netns, 'program', 18099)
    await assert.rejects(one.sandbox('second', { ports: [port(18099)] }), conflict(/18099\/tcp is used by a program/))
    const second = await one.sandbox('second', { ports: [port(18081, '127.0.0.1')] })
    await serve(second.netnsPath, 'second', 80)
    assert.match((await talk(one.netns, '127.0.0.1', 18081))[0]!, /^second /)
    assert.deepEqual(await talk(lab.outside, one.address, 18081), ['ECONNREFUSED'])
    assert.deepEqual(await one.sandbox('second', { ports: [port(18081, '127.0.0.1')] }), second)
    await assert.rejects(one.sandbox('second', { ip: '10.142.1.200' }), conflict(/exists/))
    await one.ask({ do: 'deleteSandbox', id: 'second' })
    await one.ask({ do: 'deleteSandbox', id: 'second' })
    assert.deepEqual(await talk(one.netns, '127.0.0.1', 18081), ['ECONNREFUSED'])
    await assert.rejects(stat(second.netnsPath), { code: 'ENOENT' })
  })

  test('loopback of the machine stays closed to others', async () => {
    const server = await startInside(one.netns, echoServer('private', 7070, '127.0.0.1'))
    servers.push(server)
    await inside(client.netnsPath, 'ip', 'route', 'add', '127.0.0.1/32', 'via', client.gateway, 'table', '99')
    await inside(client.netnsPath, 'ip', 'addr', 'del', '127.0.0.1/8', 'dev', 'lo')
    await inside(client.netnsPath, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route del local 127.0.0.0/8 table local; ip route add 127.0.0.1/32 via "$1" dev eth0',
      'sh', client.gateway)
    assert.notEqual((await talk(client.netnsPath, '127.0.0.1', 7070))[0]!.split(' ')[0], 'private')
    await inside(client.netnsPath, 'sh', '-c', 'ip route del 127.0.0.1/32; ip addr add 127.0.0.1/8 dev lo')
  })
})

describe('creation', () => {
  test('takes from the pool in a few milliseconds', async () => {
    const took: number[] = []
    for (let n = 0; n < 12; n++) {
      took.push((await one.timed({ do: 'createSandbox', id: `quick-${n}` })).tookMs)
      await new Promise((resolve) => setTimeout(resolve, 120))
    }
    const median = took.toSorted((a, b) => a - b)[6]!
    assert.ok(median < 10, `median ${median} ms of ${took.map((ms) => ms.toFixed(1)).join(' ')}`)
    await Promise.all(took.map((_, n) => one.ask({ do: 'deleteSandbox', id: `quick-${n}` })))
  })

  test('fifty at once get fifty addresses and all work', async () => {
    const made = await Promise.all(Array.from({ length: 50 }, (_, n) => two.sandbox(`many-${n}`)))
    assert.equal(new Set(made.map(({ ip }) => ip)).size, 50)
    for (const { netnsPath, ip } of made.filter((_, n) => n % 7 === 0)) assert.deepEqual(await talk(netnsPath, near.ip, 8080), [`near ${ip}`])
    await Promise.all(made.map(({ id }) => two.ask({ do: 'deleteSandbox', id })))
    assert.deepEqual((await two.ask<Sandbox[]>({ do: 'sandboxes' })).map(({ id }) => id), ['far'])
  })

  test('asked-for addresses: taken ones and foreign ones are refused', async () => {
    await assert.rejects(two.sandbox('same', { ip: far.ip }), { code: 'conflict' })
    await assert.rejects(two.sandbox('gateway', { ip: '10.142.2.1' }), { code: 'conflict' })
    await assert.rejects(two.sandbox('foreign', { ip: '10.142.1.77' }), { code: 'invalid' })
    await assert.rejects(two.sandbox('../evil'), { code: 'invalid' })
  })
})

describe('kill -9', () => {
  test('traffic goes on, the next process knows everything, and halves are cleaned up', async () => {
    await services([rule('d/web:http', { endpoints: bothEndpoints(), nodePort: 30080 })])
    const before = await one.ask<Sandbox[]>({ do: 'sandboxes' })
    for (let n = 0; n < 30; n++) one.tell({ do: 'createSandbox', id: `struck-${n}`, ports: [{ hostPort: 18500 + n, containerPort: 80, protocol: 'tcp' }] })
    await new Promise((resolve) => setTimeout(resolve, 60))
    await one.kill()
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`])
    assert.equal(tally(await talk(client.netnsPath, '10.143.0.10', 80, 30)).size, 2)
    assert.deepEqual(await talk(lab.outside, one.address, 18080), [`near ${outsideAddress}`])

    await one.start()
    const after = await one.ask<Sandbox[]>({ do: 'sandboxes' })
    for (const sandbox of before) assert.deepEqual(after.find(({ id }) => id === sandbox.id), sandbox)
    for (const { id, netnsPath, ip } of after.filter(({ id }) => id.startsWith('struck-'))) {
      assert.match((await inside(netnsPath, 'ip', '-br', 'addr', 'show', 'eth0')).output, new RegExp(`UP .*${ip}/32`), id)
    }
    assert.equal(tally(await talk(client.netnsPath, '10.143.0.10', 80, 30)).size, 2, 'services work before they are set again')
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`], 'peers too')
    const again = await Promise.all(Array.from({ length: 30 }, (_, n) =>
      one.sandbox(`struck-${n}`, { ports: [{ hostPort: 18500 + n, containerPort: 80, protocol: 'tcp' }] })))
    assert.equal(new Set([...again.map(({ ip }) => ip), ...before.map(({ ip }) => ip)]).size, 30 + before.length)
    await Promise.all(again.map(({ id }) => one.ask({ do: 'deleteSandbox', id })))
    assert.deepEqual(new Set((await one.ask<Sandbox[]>({ do: 'sandboxes' })).map(({ id }) => id)), new Set(before.map(({ id }) => id)))
  })

  test('at any step of creating and deleting', async () => {
    const keep = (await one.ask<Sandbox[]>({ do: 'sandboxes' })).map(({ id }) => id)
    for (let round = 0; round < 6; round++) {
      for (let n = 0; n < 10; n++) one.tell({ do: 'createSandbox', id: `r${round}-${n}` })
      await new Promise((resolve) => setTimeout(resolve, round * 12))
      for (let n = 0; n < 10; n++) one.tell({ do: 'deleteSandbox', id: `r${round}-${n}` })
      await new Promise((resolve) => setTimeout(resolve, 5 + round * 9))
      await one.kill()
      await one.start()
      const left = await one.ask<Sandbox[]>({ do: 'sandboxes' })
      for (const id of keep) assert.ok(left.some((sandbox) => sandbox.id === id), `round ${round} lost ${id}`)
      for (const { id } of left.filter((sandbox) => !keep.includes(sandbox.id))) await one.ask({ do: 'deleteSandbox', id })
    }
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`])
    await one.ask({ do: 'setPeers', peers: [one.peer, two.peer] })
  })

  test('a peer that moved is followed', async () => {
    await one.ask({ do: 'setPeers', peers: [one.peer, { ...two.peer, address: '172.31.99.77' }] })
    assert.match((await inside(one.netns, 'bridge', 'fdb', 'show', 'dev', 'gvx-lab')).output, /^0e:58:0a:8e:02:00 dst 172\.31\.99\.77 [^\n]*\n$/)
    await one.ask({ do: 'setPeers', peers: [one.peer, two.peer] })
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`])
  })

  test('peers that went meanwhile are forgotten', async () => {
    await one.kill()
    await one.start()
    await one.ask({ do: 'setPeers', peers: [] })
    assert.equal((await inside(one.netns, 'ip', 'route', 'show', 'dev', 'gvx-lab')).output, '')
    assert.doesNotMatch((await inside(one.netns, 'bridge', 'fdb', 'show', 'dev', 'gvx-lab')).output, /dst/)
    await one.ask({ do: 'setPeers', peers: [one.peer, two.peer] })
    assert.deepEqual(await talk(client.netnsPath, far.ip, 8080), [`far ${client.ip}`])
  })
})

describe('destroy', () => {
  test('leaves nothing, and only of its own', async () => {
    await inside(one.netns, 'nft', 'add table ip foreign; add chain ip foreign c; add rule ip foreign c counter')
    await one.ask({ do: 'destroy' })
    assert.equal((await inside(one.netns, 'nft', 'list', 'tables')).output.trim(), 'table ip foreign')
    assert.doesNotMatch((await inside(one.netns, 'ip', '-br', 'link')).output, /gantry-lab|gvx-lab|gvlab-/)
    assert.doesNotMatch((await inside(one.netns, 'ip', 'route')).output, /10\.14[23]\./)
    await assert.rejects(readdir(one.options.runDir), { code: 'ENOENT' })
    const { output } = await inside(one.netns, 'cat', '/proc/self/mountinfo')
    assert.ok(!output.includes(one.options.runDir))
  })
})
