/** Image references, by Docker's rules. */
import { EngineError } from '../engine.ts'

export interface Reference {
  /** Registry host with its port: `docker.io`, `localhost:5000`. */
  host: string
  /** Repository path: `library/redis`. */
  path: string
  tag?: string
  /** `sha256:…` */
  digest?: string
}

const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const HOST = /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/
const TAG = /^\w[\w.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/

/** True for `sha256:` and 64 hex digits, the only digest form content may have. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text)
}

function invalid(reference: string, why: string): EngineError {
  return new EngineError('invalid', `invalid reference format: "${reference}": ${why}`)
}

/** Parses a reference as a user writes it. With neither tag nor digest the tag is `latest`. Throws `invalid`. */
export function parseReference(text: string): Reference {
  let rest = text
  let digest: string | undefined
  const at = rest.indexOf('@')
  if (at >= 0) {
    digest = rest.slice(at + 1)
    rest = rest.slice(0, at)
    if (!DIGEST.test(digest)) throw invalid(text, 'the digest must be sha256: and 64 hexadecimal digits')
  }
  // A reference of 64 hex digits alone is an id, never a name.
  if (/^[0-9a-f]{64}$/.test(rest)) throw invalid(text, 'a repository name cannot be 64 hexadecimal digits')
  const colon = rest.lastIndexOf(':')
  let tag: string | undefined
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1)
    rest = rest.slice(0, colon)
    if (!TAG.test(tag)) throw invalid(text, `"${tag}" is no tag`)
  }
  const slash = rest.indexOf('/')
  const first = slash < 0 ? '' : rest.slice(0, slash)
  let host = 'docker.io'
  let path = rest
  if (first !== '' && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase())) {
    host = first === 'index.docker.io' || first === 'registry-1.docker.io' ? 'docker.io' : first
    path = rest.slice(slash + 1)
  }
  if (!HOST.test(host)) throw invalid(text, `"${host}" is no host`)
  if (host === 'docker.io' && !path.includes('/') && path !== '') path = `library/${path}`
  if (path !== path.toLowerCase()) throw invalid(text, 'repository name must be lowercase')
  if (!PATH.test(path)) throw invalid(text, `"${path}" is no repository name`)
  if (path.length > 255) throw invalid(text, 'repository name must not be more than 255 characters')
  if (tag === undefined && digest === undefined) tag = 'latest'
  return { host, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) }
}

/** The full text containerd's image records are named by. A digest outranks a tag. */
export function formatReference(r: Reference): string {
  return r.digest !== undefined ? `${r.host}/${r.path}@${r.digest}` : `${r.host}/${r.path}:${r.tag ?? 'latest'}`
}

/** As users of docker write it: without `docker.io/library/`. */
export function familiar(full: string): string {
  return full.startsWith('docker.io/library/') ? full.slice(18) : full.startsWith('docker.io/') ? full.slice(10) : full
}
