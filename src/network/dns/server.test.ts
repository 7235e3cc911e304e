import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { after, before, beforeEach, describe, test } from 'node:test'
import packet, { type Answer, type DecodedPacket, type Packet } from 'dns-packet'
import { parseCidr } from '../ipv4.ts'
import type { DnsRecords } from '../network.ts'
import { DnsServer } from './server.ts'

/** An upstream under the test's control, on UDP and TCP. */
class FakeUpstream {
  udp: Socket = createSocket('udp4')
  tcp: Server = createServer()
  port = 0
  asked: string[] = []
  reply: (query: DecodedPacket, transport: 'udp' | 'tcp') => Partial<Packet> | Buffer | undefined = () => ({})

  async start(): Promise<void> {
    this.udp.bind(0, '127.0.0.1')
    await once(this.udp, 'listening')
    this.port = this.udp.address().port
    this.udp.on('message', (message, from) => {
      const reply = this.#answer(message, 'udp')
      if (reply !== undefined) this.udp.send(reply, from.port, from.address)
    })
    this.tcp.on('connection', (socket) => {
      socket.on('error', () => undefined)
      socket.once('data', (data: Buffer) => {
        const reply = this.#answer(data.subarray(2), 'tcp')
        if (reply !== undefined) socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 255]), reply]))
      })
    })
    this.tcp.listen(this.port, '127.0.0.1')
    await once(this.tcp, 'listening')
  }

  #answer(message: Buffer, transport: 'udp' | 'tcp'): Buffer | undefined {
    const query = packet.decode(message)
    this.asked.push(`${transport} ${query.questions?.[0]?.name} ${query.questions?.[0]?.type}`)
    const reply = this.reply(query, transport)
    if (reply === undefined || Buffer.isBuffer(reply)) return reply
    return packet.encode({ type: 'response', id: query.id, flags: packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE, questions: query.questions, ...reply })
  }

  stop(): void {
    this.udp.close()
    this.tcp.close()
  }
}

let server: DnsServer
const upstream = new FakeUpstream()
const silent = new FakeUpstream()

before(async () => {
  await Promise.all([upstream.start(), silent.start()])
  silent.reply = () => undefined
  server = await DnsServer.start({
    address: '127.0.0.1', port: 0, clusterDomain: 'cluster.local', ownRanges: [parseCidr('10.42.0.0/16'), parseCidr('10.43.0.0/16')],
    upstreams: [`127.0.0.1:${upstream.port}`],
  })
  server.setRecords(records())
})
after(async () => {
  await server.close()
  upstream.stop()
  silent.stop()
})
beforeEach(() => {
  upstream.asked = []
  upstream.reply = () => ({})
})

function records(): DnsRecords {
  const many = Array.from({ length: 80 }, (_, n) => `10.42.1.${n + 1}`)
  return {
    a: new Map([['web.default.svc.cluster.local', ['10.43.0.10']], ['db.default.svc.cluster.local', ['10.42.1.1', '10.42.1.2', '10.42.1.3']],
      ['many.default.svc.cluster.local', many], ['redis', ['10.43.0.7']], ['pod-0.db.default.svc.cluster.local', ['10.42.1.1']]]),
    srv: new Map([['_http._tcp.web.default.svc.cluster.local', [{ port: 80, target: 'web.default.svc.cluster.local' }]]]),
    cname: new Map([['out.default.svc.cluster.local', 'www.example.org'], ['alias.default.svc.cluster.local', 'web.default.svc.cluster.local'],
      ['loop.default.svc.cluster.local', 'loop.default.svc.cluster.local']]),
    ptr: new Map([['10.43.0.10', 'web.default.svc.cluster.local']]),
  }
}

async function raw(message: Buffer, waitMs = 4000): Promise<Buffer | undefined> {
  const socket = createSocket('udp4')
  try {
    socket.send(message, server.port, '127.0.0.1')
    const timer = new Promise<undefined>((resolve) => setTimeout(resolve, waitMs, undefined).unref())
    return await Promise.race([once(socket, 'message').then(([reply]) => reply as Buffer), timer])
  } finally {
    socket.close()
  }
}

async function ask(name: string, type: string, more: Partial<Packet> = {}): Promise<DecodedPacket & { rcode: string }> {
  const message = packet.encode({ type: 'query', id: 4660, flags: packet.RECURSION_DESIRED, questions: [{ name, type: type as 'A' }], ...more })
  const reply = await raw(message)
  assert.ok(reply !== undefined, `no answer for ${name}`)
  return packet.decode(reply) as DecodedPacket & { rcode: string }
}

