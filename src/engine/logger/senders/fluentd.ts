/** Docker's log driver `fluentd`: messages of the forward protocol (MessagePack arrays `[tag, time, record]`) over TCP, TLS or a unix socket. */
import { randomBytes } from 'node:crypto'
import { createConnection } from 'node:net'
import type { Writable } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { parseAddress } from './address.ts'
import type { Format, Line } from './index.ts'
import { arrayHead, eventTime, mapHead, text, uint32 } from './msgpack.ts'
import { StreamOutlet } from './outlet.ts'

const DEFAULT_PORT = 24224
/** Docker's own default, counted in messages. */
const DEFAULT_MESSAGES = 1 << 20

/** `container-name` is what the record calls the container; its id if left out. Throws where an option is wrong. */
export function fluentd(options: Record<string, string>, id: string, onNote: (text: string) => void): Format {
  const given = options['fluentd-address'] ?? `127.0.0.1:${DEFAULT_PORT}`
  const address = parseAddress('fluentd-address', given, { protocol: 'tcp', port: DEFAULT_PORT })
  if (!['tcp', 'tls', 'unix'].includes(address.protocol)) throw new Error(`fluentd-address: unsupported protocol "${address.protocol}"`)
  const connect = (ready: () => void): Writable => {
    if (address.protocol === 'unix') return createConnection(address.path, ready).resume()
    const to = { host: address.host, port: address.port }
    return (address.protocol === 'tls' ? connectTls(to, ready) : createConnection({ ...to, keepAlive: true }, ready)).resume()
  }
  const fine = /^(?:1|t|true)$/i.test(options['fluentd-sub-second-precision'] ?? '')
  const tag = text(options['tag'] ?? id.slice(0, 12))
  const fixed = Buffer.concat([
    text('container_id'), text(id), text('container_name'), text(options['container-name'] ?? id),
  ])
  const [logKey, sourceKey, stdout, stderr] = ['log', 'source', 'stdout', 'stderr'].map((t) => text(t)) as [Buffer, Buffer, Buffer, Buffer]
  const pieces = { stdout: new Pieces(), stderr: new Pieces() }
  return {
    outlet: new StreamOutlet(connect, { name: given, onNote, maxMessages: limit(options['fluentd-buffer-limit']) }),
    encode(line) {
      const piece = pieces[line.stderr ? 'stderr' : 'stdout'].next(line)
      return Buffer.concat([
        arrayHead(3), tag, fine ? eventTime(line.atMs, line.ns) : uint32(Math.floor(line.atMs / 1000)),
        mapHead(4 + piece.length / 2), fixed, sourceKey, line.stderr ? stderr : stdout, logKey, text(line.text), ...piece,
      ])
    },
  }
}

/** Marks that let the other side join the pieces of a long line. */
class Pieces {
  #id = ''
  #ordinal = 0

  next(line: Line): Buffer[] {
    if (!line.partial && this.#ordinal === 0) return []
    if (this.#ordinal === 0) this.#id = randomBytes(32).toString('hex')
    this.#ordinal++
    const out = [
      ['partial_message', 'true'], ['partial_id', this.#id], ['partial_ordinal', String(this.#ordinal)], ['partial_last', String(!line.partial)],
    ].flatMap((pair) => pair.map((t) => text(t)))
    if (!line.partial) this.#ordinal = 0
    return out
  }
}

function limit(given: string | undefined): number {
  if (given === undefined) return DEFAULT_MESSAGES
  const m = /^(\d+) ?([kmg]?)(?:i?b)?$/i.exec(given.trim())
  if (m === null) throw new Error(`fluentd-buffer-limit: "${given}" is no number`)
  return Number(m[1]) * 1024 ** ' kmg'.indexOf((m[2] || ' ').toLowerCase())
}
