/** .dockerignore: which paths of a context are left out. The last line that matches decides; a match covers all below it. */
import { hasWildcard, patternMatcher } from './glob.ts'

/** Takes the file's text; the result says whether a path relative to the context is left out. */
export function parseDockerignore(text: string): (path: string) => boolean {
  const rules: { covers: (path: string) => boolean; exclude: boolean }[] = []
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
    rules.push({ covers: coverage(parts.join('/')), exclude })
  }
  if (rules.length === 0) return () => false
  return path => {
    let out = false
    for (const r of rules) if (r.exclude !== out && r.covers(path)) out = r.exclude
    return out
  }
}

/** Whether a pattern matches a path, or a directory above it. */
function coverage(pattern: string): (path: string) => boolean {
  if (!hasWildcard(pattern)) return path => path.startsWith(pattern) && (path.length === pattern.length || path[pattern.length] === '/')
  const matcher = patternMatcher(pattern)
  return path => {
    const characters = [...path]
    return matcher.ends(characters).some(end => end === characters.length || characters[end] === '/')
  }
}