const edns: Partial<Packet> = { additionals: [
  { name: '.', type: 'OPT', udpPayloadSize: 4096, flags: 0, options: [], ednsVersion: 0, extendedRcode: 0, flag_do: false } as unknown as Answer] }

const data = (answers: Answer[] | undefined): unknown[] => (answers ?? []).map((answer) => (answer as { data: unknown }).data)

describe('local names', () => {
  test('A, whatever the spelling, with the question as it was asked', async () => {
    const reply = await ask('Web.Default.SVC.cluster.local', 'A')
    assert.deepEqual(data(reply.answers), ['10.43.0.10'])
    assert.equal(reply.id, 4660)
    assert.equal(reply.questions?.[0]?.name, 'Web.Default.SVC.cluster.local')
    assert.ok(reply.flag_aa && reply.flag_ra && reply.flag_rd)
    assert.deepEqual(data((await ask('redis', 'A')).answers), ['10.43.0.7'])
    assert.deepEqual(upstream.asked, [])
  })

  test('several addresses, in turn', async () => {
    const firsts = new Set<unknown>()
    for (let n = 0; n < 6; n++) {
      const answers = data((await ask('db.default.svc.cluster.local', 'A')).answers)
      assert.deepEqual(answers.toSorted(), ['10.42.1.1', '10.42.1.2', '10.42.1.3'])
      firsts.add(answers[0])
    }
    assert.equal(firsts.size, 3)
  })

  test('AAAA of a known name is empty, not unknown; so are names above known ones', async () => {
    for (const [name, type] of [['web.default.svc.cluster.local', 'AAAA'], ['redis', 'AAAA'], ['web.default.svc.cluster.local', 'TXT'],
      ['svc.cluster.local', 'A'], ['_tcp.web.default.svc.cluster.local', 'A'], ['cluster.local', 'A']] as const) {
      const reply = await ask(name, type)
      assert.equal(reply.rcode, 'NOERROR', name)
      assert.deepEqual(reply.answers, [])
      assert.equal(reply.authorities?.[0]?.type, 'SOA')
    }
    assert.deepEqual(upstream.asked, [])
  })

  test('unknown ones in the zone are unknown at once: a search list goes on', async () => {
    for (const name of ['nope.default.svc.cluster.local', 'example.org.default.svc.cluster.local', 'web.cluster.local', 'x.web.default.svc.cluster.local']) {
      const reply = await ask(name, 'A')
      assert.equal(reply.rcode, 'NXDOMAIN', name)
      assert.equal(reply.authorities?.[0]?.type, 'SOA')
    }
    assert.deepEqual(upstream.asked, [])
  })

  test('SRV with its target\'s address', async () => {
    const reply = await ask('_http._tcp.web.default.svc.cluster.local', 'SRV')
    assert.deepEqual(data(reply.answers), [{ priority: 0, weight: 100, port: 80, target: 'web.default.svc.cluster.local' }])
    assert.deepEqual(data(reply.additionals), ['10.43.0.10'])
  })

  test('PTR; reverse names of own ranges stay here', async () => {
    assert.deepEqual(data((await ask('10.0.43.10.in-addr.arpa', 'PTR')).answers), ['web.default.svc.cluster.local'])
    assert.equal((await ask('99.0.43.10.in-addr.arpa', 'PTR')).rcode, 'NXDOMAIN')
    assert.deepEqual(upstream.asked, [])
    await ask('1.0.0.9.in-addr.arpa', 'PTR')
    assert.equal(upstream.asked.length, 1)
  })

  test('pods\' names made of their addresses', async () => {
    assert.deepEqual(data((await ask('10-42-1-9.default.pod.cluster.local', 'A')).answers), ['10.42.1.9'])
    assert.equal((await ask('10-42-1.default.pod.cluster.local', 'A')).rcode, 'NXDOMAIN')
  })

  test('aliases: within the records, to the outside, and in circles', async () => {
    assert.deepEqual(data((await ask('alias.default.svc.cluster.local', 'A')).answers), ['web.default.svc.cluster.local', '10.43.0.10'])
    upstream.reply = ({ questions }) => ({ questions, answers: [{ type: 'CNAME', name: 'www.example.org', data: 'edge.example.org', ttl: 9 },
      { type: 'A', name: 'edge.example.org', data: '192.0.2.8', ttl: 9 }] })
    const reply = await ask('out.default.svc.cluster.local', 'A')
    assert.deepEqual(data(reply.answers), ['www.example.org', '192.0.2.8'])
    assert.equal(reply.answers?.[1]?.name, 'www.example.org')
    assert.equal((await ask('loop.default.svc.cluster.local', 'A')).rcode, 'NOERROR')
  })

  test('what exceeds the client\'s size is truncated over UDP and whole over TCP', async () => {
    const small = await ask('many.default.svc.cluster.local', 'A')
    assert.ok(small.flag_tc)
    assert.ok((small.answers?.length ?? 0) > 10 && (small.answers?.length ?? 0) < 80)
    const larger = await ask('many.default.svc.cluster.local', 'A', edns)
    assert.ok((larger.answers?.length ?? 0) > (small.answers?.length ?? 0))
    assert.equal(larger.additionals?.[0]?.type, 'OPT')

    const socket = connect(server.port, '127.0.0.1')
    const query = packet.encode({ type: 'query', id: 7, questions: [{ name: 'many.default.svc.cluster.local', type: 'A' }] })
    const framed = Buffer.concat([Buffer.from([0, query.length]), query])
    // Two questions in three pieces.
    socket.write(framed.subarray(0, 1))
    await new Promise((resolve) => setTimeout(resolve, 10))
    socket.write(Buffer.concat([framed.subarray(1), framed.subarray(0, 9)]))
    socket.write(framed.subarray(9))
    let received = Buffer.alloc(0)
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk])
      if (received.length >= 2 * (2 + received.readUInt16BE(0))) break
    }
    const reply = packet.decode(received.subarray(2, 2 + received.readUInt16BE(0)))
    assert.equal(reply.answers?.length, 80)
    assert.ok(!reply.flag_tc)
  })

  test('new records replace the old ones', async () => {
    server.setRecords({ ...records(), a: new Map([['fresh.default.svc.cluster.local', ['10.43.0.99']]]) })
    assert.deepEqual(data((await ask('fresh.default.svc.cluster.local', 'A')).answers), ['10.43.0.99'])
    assert.equal((await ask('db.default.svc.cluster.local', 'A')).rcode, 'NXDOMAIN')
    server.setRecords(records())
    assert.equal((await ask('fresh.default.svc.cluster.local', 'A')).rcode, 'NXDOMAIN')
  })
})

