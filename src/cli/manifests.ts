/** Objects in files: YAML or JSON, several documents, Lists, and the 2014 form of the talk's slides. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { ApiObject } from '../core/types/index.ts'
import { convertV1beta1 } from '../dialects/kubernetes-v1beta1/convert.ts'
import { UserError } from './output.ts'

/** Reads `-` (standard input), a file, or all manifests of a folder. Bad text names its file and line. */
export function readManifests(path: string): ApiObject[] {
  if (path === '-') return parseManifests(readFileSync(0, 'utf8'), 'standard input')
  let files
  try {
    files = statSync(path).isDirectory()
      ? readdirSync(path).filter(f => /\.(ya?ml|json)$/.test(f)).sort().map(f => join(path, f))
      : [path]
  } catch {
    throw new UserError(`there is no file or folder ${path}`)
  }
  return files.flatMap(f => parseManifests(readFileSync(f, 'utf8'), f))
}

export function parseManifests(text: string, where: string): ApiObject[] {
  return parseAllDocuments(text).flatMap(d => {
    if (d.errors[0] !== undefined) throw new UserError(`${where}: ${d.errors[0].message}`)
    const value: unknown = d.toJS({ maxAliasCount: 1000 })
    return value == null ? [] : expand(value, where)
  })
}

function expand(value: unknown, where: string): ApiObject[] {
  const o = value as Partial<ApiObject> & { items?: unknown[] }
  if (typeof o !== 'object' || typeof o.kind !== 'string' || typeof o.apiVersion !== 'string') {
    throw new UserError(`${where}: an object needs apiVersion and kind`)
  }
  if (o.apiVersion === 'v1beta1') return convertV1beta1(o as never)
  if (o.kind === 'List' && Array.isArray(o.items)) return o.items.flatMap(i => expand(i, where))
  if (typeof o.metadata?.name !== 'string') throw new UserError(`${where}: ${o.kind} has no metadata.name`)
  return [o as ApiObject]
}
