/** Networks of one machine in the kernel of this one: bridges, ports, names, macvlan, IPv6, plugins, recovery. Needs root. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer as createHttpServer } from 'node:http'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import type { Cnm, CnmEvent, CnmOptions, EndpointSpec, PortRequest, SandboxInfo } from '../../src/network/cnm/index.ts'
import { openCnm } from '../../src/network/cnm/index.ts'
import { namesOf } from '../../src/network/cnm/names.ts'
import { encodeRecord, askedName, encodeReply, parseQuery, Type } from '../../src/network/dns/wire.ts'
import { echoServer, inside, ip, startInside, talk } from './lab/network-lab.ts'

const exec = promisify(execFile)
const suffix = (process.pid % 10_000).toString(36)
const directory = mkdtempSync(join(tmpdir(), 'gantry-cnm-'))
const outside = `gcnm-${suffix}`
const outsidePath = `/run/netns/${outside}`
/** Addresses of the link to the host outside: 198.18/15 is for such tests (RFC 2544). */
const machineAddress = '198.18.77.1'
const outsideAddress = '198.18.77.2'
const servers: ChildProcess[] = []
const events: CnmEvent[] = []
let cnm: Cnm

const optionsOf = (instance: string): CnmOptions => ({
  dataDir: join(directory, instance, 'data'), runDir: join(directory, instance, 'run'), instance, bridge: `gcb${instance}`,
  pluginDirs: [join(directory, 'plugins')], poolSize: 3,
})
const main = optionsOf(`m${suffix}`)

const bare = (text: string): string => text.slice(0, text.indexOf('/'))
const pathOf = (info: SandboxInfo): string => info.netnsPath!
const endpointOf = (info: SandboxInfo, network: string) => info.endpoints.find(({ networkName }) => networkName === network)!
const port = (containerPort: number, hostPort: string, more: Partial<PortRequest> = {}): PortRequest => (
  { containerPort, hostPort, protocol: 'tcp', hostIP: '', ...more })

const sandbox = (id: string, networks: string[] | Record<string, EndpointSpec>, ports: PortRequest[] = [], more: object = {}): Promise<SandboxInfo> => {
  const endpoints = Array.isArray(networks) ? networks.map((network) => ({ network, spec: {} }))
    : Object.entries(networks).map(([network, spec]) => ({ network, spec }))
  return cnm.createSandbox({ id, name: id, hostname: `${id}-host`, endpoints, ports, ...more })
}

const serve = async (info: SandboxInfo, text: string, listen = 8080): Promise<void> => {
  servers.push(await startInside(pathOf(info), echoServer(text, listen)))
}
const serve6 = async (info: SandboxInfo, text: string, listen: number): Promise<void> => {
  servers.push(await startInside(pathOf(info), `import net from 'node:net'
    net.createServer((s) => s.end(${JSON.stringify(text)} + ' ' + s.remoteAddress)).listen(${listen}, '::', () => console.log('ready'))`))
}
const here = '/proc/self/ns/net'

/** What c-ares makes of the container's DNS server: addresses, or the error's code. */
async function ask(path: string, ...questions: [name: string, type: string][]): Promise<(string | string[])[]> {
  const code = `import dns from 'node:dns'
    const r = new dns.promises.Resolver({ timeout: 1500, tries: 2 }); r.setServers(['127.0.0.11'])
    const out = []
    for (const [name, type] of ${JSON.stringify(questions)}) out.push(await (type === 'PTR' ? r.reverse(name) : r.resolve(name, type)).catch((e) => e.code))
    console.log(JSON.stringify(out)); process.exit()`
  const { output } = await inside(path, process.execPath, '--input-type=module', '-e', code)
  return JSON.parse(output) as (string | string[])[]
}

async function remains(instance: string): Promise<string[]> {
  const { group, doomedGroup, table } = namesOf(instance)
  const links = (await Promise.all([group, doomedGroup].map((each) => exec('ip', ['-o', 'link', 'show', 'group', String(each)])))).map(({ stdout }) => stdout.trim())
  const { stdout: tables } = await exec('nft', ['list', 'tables'])
  const { stdout: mounts } = await exec('findmnt', ['-rno', 'TARGET'])
  return [...links.filter((text) => text !== ''), ...tables.split('\n').filter((line) => line.includes(table)),
    ...mounts.split('\n').filter((line) => line.startsWith(join(directory, instance)))]
}

