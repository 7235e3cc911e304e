/** Go's path patterns (`*`, `?`, `[a-z]`, `\x`), one path component at a time, and `**` as .dockerignore has it. */
import { EngineError } from '../engine.ts'

/** A regular expression for one component, or for a whole path where `**` spans components. */
export function patternSource(pattern: string): string {
  let out = ''
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]!
    if (c === '*') {
      if (pattern[i + 1] !== '*') {
        out += '[^/]*'
        continue
      }
      while (pattern[i + 1] === '*') i++
      if (pattern[i + 1] === '/') {
        i++
        out += '(?:.*/)?'
      } else {
        out += '.*'
      }
    } else if (c === '?') {
      out += '[^/]'
    } else if (c === '[') {
      const end = pattern.indexOf(']', i + 2)
      if (end < 0) throw new EngineError('invalid', `syntax error in pattern "${pattern}": "[" without "]"`)
      const inner = pattern.slice(i + 1, end).replace(/\\/g, '\\\\').replace(/[[\]]/g, '\\$&')
      out += `[${inner.startsWith('^') ? `^/${inner.slice(1)}` : inner}]`
      i = end
    } else if (c === '\\' && i + 1 < pattern.length) {
      out += pattern[++i]!.replace(/[\\^$.|?*+()[\]{}]/, '\\$&')
    } else {
      out += c.replace(/[\\^$.|?*+()[\]{}]/, '\\$&')
    }
  }
  return out
}

export function hasWildcard(text: string): boolean {
  return /[*?[\\]/.test(text)
}

export function componentMatcher(pattern: string): (name: string) => boolean {
  const r = new RegExp(`^${patternSource(pattern)}$`)
  return name => r.test(name)
}
