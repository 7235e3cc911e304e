/** .dockerignore: which paths of a context are left out. The last line that matches decides; a match covers all below it. */
import { patternSource } from './glob.ts'

/** Takes the file's text; the result says whether a path relative to the context is left out. */
export function parseDockerignore(text: string): (path: string) => boolean {
  const rules: { pattern: RegExp; exclude: boolean }[] = []
  for (const raw of text.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    if (raw.startsWith('#')) continue
    let line = raw.trim()
    if (line === '') continue
    const exclude = !line.startsWith('!')
    if (!exclude) line = line.slice(1).trim()
    const parts: string[] = []
    for (const part of line.split('/')) {
      if (part === '' || part === '.') continue
      if (part === '..') parts.pop()
      else parts.push(part)
    }
    if (parts.length === 0) continue
    rules.push({ pattern: new RegExp(`^${patternSource(parts.join('/'))}(?:/.*)?$`), exclude })
  }
  if (rules.length === 0) return () => false
  return path => {
    let out = false
    for (const r of rules) if (r.exclude !== out && r.pattern.test(path)) out = r.exclude
    return out
  }
}
