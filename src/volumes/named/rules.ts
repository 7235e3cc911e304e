/** What dockerd takes as a volume's name and as options of the driver `local`, and what it says of others. */
import { randomBytes } from 'node:crypto'
import { NamedVolumeError } from './named.ts'

export const LOCAL = 'local'
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous'

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]+$/
const NAME_TEXT = '[a-zA-Z0-9][a-zA-Z0-9_.-]'
const MAX_NAME = 255
const OPTIONS = ['type', 'o', 'device', 'size']
/** An option → what must come with it. */
const NEEDS: Record<string, string[]> = { device: ['type'], type: ['device'], o: ['device', 'type'] }
const SIZE = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?$/i

export function anonymousName(): string { return randomBytes(32).toString('hex') }

export function checkLocalName(name: string): void {
  const refuse = (why: string): never => { throw new NamedVolumeError('invalid', `create ${name}: ${why}`) }
  if (name.length === 1) refuse('volume name is too short, names should be at least two alphanumeric characters')
  if (!NAME.test(name)) {
    refuse(`${JSON.stringify(name)} includes invalid characters for a local volume name, only "${NAME_TEXT}" are allowed. ` +
      'If you intended to pass a host directory, use absolute path')
  }
  if (name.length > MAX_NAME) refuse(`volume name is longer than ${MAX_NAME} characters`)
}

/** `size` needs project quotas, which this driver does not set: dockerd answers the same on a file system without them. */
export function checkLocalOptions(name: string, options: Record<string, string>): void {
  const refuse = (why: string): never => { throw new NamedVolumeError('invalid', `create ${name}: ${why}`) }
  for (const option of Object.keys(options)) if (!OPTIONS.includes(option)) refuse(`invalid option: ${JSON.stringify(option)}`)
  const size = options['size']
  if (size !== undefined) {
    const m = SIZE.exec(size.trim())
    if (m === null) refuse(`invalid size: '${size}'`)
    else if (Number(m[1]) > 0) refuse('quota size requested but no quota support')
  }
  for (const option of OPTIONS) {
    for (const needed of options[option] === undefined ? [] : NEEDS[option] ?? []) {
      if (options[needed] === undefined) refuse(`missing required option: "${needed}"`)
    }
  }
}

/** A plugin's names are its own matter; ours is that they can be kept as a folder's name. */
export function checkPluginName(name: string): void {
  if (name.includes('\0') || Buffer.byteLength(folderOf(name)) > MAX_NAME) {
    throw new NamedVolumeError('invalid', `create ${name.slice(0, 80)}: volume name is too long or contains a zero byte`)
  }
}

/** One path part for any name; the name itself where it is as `local` wants it. Never begins with a dot. */
export function folderOf(name: string): string { return encodeURIComponent(name.toWellFormed()).replace(/^\./, '%2E') }
