/**
 * DNS messages (RFC 1035, EDNS of RFC 6891), as much as a server of local names and a forwarder need. Works on the bytes: a
 * question is copied into its answer and a forwarded answer is patched, neither is decoded and encoded again.
 */

export const Type = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, OPT: 41, ANY: 255 } as const
export const Rcode = { ok: 0, formatError: 1, serverFailure: 2, nameError: 3, notImplemented: 4, refused: 5 } as const

export const classInternet = 1
const headerBytes = 12
const maxNameBytes = 255
const maxLabelBytes = 63
/** Longest a client without EDNS can take over UDP. */
const plainUdpBytes = 512
/** What this server takes and gives over UDP at most: fits any path without fragments. */
export const ownUdpBytes = 1232

const flagResponse = 0x8000
const flagAuthoritative = 0x0400
const flagTruncated = 0x0200
const flagRecursionDesired = 0x0100
const flagRecursionAvailable = 0x0080
const flagCheckingDisabled = 0x0010
const opcodeMask = 0x7800

export interface Query {
  packet: Buffer
  id: number
  flags: number
  /** Lower case, without the trailing dot; dots within a label are written `\.`. */
  name: string
  type: number
  class: number
  /** The question with its type and class. */
  question: Buffer
  edns?: { udpBytes: number; dnssecOk: boolean }
}

/** A query; or the code to answer with when it is not one that can be served; or undefined when it deserves no answer at all. */
export function parseQuery(packet: Buffer): Query | number | undefined {
  if (packet.length < headerBytes) return undefined
  const flags = packet.readUInt16BE(2)
  // Answering answers would let two servers talk to each other for ever.
  if ((flags & flagResponse) !== 0) return undefined
  if ((flags & opcodeMask) !== 0) return Rcode.notImplemented
  if (packet.readUInt16BE(4) !== 1) return Rcode.formatError
  const name = readQuestionName(packet)
  if (name === undefined || name.end + 4 > packet.length) return Rcode.formatError
  const query: Query = {
    packet, flags,
    id: packet.readUInt16BE(0),
    name: name.text,
    type: packet.readUInt16BE(name.end),
    class: packet.readUInt16BE(name.end + 2),
    question: packet.subarray(headerBytes, name.end + 4),
  }
  if (packet.readUInt16BE(10) > 0) {
    const walk = walkRecords(packet)
    if (walk === undefined) return Rcode.formatError
    if (walk.opt !== undefined) {
      query.edns = {
        udpBytes: packet.readUInt16BE(walk.opt.start + 3),
        dnssecOk: (packet.readUInt16BE(walk.opt.start + 7) & 0x8000) !== 0,
      }
    }
  }
  return query
}

/** No compression there: nothing precedes it that could be pointed to. */
function readQuestionName(packet: Buffer): { text: string; end: number } | undefined {
  let at = headerBytes
  let text = ''
  for (;;) {
    const length = packet[at]
    if (length === undefined || length > maxLabelBytes || at + 1 + length > packet.length) return undefined
    if (length === 0) return at + 1 - headerBytes <= maxNameBytes ? { text, end: at + 1 } : undefined
    let label = packet.toString('latin1', at + 1, at + 1 + length)
    if (label.includes('.') || label.includes('\\')) label = label.replace(/[.\\]/g, '\\$&')
    text = text === '' ? label.toLowerCase() : `${text}.${label.toLowerCase()}`
    at += 1 + length
  }
}

export interface RecordWalk {
  /** Positions of the TTLs of all records but OPT. */
  ttls: number[]
  /** The EDNS record, if there is one. */
  opt?: { start: number; end: number }
  /** Of an SOA in the authority section: how long its negative answer holds, in seconds. */
  negativeTtl?: number
  end: number
}

