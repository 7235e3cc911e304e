/**
 * The grammars of names, labels and annotations (RFC 1123 and 1035 as Kubernetes reads them). Each check returns what is
 * wrong as a sentence, or undefined.
 */
import { flat } from './flat.ts'

const LABEL_1123 = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const SUBDOMAIN_1123 = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/
const QUALIFIED_NAME = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const PORT_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const ENV_NAME = /^[-._a-zA-Z0-9 !"#$%&'()*+,/:;<>?@[\\\]^`{|}~]+$/

export function dns1123Label(s: string): string | undefined {
  if (s.length > 63) return 'must be no more than 63 characters'
  if (LABEL_1123.test(s)) return undefined
  return "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    + "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
}

export function dns1123Subdomain(s: string): string | undefined {
  if (s.length > 253) return 'must be no more than 253 characters'
  if (SUBDOMAIN_1123.test(s)) return undefined
  return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    + "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    + "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
}

export function dns1035Label(s: string): string | undefined {
  if (s.length > 63) return 'must be no more than 63 characters'
  if (LABEL_1035.test(s)) return undefined
  return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    + "with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
}

/** RBAC's names: anything that can be one segment of a URL path. */
export function pathSegment(s: string): string | undefined {
  if (s === '.' || s === '..') return `may not be '${s}'`
  if (s.includes('/')) return "may not contain '/'"
  if (s.includes('%')) return "may not contain '%'"
  return undefined
}

/** A label's or annotation's key: `[prefix/]name`. */
export function labelKey(s: string): string | undefined {
  const slash = s.indexOf('/')
  const name = slash === -1 ? s : s.slice(slash + 1)
  if (slash !== -1) {
    const prefix = s.slice(0, slash)
    if (prefix === '') return 'prefix part must be non-empty'
    const wrong = dns1123Subdomain(prefix)
    if (wrong !== undefined) return `prefix part ${wrong}`
    if (name.includes('/')) return "a qualified name must have one '/' at most"
  }
  if (name === '') return 'name part must be non-empty'
  if (name.length > 63) return 'name part must be no more than 63 characters'
  if (QUALIFIED_NAME.test(name)) return undefined
  return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    + "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
}

export function labelValue(s: string): string | undefined {
  if (s.length > 63) return 'must be no more than 63 characters'
  if (LABEL_VALUE.test(s)) return undefined
  return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    + "an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    + "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
}

/** Names of container ports (IANA service names). */
export function portName(s: string): string | undefined {
  if (s.length > 15) return 'must be no more than 15 characters'
  if (!PORT_NAME.test(s)) return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
  if (!/[a-z]/.test(s)) return 'must contain at least one letter (a-z)'
  if (s.includes('--')) return 'must not contain consecutive hyphens'
  return undefined
}

/** Environment variables: any printable ASCII but `=`. */
export function envName(s: string): string | undefined {
  return ENV_NAME.test(s) ? undefined
    : "a valid environment variable name must consist only of printable ASCII characters other than '='"
}

/** Keys of ConfigMaps and Secrets: they become file names. */
export function configKey(s: string): string | undefined {
  if (s.length > 253) return 'must be no more than 253 characters'
  if (s === '.' || s === '..' || s.startsWith('..')) return `must not be '.', '..' or start with '..'`
  if (/^[-._a-zA-Z0-9]+$/.test(s)) return undefined
  return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    + "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
}

/** Without vowels and look-alikes, so that no words appear. */
const SUFFIX_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789'

/** `base` (cut to 58 characters) and five random characters. `random(n)` gives an integer in 0…n−1. */
export function generateName(base: string, random: (n: number) => number): string {
  let name = base.length > 58 ? base.slice(0, 58) : base
  for (let i = 0; i < 5; i++) name += SUFFIX_ALPHABET[random(SUFFIX_ALPHABET.length)]
  return flat(name)
}
