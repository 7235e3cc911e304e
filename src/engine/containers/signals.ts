/** Signal names and numbers as docker takes them. */
import { constants } from 'node:os'
import { EngineError } from '../engine.ts'

const RTMIN = 34
const RTMAX = 64

/** `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3` → number. Throws `invalid`. */
export function signalNumber(signal: string | number): number {
  if (typeof signal === 'number' || /^\d+$/.test(signal)) {
    const n = Number(signal)
    if (Number.isInteger(n) && n >= 1 && n <= RTMAX) return n
  } else {
    const name = signal.toUpperCase().replace(/^SIG/, '')
    const known = (constants.signals as Record<string, number | undefined>)[`SIG${name}`]
    if (known !== undefined) return known
    const real = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name)
    if (real !== null) {
      const n = (real[1] === 'MIN' ? RTMIN : RTMAX) + Number(real[3] ?? 0) * (real[2] === '-' ? -1 : 1)
      if (n >= RTMIN && n <= RTMAX) return n
    }
  }
  throw new EngineError('invalid', `invalid signal: ${signal}`)
}