/** Goes over all records of a message; undefined if it is malformed. */
export function walkRecords(packet: Buffer): RecordWalk | undefined {
  let at = headerBytes
  for (let n = packet.readUInt16BE(4); n > 0; n--) {
    const end = skipName(packet, at)
    if (end === undefined || end + 4 > packet.length) return undefined
    at = end + 4
  }
  const answers = packet.readUInt16BE(6)
  const authority = packet.readUInt16BE(8)
  const total = answers + authority + packet.readUInt16BE(10)
  const walk: RecordWalk = { ttls: [], end: at }
  for (let n = 0; n < total; n++) {
    const start = at
    const nameEnd = skipName(packet, at)
    if (nameEnd === undefined || nameEnd + 10 > packet.length) return undefined
    const type = packet.readUInt16BE(nameEnd)
    const end = nameEnd + 10 + packet.readUInt16BE(nameEnd + 8)
    if (end > packet.length) return undefined
    if (type === Type.OPT) {
      if (nameEnd !== start + 1 || walk.opt !== undefined) return undefined
      walk.opt = { start, end }
    } else {
      walk.ttls.push(nameEnd + 4)
      if (type === Type.SOA && n >= answers && n < answers + authority && end - nameEnd >= 10 + 22) {
        walk.negativeTtl = Math.min(packet.readUInt32BE(nameEnd + 4), packet.readUInt32BE(end - 4))
      }
    }
    at = end
  }
  walk.end = at
  return walk
}

function skipName(packet: Buffer, start: number): number | undefined {
  let at = start
  for (;;) {
    const length = packet[at]
    if (length === undefined) return undefined
    if (length === 0) return at + 1
    if ((length & 0xc0) === 0xc0) return at + 2 <= packet.length ? at + 2 : undefined
    if (length > maxLabelBytes || at + 1 + length - start > maxNameBytes) return undefined
    at += 1 + length
  }
}

/** Undefined if a label or the whole is too long or empty. */
export function encodeName(name: string): Buffer | undefined {
  if (name === '') return Buffer.from([0])
  const parts: Buffer[] = []
  let total = 1
  for (const label of name.split('.')) {
    const bytes = Buffer.from(label, 'latin1')
    if (bytes.length === 0 || bytes.length > maxLabelBytes) return undefined
    parts.push(Buffer.from([bytes.length]), bytes)
    total += 1 + bytes.length
  }
  return total <= maxNameBytes ? Buffer.concat([...parts, Buffer.from([0])]) : undefined
}

/** Owner name of records for the name that was asked: a pointer to the question. */
export const askedName = Buffer.from([0xc0, headerBytes])

export function encodeRecord(owner: Buffer, type: number, ttlSeconds: number, data: Buffer): Buffer {
  const record = Buffer.allocUnsafe(owner.length + 10 + data.length)
  owner.copy(record)
  record.writeUInt16BE(type, owner.length)
  record.writeUInt16BE(classInternet, owner.length + 2)
  record.writeUInt32BE(ttlSeconds, owner.length + 4)
  record.writeUInt16BE(data.length, owner.length + 8)
  data.copy(record, owner.length + 10)
  return record
}

export interface Reply {
  rcode: number
  authoritative?: boolean
  answers?: Buffer[]
  authority?: Buffer[]
  additional?: Buffer[]
}

/** Bytes a client takes over UDP. */
export function udpLimit(query: Query): number {
  return query.edns === undefined ? plainUdpBytes : Math.min(Math.max(query.edns.udpBytes, plainUdpBytes), ownUdpBytes)
}

/** Leaves out what exceeds `limit`; if that is part of the answer, says so (TC), and the client asks again over TCP. */
export function encodeReply(query: Query, reply: Reply, limit: number): Buffer {
  const opt = query.edns === undefined ? undefined : optRecord()
  let length = headerBytes + query.question.length + (opt?.length ?? 0)
  const chosen: Buffer[] = []
  let truncated = false
  const fit = (records: Buffer[] | undefined): number => {
    let count = 0
    for (const record of records ?? []) {
      if (length + record.length > limit) break
      chosen.push(record)
      length += record.length
      count++
    }
    return count
  }
  const answers = fit(reply.answers)
  truncated = answers < (reply.answers?.length ?? 0)
  const authority = truncated ? 0 : fit(reply.authority)
  const additional = truncated ? 0 : fit(reply.additional)
  const packet = Buffer.allocUnsafe(length)
  packet.writeUInt16BE(query.id, 0)
  packet.writeUInt16BE(flagResponse | flagRecursionAvailable | (query.flags & (flagRecursionDesired | flagCheckingDisabled)) |
    (reply.authoritative === true ? flagAuthoritative : 0) | (truncated ? flagTruncated : 0) | reply.rcode, 2)
  packet.writeUInt16BE(1, 4)
  packet.writeUInt16BE(answers, 6)
  packet.writeUInt16BE(authority, 8)
  packet.writeUInt16BE(additional + (opt === undefined ? 0 : 1), 10)
  let at = headerBytes + query.question.copy(packet, headerBytes)
  for (const record of chosen) at += record.copy(packet, at)
  opt?.copy(packet, at)
  return packet
}