describe('other names', () => {
  const address = (ttl: number, data = '192.0.2.1') => ({ questions }: DecodedPacket): Partial<Packet> =>
    ({ questions, answers: [{ type: 'A', name: questions?.[0]?.name ?? '', data, ttl }] })

  test('come from upstream, are kept as long as they hold, and are shared by those who ask at once', async () => {
    upstream.reply = address(60)
    const replies = await Promise.all(Array.from({ length: 20 }, () => ask('www.example.com', 'A')))
    for (const reply of replies) assert.deepEqual(data(reply.answers), ['192.0.2.1'])
    assert.equal(upstream.asked.length, 1)
    const later = await ask('WWW.example.com', 'A')
    assert.equal(later.questions?.[0]?.name, 'WWW.example.com')
    assert.equal(upstream.asked.length, 1)
  })

  test('with TTL 0 are not kept; negative ones are, by their SOA', async () => {
    upstream.reply = address(0)
    await ask('zero.example.com', 'A')
    await ask('zero.example.com', 'A')
    assert.equal(upstream.asked.length, 2)
    upstream.reply = ({ questions, id }) => packet.encode({ type: 'response', id, flags: 3, questions, authorities: [{ type: 'SOA', name: 'example.com', ttl: 60,
      data: { mname: 'a', rname: 'b', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 } }] })
    assert.equal((await ask('gone.example.com', 'A')).rcode, 'NXDOMAIN')
    assert.equal((await ask('gone.example.com', 'A')).rcode, 'NXDOMAIN')
    assert.equal(upstream.asked.length, 3)
  })

  test('truncated upstream answers are fetched over TCP', async () => {
    upstream.reply = ({ questions, id }, transport) => transport === 'udp'
      ? packet.encode({ type: 'response', id, flags: packet.TRUNCATED_RESPONSE, questions })
      : { questions, answers: Array.from({ length: 20 }, (_, n) => ({ type: 'A' as const, name: 'big.example.com', data: `192.0.2.${n}`, ttl: 5 })) }
    assert.equal((await ask('big.example.com', 'A', edns)).answers?.length, 20)
    assert.deepEqual(upstream.asked, ['udp big.example.com A', 'tcp big.example.com A'])
    const small = await ask('big.example.com', 'A')
    assert.ok(small.flag_tc && small.answers?.length === 0, 'from what is kept, but more than this client takes')
    assert.equal(upstream.asked.length, 2)
  })

  test('answers to something else, malformed or forged ones, are not believed', async () => {
    upstream.reply = (query) => {
      const forged = { type: 'response' as const, questions: query.questions, answers: [{ type: 'A' as const, name: 'x', data: '6.6.6.6', ttl: 60 }] }
      const send = (message: Buffer): void => { lastSender?.(message) }
      send(packet.encode({ ...forged, id: ((query.id ?? 0) + 1) & 0xffff }))
      send(packet.encode({ ...forged, id: query.id, questions: [{ name: 'other.example.com', type: 'A' }] }))
      send(Buffer.concat([packet.encode({ ...forged, id: query.id }).subarray(0, 40)]))
      return { questions: query.questions, answers: [{ type: 'A', name: 'real.example.com', data: '192.0.2.1', ttl: 1 }] }
    }
    let lastSender: ((message: Buffer) => void) | undefined
    upstream.udp.prependListener('message', (_, from) => { lastSender = (message) => upstream.udp.send(message, from.port, from.address) })
    assert.deepEqual(data((await ask('real.example.com', 'A')).answers), ['192.0.2.1'])
  })

  test('a silent upstream costs one second once, then the next one is asked first', async () => {
    const other = await DnsServer.start({ address: '127.0.0.1', port: 0, clusterDomain: 'cluster.local', ownRanges: [],
      upstreams: [`127.0.0.1:${silent.port}`, `127.0.0.1:${upstream.port}`] })
    const saved = server
    server = other
    try {
      upstream.reply = address(0)
      const startedMs = performance.now()
      assert.deepEqual(data((await ask('slow.example.com', 'A')).answers), ['192.0.2.1'])
      assert.ok(performance.now() - startedMs >= 900)
      const secondMs = performance.now()
      await ask('slow2.example.com', 'A')
      assert.ok(performance.now() - secondMs < 500)
    } finally {
      server = saved
      await other.close()
    }
  })

  test('SERVFAIL when there is no upstream', async () => {
    const other = await DnsServer.start({ address: '127.0.0.1', port: 0, clusterDomain: 'cluster.local', ownRanges: [], upstreams: [] })
    const saved = server
    server = other
    try {
      assert.equal((await ask('www.example.com', 'A')).rcode, 'SERVFAIL')
    } finally {
      server = saved
      await other.close()
    }
  })
})

