/** Service account tokens for projected volumes, renewed when four fifths of their life are over. */
import type { Client } from '../../core/client.ts'
import { serviceAccounts } from '../../core/kinds.ts'
import type { ApiObject, Pod, ServiceAccount } from '../../core/types/index.ts'

interface TokenRequest extends ApiObject {
  spec: { audiences?: string[]; expirationSeconds?: number; boundObjectRef?: { kind: string; apiVersion: string; name: string; uid?: string } }
  status?: { token: string; expirationTimestamp: string }
}

export interface Token { token: string; renewAtMs: number }

export class Tokens {
  readonly #client: Client
  readonly #known = new Map<string, Token>()

  constructor(client: Client) { this.#client = client }

  /** A token bound to the Pod, from memory while it is fresh. Rejects with ApiError. */
  async get(pod: Pod, audience: string | undefined, expirationSeconds: number, nowMs: number): Promise<Token> {
    const key = `${pod.metadata.uid}/${audience ?? ''}/${expirationSeconds}`
    const known = this.#known.get(key)
    if (known !== undefined && known.renewAtMs > nowMs) return known
    const request: TokenRequest = {
      apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest',
      metadata: { namespace: pod.metadata.namespace, name: pod.spec.serviceAccountName ?? 'default' },
      spec: {
        ...(audience !== undefined && audience !== '' && { audiences: [audience] }), expirationSeconds,
        boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: pod.metadata.name, uid: pod.metadata.uid },
      },
    }
    // A sub-resource of the service account, whose body is another kind's.
    const answer = await this.#client.create(serviceAccounts, request as unknown as ServiceAccount, { subresource: 'token' })
    const { status } = answer as unknown as TokenRequest
    if (status === undefined) throw new Error('the API server answered a token request without a token')
    const lifeMs = Date.parse(status.expirationTimestamp) - nowMs
    const token = { token: status.token, renewAtMs: nowMs + lifeMs * 0.8 }
    this.#known.set(key, token)
    return token
  }

  forget(uid: string): void {
    for (const key of this.#known.keys()) if (key.startsWith(`${uid}/`)) this.#known.delete(key)
  }
}
