/** Reading of options' values; a wrong one names the flag and what it takes. */
import { UserError } from './output.ts'

/** For options that may be repeated. */
export const collect = (value: string, all: string[]): string[] => [...all, value]

export function portOf(text: string): number {
  const n = Number(text)
  if (!Number.isInteger(n) || n < 1 || n > 65_535) throw new UserError(`"${text}" is not a port (1 to 65535)`, 2)
  return n
}

export function wholeNumber(what: string, text: string, max: number): number {
  const n = Number(text)
  if (!/^\d+$/.test(text) || n > max) throw new UserError(`"${text}" is not a number of ${what} (0 to ${max})`, 2)
  return n
}

/** `NAME=value` texts as a map. */
export function pairs(flag: string, all: string[]): Record<string, string> {
  return Object.fromEntries(all.map(text => {
    const at = text.indexOf('=')
    if (at < 1) throw new UserError(`${flag} takes NAME=value, not "${text}"`, 2)
    return [text.slice(0, at), text.slice(at + 1)]
  }))
}
