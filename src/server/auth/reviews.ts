/** Resources that answer questions about identity and rights and are never stored, and ServiceAccounts' tokens. */
import { ApiError, badRequest, notFound } from '../../core/errors.ts'
import { defineKind, nodes, pods, secrets, serviceAccounts } from '../../core/kinds.ts'
import type { Kind } from '../../core/kinds.ts'
import type { ApiObject, PolicyRule } from '../../core/types/index.ts'
import type { Attributes, Context, ServerHost, User } from '../host.ts'
import type { Authenticator } from './authenticator.ts'
import type { Authorizer } from './authorizer.ts'
import { forbidden } from './forbidden.ts'
import { isMirror, nodeOf } from './node-restriction.ts'
import type { ServiceAccountTokens } from './service-account-tokens.ts'

const AUTHORIZATION = { group: 'authorization.k8s.io', version: 'v1' }
const AUTHENTICATION = { group: 'authentication.k8s.io', version: 'v1' }
const MIN_TOKEN_S = 600
const DEFAULT_TOKEN_S = 3600
/** Longer ones are cut, as large clusters do: a token cannot be called back. */
const MAX_TOKEN_S = 366 * 86_400

interface ResourceAttributes {
  namespace?: string; verb?: string; group?: string; version?: string; resource?: string; subresource?: string; name?: string
}
interface AccessSpec {
  resourceAttributes?: ResourceAttributes
  nonResourceAttributes?: { path?: string; verb?: string }
}
interface SubjectAccessSpec extends AccessSpec { user?: string; groups?: string[]; uid?: string; extra?: Record<string, string[]> }
interface AccessReview extends ApiObject {
  spec?: SubjectAccessSpec
  status?: { allowed: boolean; denied?: boolean; reason?: string }
}
interface RulesReview extends ApiObject { spec?: { namespace?: string }; status?: unknown }
interface TokenReview extends ApiObject { spec?: { token?: string; audiences?: string[] }; status?: unknown }
interface TokenRequest extends ApiObject {
  spec?: { audiences?: string[]; expirationSeconds?: number; boundObjectRef?: { kind?: string; apiVersion?: string; name?: string; uid?: string } }
  status?: { token: string; expirationTimestamp: string }
}

export interface ReviewParts { authorizer: Authorizer; authenticator: Authenticator; tokens: ServiceAccountTokens }

export function mountReviews(host: ServerHost, { authorizer, authenticator, tokens }: ReviewParts): void {
  const virtual = <T extends ApiObject>(
    names: { group: string; version: string }, kind: string, namespaced: boolean, create: (object: T, context: Context) => T | Promise<T>,
  ) => host.addVirtual({
    kind: defineKind({ ...names, kind, plural: `${kind.toLowerCase()}s`, namespaced }),
    create: async (object, context) => await create(object as T, context),
  })
  const review = (user: User, spec: AccessSpec | undefined) => decide(authorizer, user, attributesOf(spec))

  virtual<AccessReview>(AUTHORIZATION, 'SelfSubjectAccessReview', false, (object, { user }) => ({ ...object, status: review(user, object.spec) }))
  virtual<AccessReview>(AUTHORIZATION, 'SubjectAccessReview', false, (object) => ({ ...object, status: review(subjectOf(object), object.spec) }))
  virtual<AccessReview>(AUTHORIZATION, 'LocalSubjectAccessReview', true, (object, { info }) => {
    if (object.spec?.resourceAttributes?.namespace !== info.namespace) throw invalid('LocalSubjectAccessReview', `spec.resourceAttributes.namespace: Invalid value: must be ${JSON.stringify(info.namespace)}`)
    return { ...object, status: review(subjectOf(object), object.spec) }
  })
  virtual<RulesReview>(AUTHORIZATION, 'SelfSubjectRulesReview', false, (object, { user }) => {
    if (!object.spec?.namespace) throw badRequest('no namespace on request')
    const rules = authorizer.rulesFor(user, object.spec.namespace).map((r) => r.source)
    return { ...object, status: rulesStatus(rules) }
  })
  virtual(AUTHENTICATION, 'SelfSubjectReview', false, (object, { user }) => ({ ...object, status: { userInfo: userInfo(user) } }))
  virtual<TokenReview>(AUTHENTICATION, 'TokenReview', false, async (object) => {
    const { token, audiences } = object.spec ?? {}
    if (!token) throw badRequest('token is required for TokenReview in authentication')
    const found = await authenticator.userOfToken(token, audiences)
    return {
      ...object, spec: { ...object.spec, token },
      status: found ? { authenticated: true, user: userInfo(found.user), audiences: found.audiences } : { authenticated: false, user: {}, error: 'invalid bearer token' },
    }
  })

  host.handleSubresource(serviceAccounts, 'token', async (context, res) => {
    if (context.info.verb !== 'create') throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource')
    const request = await host.readObject(context) as TokenRequest | undefined
    host.reply(res, 201, await requestToken(host, authorizer, tokens, context, request))
  })

  // Others that verify our tokens find the key here (OpenID Connect discovery).
  const published = (path: string, body: unknown) => host.handle(path, ({ user, info }, res) => {
    const attributes = { verb: info.verb, path: info.path }
    if (!authorizer.authorize(user, attributes).allowed) throw forbidden(user, attributes)
    host.reply(res, 200, body)
  })
  published('/openid/v1/jwks', tokens.jwks())
  published('/.well-known/openid-configuration', {
    issuer: tokens.issuer, jwks_uri: `${host.config.advertise}/openid/v1/jwks`, response_types_supported: ['id_token'],
    subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'],
  })
}

