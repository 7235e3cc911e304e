/** Where plugins are: sockets by their place, others by what a spec file says. */
import { lstat, open, readdir } from 'node:fs/promises'
import type { Dirent } from 'node:fs'
import { join } from 'node:path'
import { PluginError } from './plugins.ts'

export const DEFAULT_DIRS = ['/run/docker/plugins', '/etc/docker/plugins', '/usr/lib/docker/plugins']

const MAX_SPEC_BYTES = 64 << 10
/** Keeps a name from being a path; what Docker's managed plugins are called (`vendor/name:tag`) is no name of this kind. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/

export interface TlsFiles { caFile?: string; certFile?: string; keyFile?: string; insecure: boolean }

/** `tls` is set for `https` addresses. */
export interface Location { name: string; address: URL; tls?: TlsFiles }

/** Undefined if no folder has it. A spec file that is wrong rejects with `protocol`. */
export async function locate(dirs: readonly string[], name: string): Promise<Location | undefined> {
  if (!NAME.test(name)) return undefined
  for (const extension of ['.sock', '.spec', '.json']) {
    for (const dir of dirs) {
      for (const path of [join(dir, name + extension), join(dir, name, name + extension)]) {
        const kind = await kindOf(path)
        if (extension === '.sock' ? kind === 'socket' : kind === 'file') return await read(name, path, extension)
      }
    }
  }
  return undefined
}

/** Names of all that look like plugins, sorted. */
export async function namesIn(dirs: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const dir of dirs) {
    for (const entry of await entries(dir)) {
      const name = pluginName(entry.name)
      if (name !== undefined) found.add(name)
      else if (entry.isDirectory()) {
        for (const inner of await entries(join(dir, entry.name))) if (pluginName(inner.name) === entry.name) found.add(entry.name)
      }
    }
  }
  return [...found].sort()
}

function pluginName(file: string): string | undefined {
  const m = /^(.+)\.(?:sock|spec|json)$/.exec(file)
  return m !== null && NAME.test(m[1] as string) ? m[1] : undefined
}

async function entries(dir: string): Promise<Dirent[]> {
  return readdir(dir, { withFileTypes: true }).catch(() => [])
}

async function kindOf(path: string): Promise<'socket' | 'file' | undefined> {
  const stat = await lstat(path).catch(() => undefined)
  if (stat?.isSocket() === true) return 'socket'
  return stat?.isFile() === true ? 'file' : undefined
}

async function read(name: string, path: string, extension: string): Promise<Location> {
  if (extension === '.sock') return { name, address: new URL(`unix://${encodeURI(path)}`) }
  const text = await readBounded(name, path)
  return extension === '.spec' ? { name, address: addressOf(name, path, text.trim()) } : fromJson(name, path, text)
}

async function readBounded(name: string, path: string): Promise<string> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    if (size > MAX_SPEC_BYTES) throw new PluginError('protocol', name, `${path}: larger than ${MAX_SPEC_BYTES} bytes`)
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

function addressOf(name: string, path: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['unix:', 'tcp:', 'http:', 'https:'].includes(url.protocol)) {
    throw new PluginError('protocol', name, `${path}: "${text.slice(0, 100)}" is no address: unix:///PATH, tcp://HOST:PORT or https://HOST:PORT`)
  }
  return url
}

interface JsonSpec { Addr?: unknown; TLSConfig?: { InsecureSkipVerify?: boolean; CAFile?: string; CertFile?: string; KeyFile?: string } | null }

function fromJson(name: string, path: string, text: string): Location {
  let spec: JsonSpec
  try {
    spec = JSON.parse(text) as JsonSpec
  } catch (e) {
    throw new PluginError('protocol', name, `${path}: ${(e as Error).message}`)
  }
  if (typeof spec !== 'object' || spec === null || typeof spec.Addr !== 'string') throw new PluginError('protocol', name, `${path}: Addr is missing`)
  const address = addressOf(name, path, spec.Addr)
  const t = spec.TLSConfig
  if (t == null || address.protocol === 'unix:') return { name, address }
  return {
    name, address: new URL(address.href.replace(/^\w+:/, 'https:')),
    tls: {
      insecure: t.InsecureSkipVerify === true,
      ...(t.CAFile ? { caFile: t.CAFile } : {}), ...(t.CertFile ? { certFile: t.CertFile } : {}), ...(t.KeyFile ? { keyFile: t.KeyFile } : {}),
    },
  }
}
