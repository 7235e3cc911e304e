/** The JSON of a Pod that is being bound, made from the JSON of the waiting one: a binding adds one member and changes the status. */
import type { Pod } from '../core/types/index.ts'
import type { Cached } from './cached.ts'

/**
 * What encoding `bound` would give, without encoding it; `before` is the Pod it was prepared from. Undefined if the old text
 * does not end with the spec and then the status: encode it then.
 */
export function boundText(before: Cached, bound: Pod): Buffer | undefined {
  const old = before.object as Pod
  const members = Object.keys(old)
  if (members.at(-2) !== 'spec' || members.at(-1) !== 'status' || Object.hasOwn(old.spec, 'nodeName')) return undefined
  const parts = before.plainParts()
  const last = parts.at(-1)!
  const oldEnd = `},"status":${JSON.stringify(old.status)}}`
  const at = last.length - Buffer.byteLength(oldEnd)
  // The bytes decide: quotes within strings are escaped, so nothing but the last member of the object can look like this.
  if (last.toString('utf8', Math.max(0, at)) !== oldEnd) return undefined
  // Not the spec's first member: a Pod has containers.
  const newEnd = `,"nodeName":${JSON.stringify(bound.spec.nodeName)}},"status":${JSON.stringify(bound.status)}}`
  return Buffer.concat([...parts.slice(0, -1), last.subarray(0, at), Buffer.from(newEnd)])
}
