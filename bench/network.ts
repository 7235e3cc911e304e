/**
 * Network figures, each as a ratio to something made by hand in the same run: `node bench/network.ts [throughput]` (root), with
 * the word only the first of them. Machines are namespaces; needs iperf3.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import type { Sandbox, ServicePortRule } from '../src/network/network.ts'
import type { Lab, Machine } from '../test/integration/lab/network-lab.ts'
import { inside, ip, makeLab, startInside } from '../test/integration/lab/network-lab.ts'
import { median, row } from './support.ts'

const rounds = 5
const secondsEach = 4

const round = (value: number, digits = 2): number => Number(value.toFixed(digits))

async function iperf(serverPath: string, clientPath: string, host: string): Promise<number> {
  const server = spawn('nsenter', [`--net=${serverPath}`, '--', 'iperf3', '-s', '-1', '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve) => server.stdout.once('data', resolve))
  const { output } = await inside(clientPath, 'iperf3', '-c', host, '-t', String(secondsEach), '-O', '1', '-J')
  await new Promise((resolve) => (server.exitCode === null ? server.once('exit', resolve) : resolve(undefined)))
  const result = JSON.parse(output) as { end: { sum_received: { bits_per_second: number } } }
  return result.end.sum_received.bits_per_second / 1e9
}

/**
 * What an engineer would type: on each machine a VXLAN device in a bridge, and a pod's namespace with a veth in it; one layer-2
 * segment.
 */
async function handMade(lab: Lab): Promise<{ names: string[]; paths: string[]; addresses: string[] }> {
  const names = lab.machines.map((machine) => `glb-${process.pid}-${machine.number}`)
  await ip(names.map((name) => `netns add ${name}`))
  for (const [index, machine] of lab.machines.entries()) {
    const other = lab.machines[1 - index]!
    const commands = [
      ['link', 'add', 'hbr', 'type', 'bridge'],
      ['link', 'add', 'hvx', 'mtu', '1450', 'type', 'vxlan', 'id', '77', 'dstport', '4789', 'local', machine.address, 'remote', other.address],
      ['link', 'set', 'hvx', 'master', 'hbr', 'up'], ['link', 'set', 'hbr', 'mtu', '1450', 'up'],
      ['link', 'add', 'hveth', 'mtu', '1450', 'type', 'veth', 'peer', 'name', 'eth0', 'mtu', '1450', 'netns', names[index]!],
      ['link', 'set', 'hveth', 'master', 'hbr', 'up'],
    ]
    for (const args of commands) await inside(machine.netns, 'ip', ...args)
    const pod = `/run/netns/${names[index]}`
    await inside(pod, 'ip', 'addr', 'add', `10.77.0.${machine.number}/24`, 'dev', 'eth0')
    await inside(pod, 'ip', 'link', 'set', 'eth0', 'up')
  }
  return { names, paths: names.map((name) => `/run/netns/${name}`), addresses: lab.machines.map(({ number }) => `10.77.0.${number}`) }
}

async function throughput(lab: Lab, pods: [Sandbox, Sandbox]): Promise<void> {
  const hand = await handMade(lab)
  try {
    const ours: number[] = []
    const theirs: number[] = []
    for (let n = 0; n < rounds; n++) {
      theirs.push(await iperf(hand.paths[1]!, hand.paths[0]!, hand.addresses[1]!))
      ours.push(await iperf(pods[1].netnsPath, pods[0].netnsPath, pods[1].ip))
    }
    const ratios = ours.map((value, index) => value / theirs[index]!)
    row('TCP between two Pods on two nodes, to a hand-made VXLAN', `${median(ratios).toFixed(2)}; ${median(ours).toFixed(1)} to ${median(theirs).toFixed(1)} Gbit/s`,
      '≥ 0.95', median(ratios) >= 0.95)
  } finally {
    await ip(hand.names.map((name) => `netns del ${name}`))
  }
}

