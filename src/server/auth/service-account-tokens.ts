/**
 * ServiceAccount tokens: ES256 JWTs with Kubernetes' claims. They are signed with a key derived from the CA's, so that every
 * server of a cluster signs and accepts the same ones without another secret to keep.
 */
import { createECDH, createPrivateKey, createPublicKey, createHash, hkdfSync, randomUUID } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { compactVerify, SignJWT } from 'jose'

export interface TokenClaims {
  iss: string
  aud: string[]
  /** Seconds since the epoch. */
  exp: number
  iat: number
  nbf: number
  jti: string
  sub: string
  'kubernetes.io': {
    namespace: string
    serviceaccount: { name: string; uid: string }
    pod?: { name: string; uid: string }
    node?: { name: string; uid?: string }
    secret?: { name: string; uid: string }
  }
}

export interface TokenInput {
  namespace: string
  name: string
  uid: string
  audiences: string[]
  expirationSeconds: number
  pod?: { name: string; uid: string }
  node?: { name: string; uid?: string }
  secret?: { name: string; uid: string }
}

/** Verified tokens kept, so that a client's next request costs no signature check (about 0.1 ms). */
const MAX_VERIFIED = 4096

export class ServiceAccountTokens {
  readonly issuer: string
  readonly #privateKey: KeyObject
  readonly #publicKey: KeyObject
  readonly #keyId: string
  readonly #verified = new Map<string, TokenClaims>()

  constructor(caKeyPem: string, clusterDomain: string) {
    this.issuer = `https://kubernetes.default.svc.${clusterDomain}`
    this.#privateKey = deriveKey(caKeyPem)
    this.#publicKey = createPublicKey(this.#privateKey)
    this.#keyId = createHash('sha256').update(this.#publicKey.export({ type: 'spki', format: 'der' })).digest('base64url')
  }

  async issue(input: TokenInput, nowMs = Date.now()): Promise<{ token: string; expiresAtMs: number }> {
    const iat = Math.floor(nowMs / 1000)
    const exp = iat + input.expirationSeconds
    const token = await new SignJWT({
      iss: this.issuer, aud: input.audiences, exp, iat, nbf: iat, jti: randomUUID(),
      sub: `system:serviceaccount:${input.namespace}:${input.name}`,
      'kubernetes.io': {
        namespace: input.namespace, serviceaccount: { name: input.name, uid: input.uid },
        ...(input.pod && { pod: input.pod }), ...(input.node && { node: input.node }), ...(input.secret && { secret: input.secret }),
      },
    }).setProtectedHeader({ alg: 'ES256', kid: this.#keyId, typ: 'JWT' }).sign(this.#privateKey)
    return { token, expiresAtMs: exp * 1000 }
  }

  /** The claims of a token that this cluster signed and that is valid now; undefined for any other text. Says nothing of audiences. */
  async verify(token: string, nowMs = Date.now()): Promise<TokenClaims | undefined> {
    const claims = this.#verified.get(token) ?? await this.#check(token)
    if (claims === undefined) return undefined
    const now = nowMs / 1000
    return claims.exp > now && claims.nbf <= now + 60 ? claims : undefined
  }

  /** The public key, for others who verify tokens (`/openid/v1/jwks`). */
  jwks(): { keys: object[] } {
    return { keys: [{ ...this.#publicKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: this.#keyId }] }
  }

  async #check(token: string): Promise<TokenClaims | undefined> {
    try {
      // The algorithm is ours to say, not the token's; its times are looked at with each use, in verify.
      const { payload, protectedHeader } = await compactVerify(token, this.#publicKey, { algorithms: ['ES256'] })
      const claims = JSON.parse(Buffer.from(payload).toString()) as TokenClaims
      if (protectedHeader.kid !== this.#keyId || claims.iss !== this.issuer) return undefined
      this.#verified.set(token, claims)
      if (this.#verified.size > MAX_VERIFIED) this.#verified.delete(this.#verified.keys().next().value!)
      return claims
    } catch {
      return undefined
    }
  }
}

/** An EC P-256 key that only holders of the CA's key can work out. */
function deriveKey(caKeyPem: string): KeyObject {
  const secret = createPrivateKey(caKeyPem).export({ type: 'pkcs8', format: 'der' })
  for (let attempt = 0; ; attempt++) {
    const bytes = Buffer.from(hkdfSync('sha256', secret, '', `gantry service account tokens ${attempt}`, 32))
    const ecdh = createECDH('prime256v1')
    try {
      ecdh.setPrivateKey(bytes)
    } catch {
      // Zero or beyond the curve's order, which one in four thousand million keys is.
      continue
    }
    const point = ecdh.getPublicKey()
    return createPrivateKey({
      format: 'jwk',
      key: { kty: 'EC', crv: 'P-256', d: bytes.toString('base64url'), x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') },
    })
  }
}
