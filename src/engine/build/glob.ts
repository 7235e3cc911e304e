/** Go's path patterns (`*`, `?`, `[a-z]`, `\x`), one path component at a time, and `**` as .dockerignore has it. */
import { EngineError } from '../engine.ts'
import { anything, literal, Matcher } from './matcher.ts'
import type { Step } from './matcher.ts'

const withinComponent = (c: string): boolean => c !== '/'

/** For one component, or for a whole path where `**` spans components. Throws `invalid` for a pattern that is none. */
export function patternMatcher(pattern: string): Matcher {
  const characters = [...pattern]
  const steps: Step[] = []
  for (let i = 0; i < characters.length; i++) {
    const c = characters[i]!
    if (c === '*') {
      const double = characters[i + 1] === '*'
      while (characters[i + 1] === '*') i++
      if (double && characters[i + 1] === '/') {
        i++
        steps.push({ kind: 'optional', fits: anything }, { kind: 'through', fits: anything })
      } else {
        steps.push({ kind: 'many', fits: double ? anything : withinComponent })
      }
    } else if (c === '?') {
      steps.push({ kind: 'one', fits: withinComponent })
    } else if (c === '[') {
      const end = characters.indexOf(']', i + 2)
      if (end < 0) throw new EngineError('invalid', `syntax error in pattern "${pattern}": "[" without "]"`)
      steps.push({ kind: 'one', fits: characterClass(characters.slice(i + 1, end)) })
      i = end
    } else {
      steps.push(literal(c === '\\' && i + 1 < characters.length ? characters[++i]! : c))
    }
  }
  return new Matcher(steps)
}

/** What stands between brackets: characters and ranges, `^` before them for all others but the slash. */
function characterClass(inner: string[]): (c: string) => boolean {
  const others = inner[0] === '^'
  const ranges: [number, number][] = []
  for (let i = others ? 1 : 0; i < inner.length; i++) {
    const low = inner[i]!.codePointAt(0)!
    const ranged = inner[i + 1] === '-' && inner[i + 2] !== undefined
    ranges.push([low, ranged ? inner[i + 2]!.codePointAt(0)! : low])
    if (ranged) i += 2
  }
  return c => {
    const code = c.codePointAt(0)!
    const within = ranges.some(([low, high]) => code >= low && code <= high)
    return others ? !within && c !== '/' : within
  }
}

export function hasWildcard(text: string): boolean {
  return /[*?[\\]/.test(text)
}

export function componentMatcher(pattern: string): (name: string) => boolean {
  const matcher = patternMatcher(pattern)
  return name => matcher.matches(name)
}