async function creation(machine: Machine): Promise<void> {
  const warm: number[] = []
  const published: number[] = []
  for (let n = 0; n < 30; n++) {
    warm.push((await machine.timed({ do: 'createSandbox', id: `warm-${n}` })).tookMs)
    published.push((await machine.timed({ do: 'createSandbox', id: `published-${n}`, ports: [{ hostPort: 20_000 + n, containerPort: 80, protocol: 'tcp' }] })).tookMs)
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
  const startedMs = performance.now()
  await Promise.all(Array.from({ length: 50 }, (_, n) => machine.sandbox(`burst-${n}`)))
  const burstMs = performance.now() - startedMs
  const names = Array.from({ length: 20 }, (_, n) => `glc-${process.pid}-${n}`)
  const byHandMs = names.map((name, n) => {
    const beganMs = performance.now()
    const steps = [['netns', 'add', name], ['link', 'add', `glc${n}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name], ['link', 'set', `glc${n}`, 'up'],
      ['-n', name, 'link', 'set', 'lo', 'up'], ['-n', name, 'addr', 'add', '10.78.0.2/32', 'dev', 'eth0'], ['-n', name, 'link', 'set', 'eth0', 'up'],
      ['-n', name, 'route', 'add', '10.78.0.1', 'dev', 'eth0'], ['-n', name, 'route', 'add', 'default', 'via', '10.78.0.1']]
    for (const args of steps) execFileSync('nsenter', [`--net=${machine.netns}`, '--', 'ip', ...args])
    return performance.now() - beganMs
  })
  for (const name of names) execFileSync('ip', ['netns', 'del', name])
  const deleteMs = performance.now()
  await Promise.all([...Array.from({ length: 50 }, (_, n) => `burst-${n}`), ...Array.from({ length: 30 }, (_, n) => [`warm-${n}`, `published-${n}`]).flat()]
    .map((id) => machine.ask({ do: 'deleteSandbox', id })))
  const each = (performance.now() - deleteMs) / 110
  row('create a sandbox', `from the pool ${round(median(warm))} ms, with a published port ${round(median(published))} ms`, '≤ 10 ms', median(warm) <= 10)
  row('  by hand, command by command', `${round(median(byHandMs))} ms`)
  row('  50 at once; delete 110', `${round(burstMs / 50)} ms each; ${round(each)} ms each`)
}

/** Connections a second to a service address, each one costs the look-ups, against the same connections to the pod itself. */
async function connections(path: string, host: string, port: number): Promise<number> {
  const code = `import net from 'node:net'
    const one = () => new Promise((r) => { const s = net.connect(${port}, '${host}'); s.on('error', r); s.on('close', r); s.resume() })
    for (let i = 0; i < 300; i++) await one()
    const t = performance.now(); for (let i = 0; i < 3000; i++) await one()
    console.log((performance.now() - t) * 1000 / 3000); process.exit()`
  return Number((await inside(path, process.execPath, '--input-type=module', '-e', code)).output)
}

async function services(machine: Machine, client: Sandbox, server: Sandbox): Promise<void> {
  const listener: ChildProcess = await startInside(server.netnsPath,
    `import net from 'node:net'; net.createServer((s) => { s.on('error', () => {}); s.end() }).listen(8080, () => console.log('ready'))`)
  const rules = (count: number, version = 0): ServicePortRule[] => Array.from({ length: count }, (_, n) => ({
    name: `d/s${n}:p`, clusterIP: `10.143.${100 + (n >> 8)}.${n & 255}`, port: 80, protocol: 'tcp',
    endpoints: Array.from({ length: 3 }, (_, e) => ({ ip: server.ip, port: n === 0 ? 8080 : 9000 + e + (n < version ? 10 : 0) })),
  }))
  try {
    // The kernel frees what a change removed a little later.
    const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 500))
    const direct: number[] = []
    const few: number[] = []
    const many: number[] = []
    const updates: Record<string, number> = {}
    for (let n = 0; n < rounds; n++) {
      direct.push(await connections(client.netnsPath, server.ip, 8080))
      await machine.ask({ do: 'setServices', rules: rules(10) })
      await settle()
      few.push(await connections(client.netnsPath, '10.143.100.0', 80))
      await machine.ask({ do: 'setServices', rules: rules(1000) })
      await settle()
      many.push(await connections(client.netnsPath, '10.143.100.0', 80))
    }
    for (const count of [10, 200, 1000]) {
      await machine.ask({ do: 'setServices', rules: rules(count) })
      const took: number[] = []
      for (let version = 2; version < 12; version++) took.push((await machine.timed({ do: 'setServices', rules: rules(count, version) })).tookMs)
      updates[`of${count}`] = round(median(took))
    }
    row('connect to a Pod, directly or through one of 10 or of 1000 Services',
      `${round(median(direct), 1)}, ${round(median(few), 1)}, ${round(median(many), 1)} µs; 1000 to 10: ${round(median(many) / median(few))}`)
    row('  change one of 10, 200, 1000 Services', `${Object.values(updates).join(', ')} ms`)
    await machine.ask({ do: 'setServices', rules: [] })
  } finally {
    listener.kill()
  }
}

async function names(machine: Machine, client: Sandbox): Promise<void> {
  const a = Array.from({ length: 1000 }, (_, n): [string, string[]] => [`s${n}.d.svc.cluster.local`, [`10.143.1.${n & 255}`]])
  await machine.ask({ do: 'setDns', records: { a } })
  const code = `import dgram from 'node:dgram'
    const q = (n) => Buffer.concat([Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...('s' + n + '.d.svc.cluster.local').split('.').map((l) => Buffer.concat([Buffer.from([l.length]), Buffer.from(l)])),
      Buffer.from([0, 0, 1, 0, 1])])
    const s = dgram.createSocket('udp4'); let n = 0, t; const total = 30000, packets = Array.from({ length: 1000 }, (_, i) => q(i))
    s.connect(53, '10.142.1.1', () => { t = performance.now(); for (let i = 0; i < 32; i++) s.send(packets[i]) })
    s.on('message', () => { n++; if (n === total) { console.log(total * 1000 / (performance.now() - t)); process.exit() } s.send(packets[n % 1000]) })`
  const { output } = await inside(client.netnsPath, process.execPath, '--input-type=module', '-e', code)
  row('DNS answers, one client, 32 at once', `${round(Number(output), 0)}/s`)
}

const lab = await makeLab('bnc', 2)
try {
  const [one, two] = lab.machines as [Machine, Machine]
  const pods: [Sandbox, Sandbox] = [await one.sandbox('a'), await two.sandbox('b')]
  const neighbour = await one.sandbox('c')
  await throughput(lab, pods)
  if (process.argv[2] !== 'throughput') {
    await creation(one)
    await services(one, pods[0], neighbour)
    await names(one, pods[0])
  }
} finally {
  await lab.remove()
}
