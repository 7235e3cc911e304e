/** Credentials in headers: base64 (either alphabet) of JSON. What cannot be decoded is ignored, as dockerd does. */
import type { IncomingMessage } from 'node:http'
import type { AuthConfig } from '../model.ts'
import { authShape } from './shapes.ts'

export function registryAuth(req: IncomingMessage): AuthConfig | undefined {
  const value = decoded(req.headers['x-registry-auth'])
  return value === undefined ? undefined : asAuth(value)
}

/** Registry host → credentials. */
export function registryConfig(req: IncomingMessage): Record<string, AuthConfig> {
  const value = decoded(req.headers['x-registry-config'])
  const found: Record<string, AuthConfig> = {}
  for (const [host, auth] of Object.entries(value ?? {})) {
    const a = asAuth(auth)
    if (a !== undefined) found[host] = a
  }
  return found
}

function asAuth(value: unknown): AuthConfig | undefined {
  try {
    const auth = authShape(value, 'auth') as AuthConfig & { auth?: string }
    if (auth.username === undefined && auth.auth !== undefined) {
      const [username = '', ...rest] = Buffer.from(auth.auth, 'base64').toString('utf8').split(':')
      Object.assign(auth, { username, password: rest.join(':') })
    }
    delete auth.auth
    return Object.values(auth).some(v => v !== '') ? auth : undefined
  } catch {
    return undefined
  }
}

function decoded(header: string | string[] | undefined): Record<string, unknown> | undefined {
  if (typeof header !== 'string' || header === '') return undefined
  try {
    // Node takes both alphabets for either name.
    const value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as unknown
    return typeof value === 'object' && value !== null ? value as Record<string, unknown> : undefined
  } catch {
    return undefined
  }
}
