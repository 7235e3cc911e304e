import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseCidr } from '../ipv4.ts'
import type { ServicePortRule } from '../network.ts'
import { NetworkError } from '../network.ts'
import { elementChanges, elementReplacement } from './elements.ts'
import { HostPorts, hostPortElements } from './host-ports.ts'
import { planServices } from './services.ts'

const ranges = { cluster: parseCidr('10.42.0.0/16'), pods: parseCidr('10.42.1.0/24') }
const plan = (...rules: Partial<ServicePortRule>[]): ReturnType<typeof planServices> => planServices(rules.map((rule, n) => (
  { name: `d/s${n}:p`, clusterIP: '10.43.0.10', port: 80, protocol: 'tcp', endpoints: [{ ip: '10.42.1.2', port: 8080 }, { ip: '10.42.2.2', port: 8080 }], ...rule })), ranges)
const entries = (of: ReturnType<typeof planServices>, name: string): [string, string][] => [...(of.elements.get(name) ?? [])].sort()

describe('planning services', () => {
  test('one look-up for the service, one for the endpoint', () => {
    const planned = plan({ nodePort: 30080, externalIPs: ['192.0.2.5'] })
    assert.deepEqual(entries(planned, 'services'), [['10.43.0.10 . tcp . 80', 'goto pick-2'], ['192.0.2.5 . tcp . 80', 'goto pick-2']])
    assert.deepEqual(entries(planned, 'backends').slice(0, 2),
      [['10.43.0.10 . tcp . 80 . 0x67000000', '10.42.1.2 . 8080'], ['10.43.0.10 . tcp . 80 . 0x67000001', '10.42.2.2 . 8080']])
    assert.deepEqual(entries(planned, 'node-services'), [['tcp . 30080', 'goto node-pick-2']])
    assert.deepEqual([...planned.chains.keys()].sort(), ['node-pick-2', 'pick-2'])
    assert.deepEqual(entries(planned, 'selves'), [['10.42.1.2 . 10.42.1.2', '']])
  })

  test('chains are shared: their number does not grow with the services', () => {
    const planned = plan(...Array.from({ length: 300 }, (_, n) => ({ clusterIP: `10.43.1.${n % 200}`, port: 80 + n })))
    assert.equal(planned.chains.size, 1)
    assert.equal(planned.elements.get('services')?.size, 300)
  })

  test('without endpoints refused; outside endpoints known', () => {
    const planned = plan({ endpoints: [], nodePort: 30080 }, { clusterIP: '10.43.0.11', endpoints: [{ ip: '192.0.2.9', port: 443 }] })
    assert.deepEqual(entries(planned, 'refused'), [['10.43.0.10 . tcp . 80', '']])
    assert.deepEqual(entries(planned, 'node-refused'), [['tcp . 30080', '']])
    assert.deepEqual(entries(planned, 'outside-backends'), [['192.0.2.9 . tcp . 443', '']])
  })

  test('a sticky endpoint keeps its slot when others come and go', () => {
    const slotOf = (ips: string[]): string | undefined => entries(plan({ affinitySeconds: 60, endpoints: ips.map((ip) => ({ ip, port: 80 })) }), 'slots')
      .find(([, target]) => target.startsWith('10.42.1.5 '))?.[0]
    const alone = slotOf(['10.42.1.5'])
    assert.ok(alone !== undefined)
    assert.equal(slotOf(['10.42.1.1', '10.42.1.5', '10.42.1.9']), alone)
    const many = plan({ affinitySeconds: 60, endpoints: Array.from({ length: 2000 }, (_, n) => ({ ip: `10.42.${n >> 8}.${n & 255}`, port: 80 })) })
    assert.equal(many.elements.get('slots')?.size, 2000)
  })

  test('bad rules are named and the rest is planned', () => {
    const planned = plan({}, { clusterIP: '10.43.0.11', port: 0 }, { clusterIP: 'x' }, {}, { clusterIP: '10.43.0.12', affinitySeconds: 0.5 },
      { clusterIP: '10.43.0.13; drop', port: 80 }, { clusterIP: '10.43.0.14', endpoints: [{ ip: '1.1.1.1 }', port: 1 }] })
    assert.equal(planned.problems.length, 6)
    assert.match(planned.problems.join('\n'), /d\/s3:p: 10\.43\.0\.10 tcp 80 belongs to d\/s0:p already/)
    assert.equal(planned.elements.get('services')?.size, 1)
  })

  test('the order and doubles of endpoints mean nothing', () => {
    const a = { ip: '10.42.1.2', port: 1 }
    const b = { ip: '10.42.1.3', port: 1 }
    assert.deepEqual(plan({ endpoints: [a, b] }), plan({ endpoints: [b, a, { ...b }] }))
  })
})

