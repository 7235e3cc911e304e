import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { MachineResolvers, parseResolvConf, parseUpstream } from './upstreams.ts'

let directory: string
before(async () => { directory = await mkdtemp(join(tmpdir(), 'gantry-resolv-')) })
after(() => rm(directory, { recursive: true, force: true }))

test('addresses with and without port', () => {
  assert.deepEqual(parseUpstream('192.0.2.1'), { address: '192.0.2.1', port: 53 })
  assert.deepEqual(parseUpstream('192.0.2.1:5353'), { address: '192.0.2.1', port: 5353 })
  assert.deepEqual(parseUpstream('2001:db8::1'), { address: '2001:db8::1', port: 53 })
  for (const wrong of ['', 'dns.example.org', '192.0.2.1:', '192.0.2.1:0', '192.0.2.1:70000', '300.0.2.1:53']) assert.equal(parseUpstream(wrong), undefined, wrong)
})

test('resolv.conf: comments, options and junk are passed over', () => {
  const text = '# nameserver 9.9.9.9\nsearch example.org\nnameserver 192.0.2.1\n  nameserver\t192.0.2.2 # second\nnameserver nonsense\noptions ndots:5\n'
  assert.deepEqual(parseResolvConf(text).map(({ address }) => address), ['192.0.2.1', '192.0.2.2'])
})

test('loopback resolvers that nobody listens at are passed over for the next file', async () => {
  const first = join(directory, 'stub')
  const second = join(directory, 'real')
  await writeFile(first, 'nameserver 127.0.0.53\n')
  await writeFile(second, 'nameserver 192.0.2.1\nnameserver 10.42.0.1\n')
  assert.deepEqual(await new MachineResolvers('10.42.0.1', [first, second]).get(), [{ address: '192.0.2.1', port: 53 }])
  await rm(second)
  assert.deepEqual(await new MachineResolvers('10.42.0.1', [first, second]).get(), [])
})

test('loopback resolvers that listen are used', async (context) => {
  const file = join(directory, 'local')
  const resolver = createSocket('udp4')
  resolver.bind(53, '127.86.86.86')
  try {
    await once(resolver, 'listening')
  } catch {
    return context.skip('port 53 needs root')
  }
  context.after(() => resolver.close())
  await writeFile(file, 'nameserver 127.86.86.86\n')
  assert.deepEqual(await new MachineResolvers('10.42.0.1', [file]).get(), [{ address: '127.86.86.86', port: 53 }])
})
