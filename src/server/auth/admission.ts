/** What authorisation can only judge with the object in hand: nodes' own objects, and passing on rights one does not have. */
import { equal } from '../../core/clone.ts'
import { ApiError } from '../../core/errors.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ApiObject, ClusterRole, PolicyRule, RoleBinding } from '../../core/types/index.ts'
import type { User } from '../host.ts'
import { MASTERS } from './authorizer.ts'
import type { Authorizer } from './authorizer.ts'
import { missingRights } from './rules.ts'

const RBAC_GROUP = 'rbac.authorization.k8s.io'

/**
 * To be called for every create and update (patches too) before it is stored, with the object as it would be stored.
 * Throws ApiError Forbidden. Costs nothing for kinds it has no say in.
 */
export function admitObject(
  authorizer: Authorizer, user: User, kind: Kind, object: ApiObject, old: ApiObject | undefined,
): void {
  if (user.groups.includes(MASTERS)) return
  const refusal = authorizer.nodes.objectRefusal(user, kind.plural, object, old)
  if (refusal !== undefined) throw refused(kind, object, refusal)
  if (kind.group !== RBAC_GROUP || (old !== undefined && equal(grants(object), grants(old)))) return
  if (kind.plural === 'roles' || kind.plural === 'clusterroles') admitRole(authorizer, user, kind, object as ClusterRole)
  else admitBinding(authorizer, user, kind, object as RoleBinding)
}

/** What of a role or binding gives rights to someone. */
function grants(object: ApiObject): unknown {
  const { rules, aggregationRule, roleRef, subjects } = object as Partial<ClusterRole & RoleBinding>
  return [rules ?? [], aggregationRule ?? null, roleRef ?? null, subjects ?? []]
}

function admitRole(authorizer: Authorizer, user: User, kind: Kind, role: ClusterRole): void {
  const { namespace, name } = role.metadata
  const attributes = { verb: 'escalate', group: RBAC_GROUP, resource: kind.plural, name, ...(namespace && { namespace }) }
  if (authorizer.authorize(user, attributes).allowed) return
  const rules = role.aggregationRule === undefined ? role.rules ?? [] : [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }]
  refuseMissing(authorizer, user, kind, role, rules)
}

function admitBinding(authorizer: Authorizer, user: User, kind: Kind, binding: RoleBinding): void {
  const { namespace } = binding.metadata
  const { roleRef } = binding
  const attributes = {
    verb: 'bind', group: RBAC_GROUP, resource: roleRef.kind === 'Role' ? 'roles' : 'clusterroles', name: roleRef.name,
    ...(namespace && { namespace }),
  }
  if (authorizer.authorize(user, attributes).allowed) return
  const rules = authorizer.rulesOfRole(roleRef, namespace)
  if (rules === undefined) throw refused(kind, binding, `${roleRef.kind} "${roleRef.name}" not found`)
  refuseMissing(authorizer, user, kind, binding, rules)
}

function refuseMissing(
  authorizer: Authorizer, user: User, kind: Kind, object: ApiObject, rules: readonly PolicyRule[],
): void {
  const missing = missingRights(authorizer.rulesFor(user, object.metadata.namespace ?? ''), rules)
  if (missing.length === 0) return
  const shown = missing.slice(0, 10).map((m) => JSON.stringify(m)).join(', ')
  throw refused(kind, object, `user ${JSON.stringify(user.name)} (groups=${JSON.stringify(user.groups)}) is attempting to grant RBAC `
    + `permissions not currently held: ${shown}${missing.length > 10 ? ` and ${missing.length - 10} more` : ''}`)
}

function refused(kind: Kind, object: ApiObject, why: string): ApiError {
  const subject = kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`
  return new ApiError('Forbidden', `${subject} ${JSON.stringify(object.metadata.name)} is forbidden: ${why}`, {
    name: object.metadata.name, kind: kind.plural, ...(kind.group !== '' && { group: kind.group }),
  })
}
