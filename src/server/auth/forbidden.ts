/** Kubernetes' words for a refusal. */
import { ApiError } from '../../core/errors.ts'
import type { Attributes, User } from '../host.ts'

/** 403: `pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`. */
export function forbidden(user: User, a: Attributes, reason = ''): ApiError {
  const why = reason === '' ? '' : `: ${reason}`
  if (!a.resource) {
    return new ApiError('Forbidden', `forbidden: User ${quoted(user.name)} cannot ${a.verb} path ${quoted(a.path ?? '')}${why}`, {})
  }
  const group = a.group ?? ''
  const resource = a.subresource ? `${a.resource}/${a.subresource}` : a.resource
  const subject = `${group === '' ? a.resource : `${a.resource}.${group}`}${a.name ? ` ${quoted(a.name)}` : ''}`
  const scope = a.namespace ? `in the namespace ${quoted(a.namespace)}` : 'at the cluster scope'
  return new ApiError(
    'Forbidden',
    `${subject} is forbidden: User ${quoted(user.name)} cannot ${a.verb} resource ${quoted(resource)} in API group ${quoted(group)} ${scope}${why}`,
    { ...(a.name && { name: a.name }), ...(group !== '' && { group }), kind: a.resource },
  )
}

function quoted(text: string): string { return JSON.stringify(text) }