async function requestToken(
  host: ServerHost, authorizer: Authorizer, tokens: ServiceAccountTokens, { info, user }: Context, request: TokenRequest | undefined,
): Promise<TokenRequest> {
  const { namespace, name } = info
  const account = await host.client.get(serviceAccounts, { namespace, name })
  const { audiences = [], boundObjectRef, expirationSeconds = DEFAULT_TOKEN_S } = request?.spec ?? {}
  if (!Number.isInteger(expirationSeconds) || expirationSeconds < MIN_TOKEN_S) {
    throw invalid('TokenRequest', `spec.expirationSeconds: Invalid value: ${expirationSeconds}: may not specify a duration less than 10 minutes`)
  }
  const bound = await boundObject(host, namespace, name, boundObjectRef)
  const node = nodeOf(user)
  const runs = node !== undefined && bound.pod !== undefined ? authorizer.nodes.podOn(node, namespace, bound.pod.name) : undefined
  if (node !== undefined && (runs === undefined || isMirror(runs))) {
    throw new ApiError('Forbidden', `serviceaccounts ${JSON.stringify(name)} is forbidden: node "${node}" may request tokens only for pods that are bound to it`)
  }
  const lifetimeS = Math.min(expirationSeconds, MAX_TOKEN_S)
  const issued = await tokens.issue({
    namespace, name, uid: account.metadata.uid!, audiences: audiences.length > 0 ? audiences : [tokens.issuer], expirationSeconds: lifetimeS, ...bound,
  })
  return {
    apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest',
    metadata: { name, namespace, creationTimestamp: new Date().toISOString().replace(/\.\d+Z$/, 'Z') },
    spec: { ...request?.spec, audiences: audiences.length > 0 ? audiences : [tokens.issuer], expirationSeconds: lifetimeS },
    status: { token: issued.token, expirationTimestamp: new Date(issued.expiresAtMs).toISOString().replace(/\.\d+Z$/, 'Z') },
  }
}

/** What a token's life hangs on: it must exist, be the one meant, and (a Pod) run as that account. */
async function boundObject(
  host: ServerHost, namespace: string, account: string, ref: NonNullable<TokenRequest['spec']>['boundObjectRef'],
): Promise<{ pod?: { name: string; uid: string }; node?: { name: string; uid?: string }; secret?: { name: string; uid: string } }> {
  if (ref === undefined) return {}
  const name = ref.name ?? ''
  const found = async <T extends ApiObject>(kind: Kind<T>, where: string | undefined): Promise<T> => {
    if (name === '') throw notFound(kind, name)
    const object = await host.client.get(kind, { namespace: where, name })
    const { uid } = object.metadata
    if (ref.uid && ref.uid !== uid) throw new ApiError('Conflict', `the UID in the bound object reference (${ref.uid}) does not match the UID in record (${uid})`)
    return object
  }
  if (ref.kind === 'Pod') {
    const pod = await found(pods, namespace)
    if ((pod.spec.serviceAccountName || 'default') !== account) {
      throw invalid('TokenRequest', `spec.boundObjectRef: Invalid value: pod "${name}" runs as service account "${pod.spec.serviceAccountName || 'default'}"`)
    }
    return { pod: { name, uid: pod.metadata.uid! }, ...(pod.spec.nodeName && { node: { name: pod.spec.nodeName } }) }
  }
  if (ref.kind === 'Secret') return { secret: { name, uid: (await found(secrets, namespace)).metadata.uid! } }
  if (ref.kind === 'Node') return { node: { name, uid: (await found(nodes, undefined)).metadata.uid! } }
  throw badRequest(`cannot bind token for serviceaccount "${account}" to object of kind "${ref.kind}": one of Pod, Secret, Node is needed`)
}

function decide(authorizer: Authorizer, user: User, attributes: Attributes): NonNullable<AccessReview['status']> {
  const { allowed, reason } = authorizer.authorize(user, attributes)
  return { allowed, ...(reason !== undefined && { reason }) }
}

function attributesOf(spec: AccessSpec | undefined): Attributes {
  const { resourceAttributes: r, nonResourceAttributes: n } = spec ?? {}
  if ((r === undefined) === (n === undefined)) throw badRequest('exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be specified')
  return r !== undefined
    ? { ...r, verb: r.verb ?? '', resource: r.resource || '*' }
    : { verb: n!.verb ?? '', path: n!.path ?? '' }
}

function subjectOf(review: AccessReview): User {
  const { user, groups = [], uid, extra } = review.spec ?? {}
  if (!user && groups.length === 0) throw invalid(review.kind, 'spec.user: Invalid value: "": at least one of user or group must be specified')
  return { name: user ?? '', groups, ...(uid !== undefined && { uid }), ...(extra !== undefined && { extra }) }
}

function rulesStatus(rules: PolicyRule[]) {
  return {
    resourceRules: rules.filter((r) => r.resources?.length),
    nonResourceRules: rules.filter((r) => r.nonResourceURLs?.length).map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: false,
  }
}

function userInfo(user: User) {
  return { username: user.name, groups: user.groups, ...(user.uid !== undefined && { uid: user.uid }), ...(user.extra && { extra: user.extra }) }
}

function invalid(kind: string, message: string): ApiError { return new ApiError('Invalid', `${kind} "" is invalid: ${message}`) }