describe('changes', () => {
  test('only differences, deletions first', () => {
    const before = plan({}, { clusterIP: '10.43.0.11' }).elements
    assert.deepEqual(elementChanges('t', before, before), [])
    const after = plan({}, { clusterIP: '10.43.0.12' }).elements
    const changes = elementChanges('t', before, after)
    assert.deepEqual(changes.map((line) => line.split(' ').slice(0, 5).join(' ')),
      ['delete element ip t services', 'delete element ip t backends', 'add element ip t services', 'add element ip t backends'])
    assert.ok(changes.every((line) => !line.includes('10.43.0.10')))
    assert.ok(elementReplacement('t', ['services'], new Map(), () => 'map').includes('flush map ip t services'))
  })

  test('long lists are split', () => {
    const elements = plan({ endpoints: Array.from({ length: 1200 }, (_, n) => ({ ip: `10.42.${n >> 8}.${n & 255}`, port: 80 })) }).elements
    assert.equal(elementChanges('t', new Map(), elements).filter((line) => line.includes(' backends ')).length, 3)
  })
})

describe('host ports', () => {
  const port = (hostPort: number, hostIP?: string, protocol: 'tcp' | 'udp' = 'tcp') => ({ hostPort, containerPort: 80, protocol, hostIP })
  const conflict = (error: unknown): boolean => error instanceof NetworkError && error.code === 'conflict'

  test('any address collides with each; different addresses and protocols do not', () => {
    const ports = new HostPorts()
    ports.reserve('a', [port(80, '127.0.0.1'), port(80, undefined, 'udp')])
    ports.reserve('b', [port(80, '192.0.2.1')])
    assert.throws(() => ports.reserve('c', [port(80)]), conflict)
    assert.throws(() => ports.reserve('c', [port(80, '0.0.0.0')]), conflict)
    assert.throws(() => ports.reserve('c', [port(80, '127.0.0.1')]), conflict)
    assert.throws(() => ports.reserve('c', [port(81), port(81, '127.0.0.1')]), conflict)
    ports.release([port(80, '127.0.0.1')])
    ports.release([port(80, '192.0.2.1')])
    ports.reserve('c', [port(80), port(81)])
    assert.throws(() => ports.reserve('d', [port(80, '192.0.2.1')]), conflict)
    for (const wrong of [port(0), port(65_536), port(80.5), port(82, 'localhost')]) {
      assert.throws(() => ports.reserve('d', [wrong]), (error: unknown) => error instanceof NetworkError && error.code === 'invalid')
    }
  })

  test('become elements', () => {
    const elements = hostPortElements([{ ip: '10.42.1.2', ports: [port(8080), port(53, '192.0.2.1', 'udp')] }])
    assert.deepEqual([...(elements.get('host-ports') ?? [])], [['tcp . 8080', '10.42.1.2 . 80']])
    assert.deepEqual([...(elements.get('host-ports-at') ?? [])], [['192.0.2.1 . udp . 53', '10.42.1.2 . 80']])
  })
})
