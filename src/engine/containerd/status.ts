/** How calls to containerd fail. */

/** gRPC's status codes (github.com/grpc/grpc, doc/statuscodes.md), those that occur. */
export const Code = {
  ok: 0, canceled: 1, unknown: 2, invalidArgument: 3, deadlineExceeded: 4, notFound: 5, alreadyExists: 6, permissionDenied: 7,
  resourceExhausted: 8, failedPrecondition: 9, outOfRange: 11, unimplemented: 12, internal: 13, unavailable: 14,
} as const

/** containerd refused or could not be reached. `code` is a gRPC status (see Code); the message is containerd's own text. */
export class ContainerdError extends Error {
  readonly code: number
  readonly call: string
  constructor(code: number, text: string, call: string) {
    super(text)
    this.name = 'ContainerdError'
    this.code = code
    this.call = call
  }
}

export function hasCode(e: unknown, ...codes: number[]): boolean {
  return e instanceof ContainerdError && codes.includes(e.code)
}

/** Resolves with undefined where the object is not there. */
export async function orAbsent<T>(p: Promise<T>): Promise<T | undefined> {
  try {
    return await p
  } catch (e) {
    if (hasCode(e, Code.notFound)) return undefined
    throw e
  }
}
