/** The one error type of the API, in Kubernetes' Status shape; other dialects' fronts render it in theirs. */

export type StatusReason =
  | 'BadRequest' | 'Unauthorized' | 'Forbidden' | 'NotFound' | 'AlreadyExists' | 'Conflict' | 'Expired' | 'Invalid'
  | 'MethodNotAllowed' | 'NotAcceptable' | 'UnsupportedMediaType' | 'RequestEntityTooLarge' | 'TooManyRequests'
  | 'InternalError' | 'ServerTimeout' | 'ServiceUnavailable' | 'Timeout'

const CODES: Record<StatusReason, number> = {
  BadRequest: 400, Unauthorized: 401, Forbidden: 403, NotFound: 404, AlreadyExists: 409, Conflict: 409, Expired: 410, Invalid: 422,
  MethodNotAllowed: 405, NotAcceptable: 406, UnsupportedMediaType: 415, RequestEntityTooLarge: 413, TooManyRequests: 429,
  InternalError: 500, ServerTimeout: 500, ServiceUnavailable: 503, Timeout: 504,
}

export interface StatusCause { reason?: string; message?: string; field?: string }
export interface StatusDetails {
  name?: string; group?: string; kind?: string; uid?: string; causes?: StatusCause[]; retryAfterSeconds?: number
}
export interface Status {
  kind: 'Status'; apiVersion: 'v1'; metadata: { continue?: string }
  status: 'Success' | 'Failure'; message?: string; reason?: StatusReason; details?: StatusDetails; code?: number
}

export class ApiError extends Error {
  readonly reason: StatusReason
  readonly code: number
  readonly details: StatusDetails | undefined

  constructor(reason: StatusReason, message: string, details?: StatusDetails) {
    super(message)
    this.name = 'ApiError'
    this.reason = reason
    this.code = CODES[reason]
    this.details = details
  }

  toStatus(): Status {
    return {
      kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure',
      message: this.message, reason: this.reason, ...(this.details && { details: this.details }), code: this.code,
    }
  }
}

type KindName = { plural: string; group: string }

/** `pods` or `deployments.apps`, as messages name a resource. */
export function qualifiedName(k: KindName): string { return k.group === '' ? k.plural : `${k.plural}.${k.group}` }
function detailsOf(k: KindName, name: string): StatusDetails {
  return { name, kind: k.plural, ...(k.group !== '' && { group: k.group }) }
}

export function notFound(k: KindName, name: string): ApiError {
  return new ApiError('NotFound', `${qualifiedName(k)} "${name}" not found`, detailsOf(k, name))
}
export function alreadyExists(k: KindName, name: string): ApiError {
  return new ApiError('AlreadyExists', `${qualifiedName(k)} "${name}" already exists`, detailsOf(k, name))
}
export function conflict(k: KindName, name: string, why = 'the object has been modified; please apply your changes to the latest version and try again'): ApiError {
  return new ApiError('Conflict', `Operation cannot be fulfilled on ${qualifiedName(k)} "${name}": ${why}`, detailsOf(k, name))
}
export function badRequest(message: string): ApiError { return new ApiError('BadRequest', message) }

/** True for an ApiError (local or rebuilt from a server's answer) with this reason. */
export function isReason(e: unknown, reason: StatusReason): boolean { return e instanceof ApiError && e.reason === reason }
