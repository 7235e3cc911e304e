/** From method and URL to what is asked: Kubernetes' rules for resource paths. */
import type { KindTable } from '../../core/kinds.ts'
import { badRequest } from '../../core/errors.ts'
import type { Attributes, RequestInfo } from '../host.ts'

const VERBS: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete', GET: 'get', HEAD: 'get' }
/** Below a namespace's name these are its own sub-resources, not resources in it. */
const NAMESPACE_SUBRESOURCES = new Set(['status', 'finalize'])

function decode(segment: string): string {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch {
    throw badRequest(`the path holds an invalid escape: ${segment.slice(0, 100)}`)
  }
}

/** Throws BadRequest for a path with broken escapes. */
export function requestInfo(method: string, url: string, kinds: KindTable): RequestInfo {
  const mark = url.indexOf('?')
  const path = mark === -1 ? url : url.slice(0, mark)
  const search = mark === -1 ? '' : url.slice(mark + 1)
  const info: RequestInfo = {
    path, search, verb: method.toLowerCase(), group: '', version: '', resource: '', subresource: '', namespace: '', name: '', rest: '',
    kind: undefined,
  }
  const segments = path.split('/')
  let at: number
  if (segments[1] === 'api') at = 2
  else if (segments[1] === 'apis') {
    info.group = segments[2] ?? ''
    at = 3
  } else return info
  info.version = segments[at++] ?? ''
  if (segments[at] === '' && at === segments.length - 1) segments.length = at
  if (segments.length <= at) return info

  let watchPath = false
  if (segments[at] === 'watch' && segments.length > at + 1) {
    watchPath = true
    at++
  }
  if (segments[at] === 'namespaces' && segments.length > at + 2 && !NAMESPACE_SUBRESOURCES.has(segments[at + 2]!)) {
    info.namespace = decode(segments[at + 1]!)
    at += 2
  }
  info.resource = segments[at]!
  info.name = decode(segments[at + 1] ?? '')
  info.subresource = segments[at + 2] ?? ''
  info.rest = segments.slice(at + 3).join('/')
  info.kind = kinds.byResource(info.group === '' ? info.version : `${info.group}/${info.version}`, info.resource)

  const verb = VERBS[method]
  if (verb === undefined) return info
  info.verb = verb
  if (info.subresource === '') {
    if (verb === 'get' && (watchPath || /(^|&)watch=(1|t|true)(&|$)/i.test(search))) info.verb = 'watch'
    else if (info.name === '' && verb === 'get') info.verb = 'list'
    else if (info.name === '' && verb === 'delete') info.verb = 'deletecollection'
  }
  return info
}

export function attributesOf(info: RequestInfo): Attributes {
  if (info.resource === '') return { verb: info.verb, path: info.path }
  const namespace = info.namespace === '' && info.resource === 'namespaces' && info.group === '' ? info.name : info.namespace
  return {
    verb: info.verb, group: info.group, version: info.version, resource: info.resource, subresource: info.subresource,
    namespace, name: info.name === '' ? selectedName(info) : info.name, path: info.path,
  }
}

/** A list or watch of one name is a read of that object, and may be allowed where reading all is not. */
function selectedName(info: RequestInfo): string {
  if (!info.search.includes('fieldSelector=')) return ''
  const terms = (new URLSearchParams(info.search).get('fieldSelector') ?? '').split(',')
  return terms.map(t => /^metadata\.name={1,2}([^=!]+)$/.exec(t)?.[1]).find(name => name !== undefined) ?? ''
}
