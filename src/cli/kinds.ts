/** Finds the kind a user names: plural, singular, short name or Kind, with or without its group. */
import { composeProjects, coreKinds, type Kind } from '../core/kinds.ts'
import { UserError } from './output.ts'

const all: readonly Kind[] = [...coreKinds, composeProjects]

export function kindNamed(text: string): Kind {
  const [name, ...group] = text.toLowerCase().split('.')
  const found = all.find(k => [k.plural, k.singular, k.kind.toLowerCase(), ...(k.shortNames ?? [])].includes(name!)
    && (group.length === 0 || k.group === group.join('.')))
  if (found === undefined) {
    throw new UserError(`there is no kind "${text}"; gantry knows: ${all.map(k => k.plural).join(', ')}`, 2)
  }
  return found
}

export function kindOf(object: { apiVersion: string; kind: string }): Kind {
  const found = all.find(k => k.apiVersion === object.apiVersion && k.kind === object.kind)
  if (found === undefined) throw new UserError(`no kind ${object.kind} in ${object.apiVersion} is served here`)
  return found
}

/** `pod/web-1` or `web-1`: the kind, default pod, and the name. */
export function kindAndName(text: string, fallback: Kind): { kind: Kind; name: string } {
  const slash = text.indexOf('/')
  return slash === -1 ? { kind: fallback, name: text } : { kind: kindNamed(text.slice(0, slash)), name: text.slice(slash + 1) }
}
