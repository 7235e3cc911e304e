/** Label selectors (text and object form) and field selectors, compiled once to a predicate. */
import { badRequest } from './errors.ts'
import type { Kind } from './kinds.ts'
import { labelKey, labelValue } from './names.ts'
import type { ApiObject, LabelSelector } from './types/index.ts'

export type Labels = Readonly<Record<string, string>> | undefined
export type LabelMatcher = (labels: Labels) => boolean

type Test = (labels: Readonly<Record<string, string>>) => boolean

const NONE: Readonly<Record<string, string>> = Object.freeze({})

function all(tests: Test[]): LabelMatcher {
  if (tests.length === 0) return () => true
  if (tests.length === 1) {
    const only = tests[0] as Test
    return labels => only(labels ?? NONE)
  }
  return labels => {
    const l = labels ?? NONE
    for (const test of tests) if (!test(l)) return false
    return true
  }
}

// A label's value is always a string: the type test keeps names inherited from Object.prototype out.
const exists = (key: string): Test => l => typeof l[key] === 'string'
const missing = (key: string): Test => l => typeof l[key] !== 'string'
const equals = (key: string, value: string): Test => l => l[key] === value
const differs = (key: string, value: string): Test => l => l[key] !== value
function oneOf(key: string, values: string[]): Test {
  const set = new Set(values)
  return l => set.has(l[key] as string)
}
function noneOf(key: string, values: string[]): Test {
  const set = new Set(values)
  return l => !set.has(l[key] as string)
}

/** Reads `k=v, k!=v, k in (a,b), k notin (a,b), k, !k`; a comma means AND. Throws BadRequest. */
export function parseLabelSelector(text: string): LabelMatcher {
  const tests: Test[] = []
  const tokens = [...text.matchAll(/\s*(==|!=|=|!|\(|\)|,|[^\s=!(),]+)/gy)].map(m => m[1] as string)
  if (tokens.join('').length !== text.replace(/\s+/g, '').length) throw unparsable(text, 'unexpected character')
  let at = 0
  while (at < tokens.length) {
    let token = tokens[at++] as string
    const negated = token === '!'
    if (negated) token = tokens[at++] ?? ''
    const key = token
    const wrong = labelKey(key)
    if (wrong !== undefined) throw unparsable(text, `invalid label key ${JSON.stringify(key)}: ${wrong}`)
    const operator = tokens[at]
    if (negated || operator === undefined || operator === ',') {
      tests.push(negated ? missing(key) : exists(key))
    } else if (operator === '=' || operator === '==' || operator === '!=') {
      at++
      const next = tokens[at]
      const value = next === undefined || next === ',' ? '' : (at++, next)
      checkValue(text, value)
      tests.push(operator === '!=' ? differs(key, value) : equals(key, value))
    } else if (operator === 'in' || operator === 'notin') {
      at++
      if (tokens[at++] !== '(') throw unparsable(text, `expected '(' after ${operator}`)
      const values: string[] = []
      let value = ''
      for (;;) {
        const t = tokens[at++]
        if (t === undefined) throw unparsable(text, `missing ')'`)
        if (t === ',' || t === ')') {
          checkValue(text, value)
          values.push(value)
          value = ''
          if (t === ')') break
        } else if (value !== '') throw unparsable(text, `found '${t}', expected: ',' or ')'`)
        else value = t
      }
      tests.push(operator === 'in' ? oneOf(key, values) : noneOf(key, values))
    } else {
      throw unparsable(text, `found '${operator}', expected: in, notin, =, ==, !=`)
    }
    if (at < tokens.length) {
      if (tokens[at++] !== ',') throw unparsable(text, `found '${tokens[at - 1]}', expected: ',' or end of selector`)
      if (at === tokens.length) throw unparsable(text, `found '', expected: identifier after ','`)
    }
  }
  return all(tests)
}

function unparsable(text: string, why: string): Error {
  return badRequest(`unable to parse label selector ${JSON.stringify(text.slice(0, 200))}: ${why}`)
}

function checkValue(text: string, value: string): void {
  const wrong = labelValue(value)
  if (wrong !== undefined) throw unparsable(text, `invalid label value ${JSON.stringify(value)}: ${wrong}`)
}

/** A LabelSelector object: an empty one selects everything, an absent one nothing (Kubernetes' rule). */
export function labelSelectorOf(selector: LabelSelector | undefined): LabelMatcher {
  if (selector === undefined) return () => false
  const tests: Test[] = []
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) tests.push(equals(key, value))
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    switch (operator) {
      case 'In': tests.push(oneOf(key, values)); break
      case 'NotIn': tests.push(noneOf(key, values)); break
      case 'Exists': tests.push(exists(key)); break
      case 'DoesNotExist': tests.push(missing(key)); break
      default: throw badRequest(`${JSON.stringify(operator)} is not a valid label selector operator`)
    }
  }
  return all(tests)
}

