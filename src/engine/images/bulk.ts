/**
 * While whole images flow through this process its garbage is collected for speed rather than for size. Buffers count as much as objects
 * for when the next collection is due; under the daemons' `--optimize-for-size` every few megabytes of them cost a full one.
 */
import { setFlagsFromString } from 'node:v8'

const SMALL = '--optimize-for-size'
const small = process.execArgv.includes(SMALL)
const FAST_FLAGS = [`--no-${SMALL.slice(2)}`, '--heap-growing-percent=300']
/** V8's own rule for growth, with 0. */
const SMALL_FLAGS = [SMALL, '--heap-growing-percent=0']
let underway = 0

export async function inBulk<T>(work: () => Promise<T>): Promise<T> {
  if (small && underway++ === 0) for (const f of FAST_FLAGS) setFlagsFromString(f)
  try {
    return await work()
  } finally {
    if (small && --underway === 0) for (const f of SMALL_FLAGS) setFlagsFromString(f)
  }
}
