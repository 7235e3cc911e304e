/**
 * Role-based access control. Bindings and roles are watched; what a user may do is worked out once, at its first request
 * after any of them changed, so that a decision afterwards is a few set look-ups.
 */
import type { Client, Informer } from '../../core/client.ts'
import { clusterRoleBindings, clusterRoles, roleBindings, roles } from '../../core/kinds.ts'
import { labelSelectorOf } from '../../core/selectors.ts'
import type {
  ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
} from '../../core/types/index.ts'
import type { Attributes, Decision, User } from '../host.ts'
import { NodeRestriction } from './node-restriction.ts'
import { compileRule, ruleAllows } from './rules.ts'
import type { CompiledRule } from './rules.ts'

export const MASTERS = 'system:masters'
/** Users whose rights are kept worked out. */
const MAX_CACHED_USERS = 10_000
const ALLOWED: Decision = { allowed: true }

/** A user's rights: everywhere, and by namespace. */
interface Rights {
  generation: number
  cluster: CompiledRule[]
  byNamespace: Map<string, CompiledRule[]>
}

export class Authorizer {
  readonly #roles: Informer<Role>
  readonly #clusterRoles: Informer<ClusterRole>
  readonly #roleBindings: Informer<RoleBinding>
  readonly #clusterRoleBindings: Informer<ClusterRoleBinding>
  /** Each user's rights by name and groups; the objects of requests find theirs without building that key. */
  readonly #rights = new Map<string, Rights>()
  #rightsOfUser = new WeakMap<User, Rights>()
  /** Raised by every change of a role or binding: older rights are worked out anew. */
  #generation = 0
  readonly #compiled = new WeakMap<PolicyRule, CompiledRule>()
  readonly nodes: NodeRestriction
  /** Resolves when every role and binding is known; refusals before that may be wrong. */
  readonly ready: Promise<void>

  constructor(client: Client) {
    const subject = (b: RoleBinding | ClusterRoleBinding) => (b.subjects ?? []).map((s) => subjectKey(s, b.metadata.namespace))
    const indexes = { subject }
    this.#roles = client.informer(roles)
    this.#clusterRoles = client.informer(clusterRoles)
    this.#roleBindings = client.informer(roleBindings, { indexes })
    this.#clusterRoleBindings = client.informer(clusterRoleBindings, { indexes })
    this.nodes = new NodeRestriction(client)
    const all = [this.#roles, this.#clusterRoles, this.#roleBindings, this.#clusterRoleBindings]
    for (const informer of all) informer.on(() => { this.#generation++ })
    this.ready = Promise.all([...all.map((i) => i.synced), this.nodes.ready]).then(() => {})
  }

  authorize(user: User, attributes: Attributes): Decision {
    if (user.groups.includes(MASTERS)) return ALLOWED
    const rights = this.#rightsOf(user)
    const { namespace } = attributes
    const allowed = rights.cluster.some((r) => ruleAllows(r, attributes))
      || (namespace ? rights.byNamespace.get(namespace) ?? [] : []).some((r) => ruleAllows(r, attributes))
    if (!allowed) return { allowed: false }
    const reason = this.nodes.refusal(user, attributes)
    return reason === undefined ? ALLOWED : { allowed: false, reason }
  }

  /** Every rule that holds for the user in the namespace (everywhere, when it is empty). */
  rulesFor(user: User, namespace: string): CompiledRule[] {
    if (user.groups.includes(MASTERS)) return ALL_RULES
    const rights = this.#rightsOf(user)
    return [...rights.cluster, ...(rights.byNamespace.get(namespace) ?? [])]
  }

  /** The rules a binding's role stands for; undefined if there is no such role. `namespace` is the binding's. */
  rulesOfRole(ref: RoleRef, namespace: string | undefined): PolicyRule[] | undefined {
    if (ref.kind === 'Role') {
      const role = this.#roles.get(`${namespace}/${ref.name}`)
      return role && (role.rules ?? [])
    }
    const role = this.#clusterRoles.get(ref.name)
    return role && this.#rulesOfClusterRole(role)
  }

  stop(): void {
    for (const informer of [this.#roles, this.#clusterRoles, this.#roleBindings, this.#clusterRoleBindings]) informer.stop()
    this.nodes.stop()
  }

  #rightsOf(user: User): Rights {
    const known = this.#rightsOfUser.get(user)
    if (known?.generation === this.#generation) return known
    const key = JSON.stringify([user.name, ...user.groups])
    let rights = this.#rights.get(key)
    if (rights?.generation !== this.#generation) {
      rights = this.#workOut(user)
      this.#rights.delete(key)
      this.#rights.set(key, rights)
      if (this.#rights.size > MAX_CACHED_USERS) this.#rights.delete(this.#rights.keys().next().value!)
    }
    this.#rightsOfUser.set(user, rights)
    return rights
  }

  #workOut(user: User): Rights {
    const rights: Rights = { generation: this.#generation, cluster: [], byNamespace: new Map() }
    for (const subject of [`User:${user.name}`, ...new Set(user.groups.map((g) => `Group:${g}`))]) {
      for (const binding of this.#clusterRoleBindings.byIndex('subject', subject)) {
        rights.cluster.push(...this.#compiledRules(binding.roleRef, undefined))
      }
      for (const binding of this.#roleBindings.byIndex('subject', subject)) {
        const namespace = binding.metadata.namespace!
        let rules = rights.byNamespace.get(namespace)
        if (!rules) rights.byNamespace.set(namespace, rules = [])
        rules.push(...this.#compiledRules(binding.roleRef, namespace))
      }
    }
    return rights
  }

  #compiledRules(ref: RoleRef, namespace: string | undefined): CompiledRule[] {
    return (this.rulesOfRole(ref, namespace) ?? []).map((rule) => {
      let compiled = this.#compiled.get(rule)
      if (!compiled) this.#compiled.set(rule, compiled = compileRule(rule))
      return compiled
    })
  }

  /** Its own rules, and those of the roles it aggregates by label. */
  #rulesOfClusterRole(role: ClusterRole): PolicyRule[] {
    const own = role.rules ?? []
    const selectors = role.aggregationRule?.clusterRoleSelectors
    if (!selectors?.length) return own
    const matchers = selectors.map((s) => labelSelectorOf(s))
    const rules = [...own]
    for (const other of this.#clusterRoles.list()) {
      if (other !== role && matchers.some((m) => m(other.metadata.labels))) rules.push(...(other.rules ?? []))
    }
    return rules
  }
}

const ALL_RULES = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
].map(compileRule)

/** Service accounts are users by another name. */
function subjectKey(subject: Subject, bindingNamespace: string | undefined): string {
  return subject.kind === 'ServiceAccount'
    ? `User:${serviceAccountUser(subject.namespace ?? bindingNamespace ?? '', subject.name)}`
    : `${subject.kind}:${subject.name}`
}

export function serviceAccountUser(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`
}
