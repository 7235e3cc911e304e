/** Signals as users write them: `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`. */
import { constants } from 'node:os'
import { DockerError } from '../errors.ts'

const RTMIN = 34
const RTMAX = 64
export const SIGKILL = 9
export const SIGTERM = 15

/** Throws `invalid`. */
export function parseSignal(text: string): number {
  const n = numberOf(text.trim())
  if (n === undefined || n < 1 || n > RTMAX) throw new DockerError('invalid', `invalid signal: ${text}`)
  return n
}

function numberOf(text: string): number | undefined {
  if (/^\d+$/.test(text)) return Number(text)
  const name = text.toUpperCase().replace(/^SIG/, '')
  const known = (constants.signals as Record<string, number | undefined>)[`SIG${name}`]
  if (known !== undefined) return known
  const real = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name)
  if (real === null) return undefined
  const at = (real[1] === 'MIN' ? RTMIN : RTMAX) + Number(real[3] ?? 0) * (real[2] === '-' ? -1 : 1)
  return at >= RTMIN ? at : undefined
}
