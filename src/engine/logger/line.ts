/** The parts of a log line, `TIME STREAM F text`, as offsets from its start: all before the text has a fixed width. */
export const Prefix = { timeEnd: 30, stream: 31, flag: 38, text: 40 } as const

const SPACE = 32
const PARTIAL = 80
const T = 84
const E = 101

/** False for anything but a line of ours, such as one that a crash cut. */
export function isLine(block: Buffer, start: number, end: number): boolean {
  return end - start >= Prefix.text && block[start + Prefix.text - 1] === SPACE && block[start + Prefix.timeEnd] === SPACE && block[start + 10] === T
}

/** The fourth letter tells stderr from stdout. */
export function isStderr(block: Buffer, start: number): boolean { return block[start + Prefix.stream + 3] === E }

export function isPartial(block: Buffer, start: number): boolean { return block[start + Prefix.flag] === PARTIAL }
