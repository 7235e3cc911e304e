import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Way } from './desired.ts'
import { renderConfig, renderHosts } from './haproxy-config.ts'
import { commandsBetween, needsReload, type Plan, planOf } from './plan.ts'

const way = (route: string, ips: string[], more: Partial<Way> = {}): Way =>
  ({ route, match: `${route}.test/`, sticky: false, targets: ips.map(ip => ({ ip, port: 80 })), ...more })
const plan = (ways: Way[], before?: Plan, held = new Map<string, string>()) => planOf({ ways, refusals: [] }, before, held)

test('routes keep their slots, freed ones are used again', () => {
  const held = new Map<string, string>()
  const first = plan([way('a', []), way('b', [])], undefined, held)
  assert.deepEqual([...first.hosts], [['a.test/', 'h1'], ['b.test/', 'h2']])
  const second = plan([way('b', []), way('c', [])], first, held)
  assert.deepEqual([...second.hosts], [['b.test/', 'h2'], ['c.test/', 'h1']])
  assert.equal(needsReload(first, second), false)
  assert.equal(plan([way('b', [], { sticky: true })], second, held).hosts.get('b.test/'), 'k1')
})

test('only a new port, or more routes than slots, needs a reload', () => {
  const held = new Map<string, string>()
  const one = plan([way('a', [])], undefined, held)
  assert.ok(needsReload(one, plan([way('a', []), { route: 't', tcpPort: 9, sticky: false, targets: [] }], one, held)))
  const many = plan(Array.from({ length: 65 }, (_, i) => way(`r${i}`, [])), one, held)
  assert.equal(many.httpSlots, 128)
  assert.ok(needsReload(one, many))
})

test('commands between two plans', () => {
  const held = new Map<string, string>()
  const a = plan([way('a', ['10.0.0.1', '10.0.0.2'])], undefined, held)
  const b = plan([way('a', ['10.0.0.2', '10.0.0.3']), way('b', [])], a, held)
  const { now, later } = commandsBetween(a, b, '/m')
  assert.equal(now.filter(c => c.startsWith('add server h1/10_0_0_3_80 10.0.0.3:80 ')).length, 1)
  assert.ok(now.includes('enable server h1/10_0_0_3_80'))
  assert.ok(now.includes('set server h1/10_0_0_1_80 state maint'))
  assert.ok(now.includes('add map /m b.test/ h2'))
  assert.deepEqual(later, ['del server h1/10_0_0_1_80'])
  assert.ok(!now.some(c => c.includes('10_0_0_2')))
  assert.deepEqual(commandsBetween(b, b, '/m'), { now: [], later: [] })
})

test('the configuration holds the whole plan', () => {
  const p = plan([way('a', ['10.0.0.1']), { route: 't', tcpPort: 5432, sticky: false, targets: [{ ip: '10.0.0.9', port: 1 }] }])
  const text = renderConfig(p, { paths: { socket: '/s', hostsMap: '/m' }, httpAddress: '0.0.0.0', httpPort: 80, cookieKey: 'k' })
  assert.match(text, /backend h1\n {2}balance roundrobin\n {2}server 10_0_0_1_80 10\.0\.0\.1:80 check/)
  assert.match(text, /bind 0\.0\.0\.0:5432\n/)
  assert.match(text, /backend t5432\n[\s\S]*server 10_0_0_9_1 10\.0\.0\.9:1 /)
  assert.equal(text.match(/^backend h/gm)!.length, 64)
  assert.equal(renderHosts(p), 'a.test/ h1\n')
})
