/** Desired contents of the table's sets and maps, and the commands that lead from one state to another. */

/** Set or map name → key → value; the empty string for sets. */
export type Elements = Map<string, Map<string, string>>

export function put(elements: Elements, collection: string, key: string, value = ''): void {
  let entries = elements.get(collection)
  if (entries === undefined) elements.set(collection, (entries = new Map()))
  entries.set(key, value)
}

// A command line longer than this is slow to parse and hard to read in an error.
const maxElementsPerCommand = 500

/** nft commands, one a line; within one transaction readers see all of them or none. Empty if nothing differs. */
export function elementChanges(table: string, from: Elements, to: Elements): string[] {
  const deleted: string[] = []
  const added: string[] = []
  for (const [collection, before] of from) {
    const after = to.get(collection)
    const keys: string[] = []
    for (const [key, value] of before) if (after?.get(key) !== value) keys.push(key)
    deleted.push(...commands('delete', table, collection, keys))
  }
  for (const [collection, after] of to) {
    const before = from.get(collection)
    const entries: string[] = []
    for (const [key, value] of after) {
      if (before?.get(key) !== value) entries.push(value === '' ? key : `${key} : ${value}`)
    }
    added.push(...commands('add', table, collection, entries))
  }
  return [...deleted, ...added]
}

/** Replaces whatever the collections hold. */
export function elementReplacement(
  table: string, collections: readonly string[], to: Elements, kindOf: (name: string) => 'set' | 'map',
): string[] {
  return [
    ...collections.map((name) => `flush ${kindOf(name)} ip ${table} ${name}`),
    ...elementChanges(table, new Map(), to),
  ]
}

function commands(verb: 'add' | 'delete', table: string, collection: string, elements: string[]): string[] {
  const lines: string[] = []
  for (let at = 0; at < elements.length; at += maxElementsPerCommand) {
    lines.push(`${verb} element ip ${table} ${collection} { ${elements.slice(at, at + maxElementsPerCommand).join(', ')} }`)
  }
  return lines
}