describe('garbage', () => {
  test('is answered with an error or not at all, and the server lives', async () => {
    const good = packet.encode({ type: 'query', id: 1, questions: [{ name: 'web.default.svc.cluster.local', type: 'A' }] })
    const cases: [string, Buffer, number | undefined][] = [
      ['empty', Buffer.alloc(0), undefined],
      ['half a header', good.subarray(0, 7), undefined],
      ['an answer', Buffer.concat([Buffer.from([0, 1, 0x80, 0]), good.subarray(4)]), undefined],
      ['another operation', Buffer.concat([Buffer.from([0, 1, 0x28, 0]), good.subarray(4)]), 4],
      ['no question', Buffer.concat([good.subarray(0, 4), Buffer.alloc(8)]), 1],
      ['two questions', Buffer.concat([good.subarray(0, 4), Buffer.from([0, 2]), good.subarray(6)]), 1],
      ['a cut name', good.subarray(0, 20), 1],
      ['a pointer to itself', Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]), 1],
      ['records that are not there', Buffer.concat([good.subarray(0, 10), Buffer.from([0, 9]), good.subarray(12)]), 1],
      ['a name of 300 bytes', Buffer.concat([good.subarray(0, 12), ...Array.from({ length: 5 }, () => Buffer.concat([Buffer.from([60]), Buffer.alloc(60, 97)])),
        Buffer.from([0, 0, 1, 0, 1])]), 1],
    ]
    for (const [what, message, rcode] of cases) {
      const reply = await raw(message, rcode === undefined ? 60 : 2000)
      assert.equal(reply === undefined ? undefined : reply.readUInt16BE(2) & 15, rcode, what)
    }
    const socket = createSocket('udp4')
    for (let n = 0; n < 2000; n++) {
      const noise = Buffer.from(good)
      for (let flip = 0; flip < 4; flip++) noise[Math.floor(Math.random() * noise.length)] = Math.floor(Math.random() * 256)
      await new Promise((resolve) => socket.send(noise, server.port, '127.0.0.1', resolve))
    }
    socket.close()
    assert.deepEqual(data((await ask('web.default.svc.cluster.local', 'A')).answers), ['10.43.0.10'])
  })
})
