/** What RBAC rules allow: compiled to sets once, asked often. */
import type { PolicyRule } from '../../core/types/index.ts'
import type { Attributes } from '../host.ts'

/** A set of names; undefined means "any" (`*`). */
type Names = Set<string> | undefined

export interface CompiledRule {
  source: PolicyRule
  verbs: Names
  groups: Names
  /** `pods`, `pods/log`, and a bare `/scale` for `*` + `/scale`: that sub-resource of everything. */
  resources: Names
  /** Undefined: any name. */
  resourceNames: Names
  /** Exact paths and, with their `*` cut off, prefixes. */
  paths: string[]
  pathPrefixes: string[]
}

export function compileRule(rule: PolicyRule): CompiledRule {
  const urls = rule.nonResourceURLs ?? []
  return {
    source: rule,
    verbs: names(rule.verbs),
    groups: names(rule.apiGroups ?? []),
    resources: names((rule.resources ?? []).map((r) => r.startsWith('*/') ? r.slice(1) : r)),
    resourceNames: rule.resourceNames?.length ? new Set(rule.resourceNames) : undefined,
    paths: urls.filter((u) => !u.endsWith('*')),
    pathPrefixes: urls.filter((u) => u.endsWith('*')).map((u) => u.slice(0, -1)),
  }
}

export function ruleAllows(rule: CompiledRule, a: Attributes): boolean {
  if (rule.verbs !== undefined && !rule.verbs.has(a.verb)) return false
  if (!a.resource) {
    const path = a.path ?? ''
    return rule.paths.includes(path) || rule.pathPrefixes.some((p) => path.startsWith(p))
  }
  if (rule.groups !== undefined && !rule.groups.has(a.group ?? '')) return false
  if (rule.resources !== undefined) {
    const { subresource } = a
    const found = subresource
      ? rule.resources.has(`${a.resource}/${subresource}`) || rule.resources.has(`/${subresource}`)
      : rule.resources.has(a.resource)
    if (!found) return false
  }
  return rule.resourceNames === undefined || rule.resourceNames.has(a.name ?? '')
}

/**
 * The single rights in `wanted` that `held` does not include, as rules of one verb and one resource or path each; empty
 * when the holder may pass them on. This is Kubernetes' escalation check.
 */
export function missingRights(held: readonly CompiledRule[], wanted: readonly PolicyRule[]): PolicyRule[] {
  const missing: PolicyRule[] = []
  for (const rule of wanted) {
    for (const right of singleRights(rule)) if (!held.some((h) => includes(h, right))) missing.push(right)
  }
  return missing
}

function* singleRights(rule: PolicyRule): Generator<PolicyRule> {
  for (const verb of rule.verbs) {
    for (const group of rule.apiGroups ?? []) {
      for (const resource of rule.resources ?? []) {
        if (!rule.resourceNames?.length) yield { verbs: [verb], apiGroups: [group], resources: [resource] }
        for (const name of rule.resourceNames ?? []) yield { verbs: [verb], apiGroups: [group], resources: [resource], resourceNames: [name] }
      }
    }
    for (const url of rule.nonResourceURLs ?? []) yield { verbs: [verb], nonResourceURLs: [url] }
  }
}

function includes(held: CompiledRule, right: PolicyRule): boolean {
  const has = (set: Names, name: string | undefined) => set === undefined || (name !== undefined && set.has(name))
  if (!has(held.verbs, right.verbs[0])) return false
  const url = right.nonResourceURLs?.[0]
  if (url !== undefined) {
    const prefix = url.endsWith('*') ? url.slice(0, -1) : url
    return held.source.nonResourceURLs?.includes(url) === true || held.pathPrefixes.some((p) => prefix.startsWith(p))
  }
  if (!held.source.resources?.length || !has(held.groups, right.apiGroups?.[0])) return false
  const resource = right.resources![0]!
  const slash = resource.indexOf('/')
  const resourceHeld = has(held.resources, resource.startsWith('*/') ? resource.slice(1) : resource)
    || (slash !== -1 && held.resources!.has(resource.slice(slash)))
  if (!resourceHeld) return false
  return held.resourceNames === undefined || (right.resourceNames !== undefined && held.resourceNames.has(right.resourceNames[0]!))
}

function names(list: readonly string[]): Names {
  return list.includes('*') ? undefined : new Set(list)
}
