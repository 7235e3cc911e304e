/** JSON Patch, RFC 6902, with JSON pointers of RFC 6901. */
import { clone, equal, isRecord } from '../clone.ts'
import { ApiError, badRequest } from '../errors.ts'

const MAX_OPERATIONS = 10_000

function refused(why: string): ApiError {
  return new ApiError('Invalid', `the server rejected our request due to an error in our request: ${why}`)
}

function parsePointer(pointer: unknown, i: number): string[] {
  if (typeof pointer !== 'string' || (pointer !== '' && !pointer.startsWith('/'))) {
    throw badRequest(`patch operation ${i}: a path must be a JSON pointer such as /metadata/labels`)
  }
  return pointer === '' ? [] : pointer.slice(1).split('/').map(s => s.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function arrayIndex(text: string, limit: number, pointer: string): number {
  if (!/^(0|[1-9]\d{0,9})$/.test(text) || Number(text) > limit) {
    throw refused(`invalid index ${JSON.stringify(text)} in ${pointer}`)
  }
  return Number(text)
}

function textOf(path: readonly string[]): string { return `/${path.join('/')}` }

function get(root: unknown, path: readonly string[]): unknown {
  let at = root
  for (const name of path) {
    if (Array.isArray(at)) at = at[arrayIndex(name, at.length - 1, textOf(path))] as unknown
    else if (isRecord(at) && Object.hasOwn(at, name)) at = at[name]
    else throw refused(`nonexistent path ${textOf(path)}`)
  }
  return at
}

function add(root: unknown, path: readonly string[], value: unknown): unknown {
  const name = path.at(-1)
  if (name === undefined) return value
  const parent = get(root, path.slice(0, -1))
  if (Array.isArray(parent)) parent.splice(name === '-' ? parent.length : arrayIndex(name, parent.length, textOf(path)), 0, value)
  else if (isRecord(parent)) setMember(parent, name, value)
  else throw refused(`nothing can be added at ${textOf(path)}`)
  return root
}

/** `parent[name] = value` would set the prototype for `__proto__`. */
function setMember(parent: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(parent, name, { value, enumerable: true, configurable: true, writable: true })
}

function remove(root: unknown, path: readonly string[]): unknown {
  const name = path.at(-1)
  if (name === undefined) throw refused('the whole document cannot be removed')
  get(root, path)
  const parent = get(root, path.slice(0, -1))
  if (Array.isArray(parent)) parent.splice(arrayIndex(name, parent.length - 1, textOf(path)), 1)
  else delete (parent as Record<string, unknown>)[name]
  return root
}

/**
 * Applies the operations to a copy of `document`. All or none: throws BadRequest for a malformed patch, RequestEntityTooLarge
 * beyond 10 000 operations, and Invalid where a path does not exist or a `test` fails.
 */
export function jsonPatch(document: unknown, operations: unknown): unknown {
  if (!Array.isArray(operations)) throw badRequest('a JSON patch must be an array of operations')
  if (operations.length > MAX_OPERATIONS) {
    throw new ApiError('RequestEntityTooLarge',
      `The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${operations.length}`)
  }
  let root = clone(document)
  operations.forEach((operation: unknown, i) => {
    if (!isRecord(operation)) throw badRequest(`patch operation ${i} must be an object`)
    root = applyOne(root, operation, i)
  })
  return root
}

function applyOne(root: unknown, operation: Record<string, unknown>, i: number): unknown {
  const path = parsePointer(operation['path'], i)
  const value = (): unknown => {
    if (!Object.hasOwn(operation, 'value')) throw badRequest(`patch operation ${i} lacks a value`)
    return clone(operation['value'])
  }
  switch (operation['op']) {
    case 'add': return add(root, path, value())
    case 'remove': return remove(root, path)
    case 'replace': {
      if (path.length === 0) return value()
      get(root, path)
      const parent = get(root, path.slice(0, -1)) as Record<string, unknown>
      if (Array.isArray(parent)) parent[Number(path.at(-1))] = value()
      else setMember(parent, path.at(-1) as string, value())
      return root
    }
    case 'test':
      if (!equal(path.length === 0 ? root : getOrUndefined(root, path), value())) {
        throw refused(`testing path ${textOf(path)} failed: it has another value`)
      }
      return root
    case 'move': {
      const from = parsePointer(operation['from'], i)
      if (from.length < path.length && from.every((name, j) => name === path[j])) {
        throw refused(`${textOf(from)} cannot be moved into itself`)
      }
      const moved = get(root, from)
      return add(remove(root, from), path, moved)
    }
    case 'copy': return add(root, path, clone(get(root, parsePointer(operation['from'], i))))
    default: throw badRequest(`patch operation ${i}: unknown op ${JSON.stringify(operation['op'])}`)
  }
}

/** `test` of an absent member compares with null, as Kubernetes' library does. */
function getOrUndefined(root: unknown, path: readonly string[]): unknown {
  const parent = get(root, path.slice(0, -1))
  const name = path.at(-1) as string
  if (isRecord(parent)) return Object.hasOwn(parent, name) ? parent[name] : null
  return get(root, path)
}
