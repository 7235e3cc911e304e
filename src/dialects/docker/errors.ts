/** Failures in Docker's terms: each kind has one HTTP status, the message goes to the client as it is. */

const status = {
  invalid: 400, unauthorized: 401, forbidden: 403, 'not-found': 404, conflict: 409, 'not-modified': 304, failed: 500, 'not-implemented': 501,
  unavailable: 503,
} as const

export type DockerErrorKind = keyof typeof status

export class DockerError extends Error {
  readonly kind: DockerErrorKind
  constructor(kind: DockerErrorKind, message: string) {
    super(message)
    this.name = 'DockerError'
    this.kind = kind
  }

  get status(): number { return status[this.kind] }
}