before(async () => {
  mkdirSync(join(directory, 'plugins'))
  await ip([`netns add ${outside}`])
  await ip([`link add gco${suffix} type veth peer name eth0 netns ${outside}`, `addr add ${machineAddress}/24 dev gco${suffix}`, `link set gco${suffix} up`])
  for (const line of [`addr add ${outsideAddress}/24 dev eth0`, 'link set eth0 up', 'link set lo up', `route add default via ${machineAddress}`,
    'addr add fd77::2/64 dev eth0 nodad']) await inside(outsidePath, 'ip', ...line.split(' '))
  await ip([`addr add fd77::1/64 dev gco${suffix} nodad`])
  servers.push(await startInside(outsidePath, echoServer('outside', 9090)))
  cnm = await openCnm(main)
  cnm.onEvent((event) => events.push(event))
})

after(async () => {
  for (const server of servers) server.kill('SIGKILL')
  await cnm.destroy()
  await ip([`netns del ${outside}`])
  rmSync(directory, { recursive: true, force: true })
})

describe('bridges', () => {
  let one: SandboxInfo
  let two: SandboxInfo
  let stranger: SandboxInfo

  before(async () => {
    await cnm.createNetwork({ name: 'red' })
    await cnm.createNetwork({ name: 'blue' })
    one = await sandbox('one', ['red'], [port(8080, '18080'), port(8080, '18080', { protocol: 'udp' })])
    two = await sandbox('two', ['red'])
    stranger = await sandbox('stranger', ['blue'])
    await serve(one, 'one')
    await serve(two, 'two')
  })

  test('join containers of one network and keep others out', async () => {
    assert.deepEqual(await talk(pathOf(two), bare(one.endpoints[0]!.ipv4), 8080), [`one ${bare(two.endpoints[0]!.ipv4)}`])
    assert.deepEqual(await talk(pathOf(stranger), bare(one.endpoints[0]!.ipv4), 8080), ['ETIMEDOUT'])
    assert.deepEqual(await talk(outsidePath, bare(two.endpoints[0]!.ipv4), 8080), ['ETIMEDOUT'])
    assert.deepEqual(await talk(here, bare(two.endpoints[0]!.ipv4), 8080), [`two ${cnm.find('red').pools[0]!.gateway}`])
  })

  test('lead outside with the machine\'s address', async () => {
    assert.deepEqual(await talk(pathOf(one), outsideAddress, 9090), [`outside ${machineAddress}`])
  })

  test('publish ports to the outside, to the machine, over loopback of both families and to containers', async () => {
    assert.deepEqual(await talk(outsidePath, machineAddress, 18080), [`one ${outsideAddress}`])
    assert.deepEqual(await talk(outsidePath, machineAddress, 18080, 1, 'udp'), [`one ${outsideAddress}`])
    for (const [path, host] of [[here, machineAddress], [here, '127.0.0.1'], [here, '::1'], [outsidePath, 'fd77::1'], [pathOf(two), machineAddress],
      [pathOf(one), machineAddress], [pathOf(stranger), machineAddress]] as const) {
      const [answer] = await talk(path, host, 18080)
      assert.match(answer!, /^one /, `${path} to ${host}`)
    }
  })

  test('refuse a port that is taken, in Docker\'s words', async () => {
    await assert.rejects(sandbox('late', ['red'], [port(80, '18080')]), { code: 'conflict', message: 'Bind for 0.0.0.0:18080 failed: port is already allocated' })
    const foreign = createServer().listen(18081, '0.0.0.0')
    await new Promise((resolve) => foreign.once('listening', resolve))
    await assert.rejects(sandbox('late', ['red'], [port(80, '18081')]), { code: 'conflict', message: /address already in use/ })
    const ranged = await sandbox('late', ['red'], [port(80, '18080-18083')])
    assert.deepEqual(ranged.ports.map(({ hostIP, hostPort }) => `${hostIP} ${hostPort}`), ['0.0.0.0 18082', ':: 18082'])
    const any = await sandbox('later', ['bridge'], [port(80, '', { hostIP: '127.0.0.1' })])
    assert.ok(any.ports[0]!.hostPort >= 1024)
    // Nobody else can take it while it is published.
    const taker = createServer()
    const refused = await new Promise<string>((resolve) => taker.once('error', (error: NodeJS.ErrnoException) => resolve(error.code!)).listen(18082, '0.0.0.0'))
    assert.equal(refused, 'EADDRINUSE')
    foreign.close()
    await cnm.deleteSandbox('late')
    await cnm.deleteSandbox('later')
    assert.deepEqual(await talk(here, '127.0.0.1', 18082), ['ECONNREFUSED'])
  })

  test('answer names in the networks that the asker shares', async () => {
    await sandbox('three', { red: { aliases: ['shared', '0123456789ab'], links: [{ target: 'one', alias: 'friend' }] } })
    const three = cnm.sandbox('three')!
    await sandbox('four', { red: { aliases: ['shared'] } })
    const [a, upper, qualified, alias, short, pointer, v6, mx, foreign] = await ask(pathOf(one),
      ['two', 'A'], ['TWO', 'A'], ['two.red', 'A'], ['shared', 'A'], ['0123456789ab', 'A'], [bare(two.endpoints[0]!.ipv4), 'PTR'], ['two', 'AAAA'], ['two', 'MX'], ['stranger', 'A'])
    assert.deepEqual([a, upper, qualified], Array(3).fill([bare(two.endpoints[0]!.ipv4)]))
    assert.equal(alias!.length, 2)
    assert.deepEqual(short, [bare(three.endpoints[0]!.ipv4)])
    assert.deepEqual(pointer, ['two.red'])
    assert.deepEqual([v6, mx], ['ENODATA', 'ENODATA'])
    assert.notEqual(typeof foreign, 'object')
    assert.deepEqual(await ask(pathOf(three), ['friend', 'A']), [[bare(one.endpoints[0]!.ipv4)]])
    assert.equal(typeof (await ask(pathOf(two), ['friend', 'A']))[0], 'string')
    await cnm.rename('four', 'cuatro')
    assert.deepEqual(await ask(pathOf(one), ['cuatro.red', 'A']), [[bare(cnm.sandbox('four')!.endpoints[0]!.ipv4)]])
    await cnm.deleteSandbox('three')
    await cnm.deleteSandbox('four')
    assert.equal(typeof (await ask(pathOf(one), ['shared', 'A']))[0], 'string')
  })

  test('ask upstream for names of elsewhere, but not from an internal network', async () => {
    const upstream = createSocket('udp4')
    upstream.on('message', (packet, from) => {
      const query = parseQuery(packet)
      if (typeof query !== 'object') return
      const answers = [encodeRecord(askedName, Type.A, 60, Buffer.from([192, 0, 2, 99]))]
      upstream.send(encodeReply(query, { rcode: 0, answers }, 512), from.port, from.address)
    })
    await new Promise<void>((resolve) => upstream.bind(0, '127.0.0.1', resolve))
    const dns = [`127.0.0.1:${upstream.address().port}`]
    await cnm.createNetwork({ name: 'closed', internal: true })
    const open = await sandbox('open', ['red'], [], { dns })
    const shut = await sandbox('shut', ['closed'], [], { dns })
    const mate = await sandbox('mate', ['closed'])
    assert.deepEqual(await ask(pathOf(open), ['elsewhere.example', 'A']), [['192.0.2.99']])
    assert.deepEqual(await ask(pathOf(shut), ['elsewhere.example', 'A'], ['mate', 'A']), ['ESERVFAIL', [bare(mate.endpoints[0]!.ipv4)]])
    assert.equal(shut.endpoints[0]!.gateway, '')
    assert.equal((await inside(pathOf(shut), 'ip', 'route', 'show', 'default')).output, '')
    upstream.close()
    for (const id of ['open', 'shut', 'mate']) await cnm.deleteSandbox(id)
    await cnm.removeNetwork('closed')
  })

  test('let containers join and leave while they run', async () => {
    const before = events.length
    await cnm.createNetwork({ name: 'amber', pools: [{ subnet: '10.211.7.0/24', gateway: '10.211.7.1' }] })
    const joined = await cnm.connect('stranger', 'amber', { ipv4: '10.211.7.77', aliases: ['orange'], mac: '02:00:00:00:07:77' })
    assert.deepEqual([joined.ipv4, joined.interfaceName, joined.mac], ['10.211.7.77/24', 'eth1', '02:00:00:00:07:77'])
    // amber comes before blue.
    assert.match((await inside(pathOf(stranger), 'ip', 'route', 'show', 'default')).output, /via 10\.211\.7\.1 dev eth1/)
    const peer = await sandbox('peer', { amber: { gatewayPriority: 1 } })
    assert.deepEqual(await ask(pathOf(peer), ['orange', 'A'], ['stranger.amber', 'A']), [['10.211.7.77'], ['10.211.7.77']])
    await assert.rejects(cnm.connect('stranger', 'amber', {}), { code: 'forbidden', message: /already exists in network amber/ })
    await assert.rejects(cnm.connect('peer', 'blue', { ipv4: '172.31.0.9' }), { code: 'invalid', message: /only when connecting to networks with user configured subnets/ })
    await assert.rejects(sandbox('twin', { amber: { ipv4: '10.211.7.77' } }), { message: 'Address already in use' })
    await assert.rejects(cnm.removeNetwork('amber'), { code: 'forbidden', message: /has active endpoints \(name:"stranger" id:"[0-9a-f]{12}"/ })
    await cnm.disconnect('stranger', 'blue', false)
    assert.deepEqual((await inside(pathOf(stranger), 'ip', '-o', '-4', 'addr', 'show', 'scope', 'global')).output.match(/eth\d/)![0], 'eth1')
    assert.deepEqual(await ask(pathOf(stranger), ['peer', 'A']), [[bare(peer.endpoints[0]!.ipv4)]])
    await cnm.disconnect('stranger', 'amber', false)
    assert.equal((await inside(pathOf(stranger), 'ip', 'route')).output, '')
    await cnm.connect('stranger', 'blue', {})
    const seen = events.slice(before).flatMap((event) => (event.type === 'files' ? [] : [`${event.type} ${event.network.name}`]))
    assert.deepEqual(seen, ['create amber', 'connect amber', 'connect amber', 'disconnect blue', 'disconnect amber', 'connect blue'])
    assert.ok(events.some((event) => event.type === 'files' && event.sandboxId === 'stranger' && event.hosts.includes('10.211.7.77')))
    await cnm.deleteSandbox('peer')
    await cnm.removeNetwork('amber')
  })

  test('separate the containers of a network without icc, which publish ports all the same', async () => {
    await cnm.createNetwork({ name: 'apart', options: { 'com.docker.network.bridge.enable_icc': 'false', 'com.docker.network.driver.mtu': '1400' } })
    const left = await sandbox('left', ['apart'], [port(8080, '18090')])
    const right = await sandbox('right', ['apart'])
    await serve(left, 'left')
    assert.notEqual((await talk(pathOf(right), bare(left.endpoints[0]!.ipv4), 8080))[0]!.slice(0, 4), 'left')
    assert.match((await talk(pathOf(right), machineAddress, 18090))[0]!, /^left /)
    assert.match((await inside(pathOf(left), 'ip', 'link', 'show', 'eth0')).output, /mtu 1400/)
    for (const id of ['left', 'right']) await cnm.deleteSandbox(id)
    await cnm.removeNetwork('apart')
  })

  test('count what containers send', async () => {
    const counted = (await cnm.counters('one'))['eth0']!
    assert.ok(counted.rxPackets > 10 && counted.txPackets > 10 && counted.txBytes > 500, JSON.stringify(counted))
  })

  test('keep operators\' rules', async () => {
    const { table } = namesOf(main.instance)
    await exec('nft', ['add', 'rule', 'inet', table, 'user', 'ip', 'saddr', outsideAddress, 'drop'])
    assert.deepEqual(await talk(outsidePath, machineAddress, 18080), ['ETIMEDOUT'])
    await cnm.close()
    cnm = await openCnm(main)
    cnm.onEvent((event) => events.push(event))
    assert.deepEqual(await talk(outsidePath, machineAddress, 18080), ['ETIMEDOUT'])
    await exec('nft', ['flush', 'chain', 'inet', table, 'user'])
    assert.match((await talk(outsidePath, machineAddress, 18080))[0]!, /^one /)
    assert.deepEqual(await ask(pathOf(one), ['two', 'A']), [[bare(two.endpoints[0]!.ipv4)]])
  })
})

test('networks are refused in Docker\'s words', async () => {
  await cnm.createNetwork({ name: 'taken', pools: [{ subnet: '10.212.0.0/16' }] })
  await assert.rejects(cnm.createNetwork({ name: 'taken' }), { code: 'conflict', message: 'network with name taken already exists' })
  await assert.rejects(cnm.createNetwork({ name: 'x', pools: [{ subnet: '10.212.5.0/24' }] }), { code: 'forbidden', message: 'Pool overlaps with other one on this address space' })
  await assert.rejects(cnm.createNetwork({ name: 'host' }), { code: 'forbidden' })
  await assert.rejects(cnm.createNetwork({ name: 'x', driver: 'nobodys' }), { code: 'not-found', message: 'plugin "nobodys" not found' })
  await assert.rejects(cnm.removeNetwork('bridge'), { code: 'forbidden', message: 'bridge is a pre-defined network and cannot be removed' })
  assert.throws(() => cnm.find('nothing'), { code: 'not-found', message: 'network nothing not found' })
  await cnm.createNetwork({ name: 'plan', configOnly: true, pools: [{ subnet: '10.213.0.0/16', range: '10.213.9.0/24' }] })
  const made = await cnm.createNetwork({ name: 'by-plan', configFrom: 'plan' })
  assert.deepEqual(made.pools, [{ subnet: '10.213.0.0/16', range: '10.213.9.0/24', gateway: '10.213.9.0' }])
  await assert.rejects(cnm.removeNetwork('plan'), { code: 'forbidden', message: 'configuration network "plan" is in use' })
  for (const name of ['by-plan', 'plan', 'taken']) await cnm.removeNetwork(name)
})

test('host and none', async () => {
  const hosted = await sandbox('hosted', ['host'])
  assert.equal(hosted.netnsPath, undefined)
  const alone = await sandbox('alone', ['none'])
  assert.deepEqual((await inside(pathOf(alone), 'ip', '-o', 'link')).output.trim().split('\n').length, 1)
  await assert.rejects(cnm.connect('alone', 'bridge', {}), { code: 'invalid', message: /private \(none\) mode/ })
  for (const id of ['hosted', 'alone']) await cnm.deleteSandbox(id)
})

test('IPv6: addresses, names, ports and the way out', async () => {
  await cnm.createNetwork({ name: 'six', ipv6: true })
  assert.match(cnm.find('six').pools[1]!.subnet, /^fd[0-9a-f:]+::\/64$/)
  await cnm.createNetwork({ name: 'only', ipv4: false, ipv6: true, pools: [{ subnet: 'fd00:77::/64' }] })
  const a = await sandbox('v6a', ['six'], [port(8080, '18086')])
  const b = await sandbox('v6b', ['six'])
  const c = await sandbox('v6c', ['only'])
  const d = await sandbox('v6d', ['only'])
  await serve6(a, 'v6a', 8080)
  const address = bare(a.endpoints[0]!.ipv6)
  assert.match((await talk(pathOf(b), address, 8080))[0]!, /^v6a fd/)
  assert.match((await talk(outsidePath, 'fd77::1', 18086))[0]!, /^v6a fd77::2/)
  assert.match((await talk(here, '::1', 18086))[0]!, /^v6a /)
  assert.deepEqual(await ask(pathOf(b), ['v6a', 'AAAA'], ['v6a', 'A'], [address, 'PTR']), [[address], [bare(a.endpoints[0]!.ipv4)], ['v6a.six']])
  // No IPv4 on this bridge: the server's socket is in the namespace itself.
  assert.deepEqual(await ask(pathOf(c), ['v6d', 'AAAA'], ['v6d', 'A']), [[bare(d.endpoints[0]!.ipv6)], 'ENODATA'])
  servers.push(await startInside(outsidePath, 'import net from \'node:net\'\nnet.createServer((s) => s.end(s.remoteAddress)).listen(9091, \'::\', () => console.log(1))'))
  assert.deepEqual(await talk(pathOf(c), 'fd77::2', 9091), ['fd77::1'])
  for (const id of ['v6a', 'v6b', 'v6c', 'v6d']) await cnm.deleteSandbox(id)
  for (const name of ['six', 'only']) await cnm.removeNetwork(name)
})

test('macvlan: containers beside the machine, with names', async () => {
  await cnm.createNetwork({ name: 'mac', driver: 'macvlan', pools: [{ subnet: '198.18.77.0/24', gateway: outsideAddress, range: '198.18.77.64/26' }], options: { parent: `gco${suffix}` } })
  await assert.rejects(cnm.createNetwork({ name: 'mac2', driver: 'macvlan', pools: [{ subnet: '10.9.8.0/24' }], options: { parent: `gco${suffix}` } }), { message: /already using parent/ })
  await assert.rejects(cnm.createNetwork({ name: 'mac2', driver: 'macvlan', options: { parent: 'nolink0' } }), { message: /nolink0 was not found/ })
  const a = await sandbox('mac-a', ['mac'])
  const b = await sandbox('mac-b', ['mac'])
  await serve(a, 'mac-a')
  assert.deepEqual(await talk(pathOf(b), bare(a.endpoints[0]!.ipv4), 8080), [`mac-a ${bare(b.endpoints[0]!.ipv4)}`])
  assert.deepEqual(await talk(pathOf(a), outsideAddress, 9090), [`outside ${bare(a.endpoints[0]!.ipv4)}`])
  assert.deepEqual(await ask(pathOf(b), ['mac-a', 'A']), [[bare(a.endpoints[0]!.ipv4)]])
  // A second leg on a bridge makes its server the one that is asked.
  await cnm.connect('mac-a', 'red', {})
  assert.deepEqual(await ask(pathOf(a), ['mac-b', 'A'], ['one', 'A']), [[bare(b.endpoints[0]!.ipv4)], [bare(cnm.sandbox('one')!.endpoints[0]!.ipv4)]])
  assert.ok((await cnm.counters('mac-a'))['eth0']!.rxPackets > 0)
  for (const id of ['mac-a', 'mac-b']) await cnm.deleteSandbox(id)
  await cnm.removeNetwork('mac')
})

test('remote network and address drivers', async () => {
  const calls: [string, Record<string, unknown>][] = []
  let next = 2
  const answers: Record<string, (body: Record<string, unknown>) => object | Promise<object>> = {
    'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
    'NetworkDriver.GetCapabilities': () => ({ Scope: 'local' }),
    'NetworkDriver.Join': async () => {
      await ip([`link add gcr${suffix} type veth peer name gcs${suffix}`, `link set gcs${suffix} up`])
      return { InterfaceName: { SrcName: `gcr${suffix}`, DstPrefix: 'net' }, Gateway: '10.222.0.1', StaticRoutes: [{ Destination: '10.223.0.0/16', RouteType: 0, NextHop: '10.222.0.9' }] }
    },
    'NetworkDriver.DeleteEndpoint': async () => {
      await ip([`link del gcr${suffix}`])
      return {}
    },
    'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'here', GlobalDefaultAddressSpace: 'there' }),
    'IpamDriver.RequestPool': () => ({ PoolID: 'p1', Pool: '10.222.0.0/16' }),
    'IpamDriver.RequestAddress': ({ Address }) => ({ Address: `${typeof Address === 'string' && Address !== '' ? Address : `10.222.0.${next++ - 1}`}/16` }),
  }
  const server = createHttpServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => { text += chunk })
    request.on('end', async () => {
      const method = request.url!.slice(1)
      const body = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>
      calls.push([method, body])
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(await answers[method]?.(body) ?? {}))
    })
  }).listen(join(directory, 'plugins', 'faraway.sock'))
  await new Promise((resolve) => server.once('listening', resolve))
  const network = await cnm.createNetwork({ name: 'far', driver: 'faraway', ipamDriver: 'faraway', options: { color: 'green' } })
  assert.deepEqual(network.pools, [{ subnet: '10.222.0.0/16', gateway: '10.222.0.1' }])
  assert.deepEqual((calls.find(([method]) => method === 'NetworkDriver.CreateNetwork')![1]['IPv4Data'] as object[]), [
    { AddressSpace: 'LocalDefault', Pool: '10.222.0.0/16', Gateway: '10.222.0.1/16', AuxAddresses: {} }])
  const info = await sandbox('remote', ['far'])
  assert.deepEqual([info.endpoints[0]!.interfaceName, info.endpoints[0]!.ipv4, info.endpoints[0]!.gateway], ['net0', '10.222.0.2/16', '10.222.0.1'])
  const routes = (await inside(pathOf(info), 'ip', 'route')).output
  assert.match(routes, /default via 10\.222\.0\.1 dev net0/)
  assert.match(routes, /10\.223\.0\.0\/16 via 10\.222\.0\.9 dev net0/)
  await cnm.deleteSandbox('remote')
  await cnm.removeNetwork('far')
  const order = calls.map(([method]) => method.split('.')[1])
  assert.deepEqual(order.filter((name) => name !== 'Activate'), ['GetCapabilities', 'GetDefaultAddressSpaces', 'RequestPool', 'RequestAddress', 'CreateNetwork', 'RequestAddress',
    'CreateEndpoint', 'Join', 'Leave', 'DeleteEndpoint', 'ReleaseAddress', 'DeleteNetwork', 'ReleaseAddress', 'ReleasePool'])
  server.close()
})

