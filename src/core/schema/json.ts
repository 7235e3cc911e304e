/** What JSON.parse does not tell: members given twice (it keeps the last) and nesting deep enough to hurt. */

/** Deeper nesting is refused: no kind has it, and recursive code must not meet it. */
export const MAX_DEPTH = 200
const MAX_REPORTED = 20

interface Level { keys: Set<string> | undefined; path: string; name: string; index: number }

/**
 * Paths (`spec.containers[0].image`) of members that `text`, which must be valid JSON, holds twice in one object.
 * Throws RangeError beyond {@link MAX_DEPTH}.
 */
export function duplicateFields(text: string): string[] {
  const found: string[] = []
  const stack: Level[] = []
  let level: Level = { keys: undefined, path: '', name: '', index: 0 }
  let expectKey = false
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: { // "
        const start = i + 1
        let end = text.indexOf('"', start)
        while (isEscaped(text, end)) end = text.indexOf('"', end + 1)
        if (expectKey) {
          let key = text.slice(start, end)
          if (key.includes('\\')) key = JSON.parse(`"${key}"`) as string
          const keys = level.keys as Set<string>
          if (keys.has(key)) {
            if (found.length < MAX_REPORTED) found.push(join(level.path, key))
          } else keys.add(key)
          level.name = key
          expectKey = false
        }
        i = end
        break
      }
      case 0x7b: case 0x5b: { // { [
        if (stack.length >= MAX_DEPTH) throw new RangeError(`exceeded max depth of ${MAX_DEPTH}`)
        const isObject = text.charCodeAt(i) === 0x7b
        const path = stack.length === 0 ? '' : level.keys ? join(level.path, level.name) : `${level.path}[${level.index}]`
        stack.push(level)
        level = { keys: isObject ? new Set() : undefined, path, name: '', index: 0 }
        expectKey = isObject
        break
      }
      case 0x7d: case 0x5d: // } ]
        level = stack.pop() as Level
        expectKey = false
        break
      case 0x2c: // ,
        if (level.keys) expectKey = true
        else level.index++
        break
    }
  }
  return found
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0
  for (let i = at - 1; text.charCodeAt(i) === 0x5c; i--) backslashes++
  return backslashes % 2 === 1
}

function join(path: string, name: string): string { return path === '' ? name : `${path}.${name}` }
