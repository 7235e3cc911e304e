/** From a server's answers back to ApiErrors. */
import { ApiError } from '../core/errors.ts'
import type { Status, StatusReason } from '../core/errors.ts'

/** What each HTTP code means where the answer names no reason that {@link ApiError} knows. */
const REASON_OF_CODE: Record<number, StatusReason> = {
  400: 'BadRequest', 401: 'Unauthorized', 403: 'Forbidden', 404: 'NotFound', 405: 'MethodNotAllowed', 406: 'NotAcceptable',
  408: 'Timeout', 409: 'Conflict', 410: 'Expired', 413: 'RequestEntityTooLarge', 415: 'UnsupportedMediaType', 422: 'Invalid',
  429: 'TooManyRequests', 500: 'InternalError', 502: 'ServiceUnavailable', 503: 'ServiceUnavailable', 504: 'Timeout',
}
/** Reasons that share their code with another one, so that the code alone would lose them. */
const OTHER_REASONS: readonly string[] = ['AlreadyExists', 'ServerTimeout']

/** The ApiError of a Status object, e.g. of a watch's ERROR event. */
export function errorOfStatus(status: Partial<Status>, code = status.code ?? 500): ApiError {
  const reason = status.reason !== undefined && OTHER_REASONS.includes(status.reason)
    ? status.reason
    : REASON_OF_CODE[code] ?? (code < 500 ? 'BadRequest' : 'InternalError')
  return new ApiError(reason, status.message ?? `the server answered ${code}`, status.details)
}

/** The ApiError of an answer with an error code; a body that is no Status becomes part of the message. */
export function errorOfAnswer(code: number, body: string): ApiError {
  try {
    const status = JSON.parse(body) as Partial<Status>
    if (status.kind === 'Status') return errorOfStatus(status, code)
  } catch {
    // Not JSON: a proxy's page or plain text.
  }
  const text = body.trim().slice(0, 500)
  return errorOfStatus({ message: text === '' ? `the server answered ${code}` : `the server answered ${code}: ${text}` }, code)
}

/** Milliseconds asked for by a Retry-After header in seconds; undefined without one. At most a minute. */
export function retryAfterMs(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return undefined
  const seconds = Number(Array.isArray(header) ? header[0] : header)
  return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 60) * 1000 : undefined
}
