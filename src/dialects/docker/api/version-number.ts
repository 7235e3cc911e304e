/** The API versions spoken. A version is known by the number after `1.`. */

export type ApiMinor = number
export const MAX_MINOR: ApiMinor = 50
export const MIN_MINOR: ApiMinor = 24
/** Below this, errors are plain text. */
const FIRST_JSON_ERRORS: ApiMinor = 24
export const versionText = (minor: ApiMinor): string => `1.${minor}`

export interface RequestedVersion {
  minor: ApiMinor
  /** What to tell a client whose version is not spoken. */
  refusal?: string
  plainErrors: boolean
}

export const newest: RequestedVersion = { minor: MAX_MINOR, plainErrors: false }

/** Of the digits and dots after `/v`. */
export function requestedVersion(text: string): RequestedVersion {
  const [major = 0, minor = 0] = text.split('.').map(Number)
  const plainErrors = major < 1 || (major === 1 && minor < FIRST_JSON_ERRORS)
  if (major < 1 || (major === 1 && minor < MIN_MINOR)) {
    return {
      minor: MIN_MINOR, plainErrors,
      refusal: `client version ${text} is too old. Minimum supported API version is ${versionText(MIN_MINOR)}, `
        + 'please upgrade your client to a newer version',
    }
  }
  if (major > 1 || minor > MAX_MINOR) {
    return {
      minor: MAX_MINOR, plainErrors,
      refusal: `client version ${text} is too new. Maximum supported API version is ${versionText(MAX_MINOR)}`,
    }
  }
  return { minor, plainErrors }
}