/** For packets whose question could not be read. */
export function encodeError(packet: Buffer, rcode: number): Buffer {
  const reply = Buffer.alloc(headerBytes)
  packet.copy(reply, 0, 0, 2)
  reply.writeUInt16BE(flagResponse | (packet.readUInt16BE(2) & (opcodeMask | flagRecursionDesired)) | rcode, 2)
  return reply
}

function optRecord(dnssecOk = false): Buffer {
  const record = Buffer.alloc(11)
  record.writeUInt16BE(Type.OPT, 1)
  record.writeUInt16BE(ownUdpBytes, 3)
  if (dnssecOk) record.writeUInt16BE(0x8000, 7)
  return record
}

/** A query of this server's own for the same question. */
export function encodeQuery(id: number, query: Query): Buffer {
  const header = Buffer.alloc(headerBytes)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(flagRecursionDesired | (query.flags & flagCheckingDisabled), 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(1, 10)
  return Buffer.concat([header, query.question, optRecord(query.edns?.dnssecOk)])
}

export interface UpstreamAnswer {
  /** Without EDNS record. */
  packet: Buffer
  rcode: number
  truncated: boolean
  ttls: number[]
  /** How long it may be kept. */
  ttlSeconds: number
}

/** Checks that a packet answers `query` as it was sent with `id`; undefined if not, or if it is malformed. */
export function parseAnswer(packet: Buffer, id: number, query: Query): UpstreamAnswer | undefined {
  if (packet.length < headerBytes || packet.readUInt16BE(0) !== id || packet.readUInt16BE(4) !== 1) return undefined
  const flags = packet.readUInt16BE(2)
  if ((flags & flagResponse) === 0) return undefined
  const name = readQuestionName(packet)
  if (name === undefined || name.end + 4 > packet.length || name.text !== query.name) return undefined
  if (packet.readUInt16BE(name.end) !== query.type || packet.readUInt16BE(name.end + 2) !== query.class) return undefined
  const walk = walkRecords(packet)
  const truncated = (flags & flagTruncated) !== 0
  if (walk === undefined) return truncated ? { packet, rcode: flags & 15, truncated, ttls: [], ttlSeconds: 0 } : undefined
  const rcode = flags & 15
  const positive = rcode === Rcode.ok && packet.readUInt16BE(6) > 0
  const ttlSeconds = positive
    ? walk.ttls.reduce((least, at) => Math.min(least, packet.readUInt32BE(at)), Infinity)
    : rcode === Rcode.ok || rcode === Rcode.nameError ? walk.negativeTtl ?? 0 : 0
  return { packet: withoutOpt(packet, walk), rcode, truncated, ttls: walk.ttls, ttlSeconds }
}

function withoutOpt(packet: Buffer, { opt, end }: RecordWalk): Buffer {
  // One that is not last stays: names behind it may be pointed to by their position.
  if (opt === undefined || opt.end !== end) return packet.subarray(0, end)
  const shorter = Buffer.from(packet.subarray(0, opt.start))
  shorter.writeUInt16BE(packet.readUInt16BE(10) - 1, 10)
  return shorter
}

/** An upstream's answer for this client: its id and question, TTLs less `ageSeconds`, cut to `limit`. */
export function adaptAnswer(query: Query, answer: UpstreamAnswer, ageSeconds: number, limit: number): Buffer {
  const opt = query.edns === undefined ? undefined : optRecord()
  if (answer.packet.length + (opt?.length ?? 0) > limit) {
    return setTruncated(encodeReply(query, { rcode: answer.rcode }, limit))
  }
  const packet = opt === undefined ? Buffer.from(answer.packet) : Buffer.concat([answer.packet, opt])
  packet.writeUInt16BE(query.id, 0)
  const flags = packet.readUInt16BE(2)
  packet.writeUInt16BE((flags & ~(flagRecursionDesired | flagTruncated)) | flagRecursionAvailable | (query.flags & flagRecursionDesired), 2)
  // The client's own spelling: some check it.
  query.question.copy(packet, headerBytes)
  if (opt !== undefined) packet.writeUInt16BE(packet.readUInt16BE(10) + 1, 10)
  for (const at of answer.ttls) packet.writeUInt32BE(Math.max(0, packet.readUInt32BE(at) - ageSeconds), at)
  return packet
}

function setTruncated(packet: Buffer): Buffer {
  packet.writeUInt16BE(packet.readUInt16BE(2) | flagTruncated, 2)
  return packet
}
