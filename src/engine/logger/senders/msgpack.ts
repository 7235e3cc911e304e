/** The few shapes of MessagePack that the forward protocol needs. */

/** Up to 15 elements. */
export function arrayHead(length: number): Buffer { return Buffer.of(0x90 | length) }
/** Up to 15 pairs. */
export function mapHead(pairs: number): Buffer { return Buffer.of(0x80 | pairs) }

export function text(value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value
  const n = bytes.length
  const head = n < 32 ? Buffer.of(0xa0 | n) : n < 256 ? Buffer.of(0xd9, n) : n < 65536 ? Buffer.of(0xda, n >> 8, n & 255)
    : Buffer.of(0xdb, n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255)
  return Buffer.concat([head, bytes])
}

export function uint32(value: number): Buffer {
  const b = Buffer.of(0xce, 0, 0, 0, 0)
  b.writeUInt32BE(value, 1)
  return b
}

/** The forward protocol's extension 0: seconds and nanoseconds. */
export function eventTime(ms: number, ns: number): Buffer {
  const b = Buffer.alloc(10)
  b.writeUInt16BE(0xd700, 0)
  b.writeUInt32BE(Math.floor(ms / 1000), 2)
  b.writeUInt32BE(ms % 1000 * 1_000_000 + ns, 6)
  return b
}
