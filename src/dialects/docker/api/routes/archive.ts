/** Files of containers: `docker cp`, `docker export`. */
import { constants, createDeflateRaw, createGzip } from 'node:zlib'
import { compose } from 'node:stream'
import { DockerError } from '../../errors.ts'
import type { PathStat } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import type { Route } from '../router.ts'

const STAT_HEADER = 'X-Docker-Container-Path-Stat'
const TAR = 'application/x-tar'

export const archiveRoutes: readonly Route<Handler>[] = [
  { method: 'HEAD', path: '/containers/{name}/archive', handler: head },
  { method: 'GET', path: '/containers/{name}/archive', handler: get },
  { method: 'PUT', path: '/containers/{name}/archive', handler: put },
  { method: 'GET', path: '/containers/{name}/export', handler: async c => c.sendStream('application/octet-stream', await c.backend.containers.export(c.name)) },
]

function pathOf(c: Call): string {
  const path = c.query.text('path')
  if (path === '') throw new DockerError('invalid', 'bad parameter: \'path\' cannot be empty')
  return path
}

const encoded = (stat: PathStat): string => Buffer.from(JSON.stringify(stat)).toString('base64')

async function head(c: Call): Promise<void> {
  c.res.setHeader(STAT_HEADER, encoded(await c.backend.containers.archiveStat(c.name, pathOf(c))))
  c.sendEmpty(200)
}

async function get(c: Call): Promise<void> {
  const { stat, tar } = await c.backend.containers.archiveGet(c.name, pathOf(c))
  const headers: Record<string, string> = { [STAT_HEADER]: encoded(stat) }
  const encoding = acceptedEncoding(c.req.headers['accept-encoding'])
  if (encoding === undefined) return c.sendStream(TAR, tar, headers)
  headers['Content-Encoding'] = encoding
  // The connection is quicker than a better compression is.
  const level = constants.Z_BEST_SPEED
  const compressor = encoding === 'gzip' ? createGzip({ level }) : createDeflateRaw({ level })
  return c.sendStream(TAR, compose(tar, compressor), headers)
}

/** The first of ours that the client takes. */
export function acceptedEncoding(header: string | string[] | undefined): 'gzip' | 'deflate' | undefined {
  const accepted = String(header ?? '').split(',').flatMap(part => {
    const [name = '', ...parameters] = part.trim().toLowerCase().split(';').map(p => p.trim())
    return parameters.some(p => /^q=0(\.0*)?$/.test(p)) ? [] : [name]
  })
  return (['gzip', 'deflate'] as const).find(e => accepted.includes(e))
}

async function put(c: Call): Promise<void> {
  const path = pathOf(c)
  await c.backend.containers.archivePut(c.name, path, c.body(), {
    noOverwriteDirNonDir: c.query.flag('noOverwriteDirNonDir'), copyUIDGID: c.query.flag('copyUIDGID'),
  })
  c.sendEmpty(200)
}