/** The plain maps of Services and ReplicationControllers; an empty or absent map selects nothing. */
export function labelsMatch(selector: Readonly<Record<string, string>> | undefined, labels: Labels): boolean {
  let some = false
  for (const key in selector) {
    if (labels?.[key] !== selector[key]) return false
    some = true
  }
  return some
}

/** Selector text, as the Scale sub-resource and tables show it; `<none>` is left to the caller. */
export function formatLabelSelector(selector: LabelSelector | undefined): string {
  const parts: string[] = []
  const labels = selector?.matchLabels ?? {}
  for (const key of Object.keys(labels).sort()) parts.push(`${key}=${labels[key]}`)
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    const list = `(${[...values].sort().join(',')})`
    parts.push(operator === 'In' ? `${key} in ${list}` : operator === 'NotIn' ? `${key} notin ${list}` : operator === 'Exists' ? key
      : `!${key}`)
  }
  return parts.join(',')
}

type FieldGetter = (object: never) => string

function path(...names: string[]): FieldGetter {
  return object => {
    let value: unknown = object
    for (const name of names) value = (value as Record<string, unknown> | undefined | null)?.[name]
    return value === undefined || value === null ? '' : String(value)
  }
}

function paths(...dotted: string[]): Record<string, FieldGetter> {
  return Object.fromEntries(dotted.map(d => [d, path(...d.split('.'))]))
}

/** Booleans and numbers that are unset read as their zero value. */
function orElse(dotted: string, zero: string): Record<string, FieldGetter> {
  const get = path(...dotted.split('.'))
  return { [dotted]: o => get(o) || zero }
}

/** The fields Kubernetes lets one select by, besides metadata.name and metadata.namespace. */
const FIELDS: Record<string, Record<string, FieldGetter>> = {
  'v1/Pod': {
    ...paths('spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'spec.serviceAccountName', 'status.phase',
      'status.podIP', 'status.nominatedNodeName'),
    ...orElse('spec.hostNetwork', 'false'),
    'spec.host': path('spec', 'nodeName'),
    'status.podIPs': (o: { status?: { podIPs?: { ip: string }[] } }) => (o.status?.podIPs ?? []).map(p => p.ip).join(','),
  },
  'v1/Node': orElse('spec.unschedulable', 'false'),
  'v1/ReplicationController': orElse('status.replicas', '0'),
  'apps/v1/ReplicaSet': orElse('status.replicas', '0'),
  'v1/Secret': paths('type'),
  'v1/Namespace': paths('status.phase'),
  'v1/Service': paths('spec.clusterIP', 'spec.type'),
  'v1/Event': {
    ...paths('involvedObject.kind', 'involvedObject.namespace', 'involvedObject.name', 'involvedObject.uid',
      'involvedObject.apiVersion', 'involvedObject.resourceVersion', 'involvedObject.fieldPath', 'reason', 'type'),
    reportingComponent: path('reportingComponent'),
    source: (o: { source?: { component?: string }; reportingComponent?: string }) =>
      o.source?.component || o.reportingComponent || '',
  },
}

const META_NAME = path('metadata', 'name')
const META_NAMESPACE = path('metadata', 'namespace')

/** Reads `a=b,c!=d` (also `==`); unknown fields give Kubernetes' `field label not supported`. Throws BadRequest. */
export function parseFieldSelector(kind: Kind, text: string): (object: ApiObject) => boolean {
  const tests: ((object: ApiObject) => boolean)[] = []
  const fields = FIELDS[`${kind.apiVersion}/${kind.kind}`]
  for (const term of splitTerms(text)) {
    if (term.trim() === '') continue
    const m = /^([^=!]+)(==|=|!=)([\s\S]*)$/.exec(term)
    if (!m) throw badRequest(`invalid field selector ${JSON.stringify(term.slice(0, 200))}; can't understand it, expected field=value or field!=value`)
    const field = (m[1] as string).trim()
    const value = unescapeValue(m[3] as string)
    let get = field === 'metadata.name' ? META_NAME : field === 'metadata.namespace' ? META_NAMESPACE : undefined
    if (!get && fields && Object.hasOwn(fields, field)) get = fields[field]
    if (!get) throw badRequest(`field label not supported: ${field}`)
    const read = get as (object: unknown) => string
    tests.push(m[2] === '!=' ? o => read(o) !== value : o => read(o) === value)
  }
  return tests.length === 1 ? tests[0] as (o: ApiObject) => boolean : o => {
    for (const test of tests) if (!test(o)) return false
    return true
  }
}

/** Splits at commas that are not escaped with a backslash. */
function splitTerms(text: string): string[] {
  return text.split(/(?<!(?<!\\)(?:\\\\)*\\),/)
}

function unescapeValue(value: string): string {
  if (/(^|[^\\])(\\\\)*\\($|[^\\,=])/.test(value)) throw badRequest(`invalid escape in field selector value ${JSON.stringify(value.slice(0, 200))}`)
  return value.replace(/\\([\\,=])/g, '$1')
}
