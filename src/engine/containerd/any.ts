/** Values inside google.protobuf.Any: JSON for the OCI types, protobuf for containerd's own. */
import { packed } from './messages.ts'
import type { MessageType } from './protobuf.ts'
import type { Any } from './types.ts'

const OCI = 'types.containerd.io/opencontainers/runtime-spec/1/'

/** `kind` is the OCI type; the value is its JSON. */
export function ociAny(kind: 'Spec' | 'Process' | 'LinuxResources', value: object): Any {
  return { type_url: OCI + kind, value: Buffer.from(JSON.stringify(value)) }
}

export function jsonAny(typeUrl: string, value: unknown): Any {
  return { type_url: typeUrl, value: Buffer.from(JSON.stringify(value)) }
}

export function parseJsonAny(any: Any): unknown {
  return JSON.parse(any.value.toString('utf8'))
}

/** `type` is one of `packed`, e.g. `containerd.runc.v1.Options`. */
export function protoAny(type: string, value: object): Any {
  return { type_url: type, value: typeNamed(type).encode(value) }
}

export function parseProtoAny(any: Any): object {
  return typeNamed(any.type_url.slice(any.type_url.lastIndexOf('/') + 1)).decode(any.value)
}

function typeNamed(name: string): MessageType {
  const found = packed[name]
  if (found === undefined) throw new Error(`messages.ts has no ${name}`)
  return found
}
