/** Authentication and authorisation as the server starts them; begin here. */
import { readFileSync } from 'node:fs'
import type { Client } from '../../core/client.ts'
import type { ServerConfig } from '../../machines/layout.ts'
import { Authenticator } from './authenticator.ts'
import { Authorizer } from './authorizer.ts'
import { ServiceAccountTokens } from './service-account-tokens.ts'

export { admitObject } from './admission.ts'
export { bootstrapRbac } from './bootstrap.ts'
export { forbidden } from './forbidden.ts'
export { mountReviews } from './reviews.ts'

export interface Auth {
  authenticator: Authenticator
  authorizer: Authorizer
  tokens: ServiceAccountTokens
  /** Resolves when roles, bindings and Pods are read: requests of anyone but `system:masters` are refused before. */
  ready: Promise<void>
  stop(): void
}

/** `client` is the in-process one. Throws when a file of the configuration cannot be read or used. */
export function createAuth(config: ServerConfig, client: Client): Auth {
  const tokens = new ServiceAccountTokens(readFileSync(config.caKey, 'utf8'), config.cluster.clusterDomain)
  const authorizer = new Authorizer(client)
  const authenticator = new Authenticator({
    tokensFile: config.tokens, tokens, client, authorize: (user, attributes) => authorizer.authorize(user, attributes),
  })
  return { authenticator, authorizer, tokens, ready: authorizer.ready, stop: () => authorizer.stop() }
}