test('a build\'s namespace leads out and leaves nothing', async () => {
  const build = await cnm.openBuild('b1', { extraHosts: ['me:10.1.1.1'] })
  assert.deepEqual(await talk(build.netnsPath!, outsideAddress, 9090), [`outside ${machineAddress}`])
  assert.match(build.hosts, /10\.1\.1\.1\tme/)
  assert.equal(cnm.sandbox('build-b1'), undefined)
  await build.close()
})

describe('a process that is killed', () => {
  const options = optionsOf(`k${suffix}`)
  const start = async (plan: string): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'lab', 'cnm-child.ts'), JSON.stringify(options), plan], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve)
      child.once('exit', () => reject(new Error('the child ended before it was ready')))
    })
    return child
  }
  const kill = (child: ChildProcess): Promise<unknown> => {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    return ended
  }

  test('leaves what works, and nothing else, wherever it was struck', async () => {
    await kill(await start('keep'))
    for (let round = 0; round < 8; round++) {
      const child = await start('churn')
      await new Promise((resolve) => setTimeout(resolve, 17 * round))
      await kill(child)
    }
    const again = await openCnm({ ...options, poolSize: 0 })
    try {
      assert.deepEqual(again.sandboxes().map(({ id }) => id).filter((id) => !/^s\d/.test(id)).toSorted(), ['lives', 'other'])
      const lives = again.sandbox('lives')!
      servers.push(await startInside(lives.netnsPath!, echoServer('alive', 8080)))
      assert.match((await talk(outsidePath, machineAddress, 18077))[0]!, /^alive /)
      assert.deepEqual(await ask(again.sandbox('other')!.netnsPath!, ['alias', 'A']), [[bare(endpointOf(lives, 'kept').ipv4)]])
      // A churned one may have been whole when its maker died: its owner would remove it.
      for (const { id } of again.sandboxes()) if (id.startsWith('s')) await again.deleteSandbox(id)
      for (const { name } of again.networks()) if (name.startsWith('churn')) await again.removeNetwork(name)
      await again.close()
      const links = (await exec('ip', ['-o', 'link', 'show', 'group', String(namesOf(options.instance).group)])).stdout.trim().split('\n')
      assert.equal(links.length, 4, links.join('\n'))
      assert.equal(readdirSync(join(options.runDir, 'netns')).length, 2)
    } finally {
      const last = await openCnm(options)
      await last.destroy()
    }
    assert.deepEqual(await remains(options.instance), [])
  })
})

test('gives nothing to a network whose address the machine routes elsewhere', async () => {
  const routed = Object.values(networkInterfaces()).flat().map((each) => each!.address)
  for (const { pools } of cnm.networks()) for (const { subnet } of pools) assert.ok(!routed.some((address) => address === subnet.split('/')[0]))
})
