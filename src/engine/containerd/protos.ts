/** Loads the .proto files beside this one, once, on first use. */
import { fileURLToPath } from 'node:url'
import { dirname, join } from 'node:path'
import { loadSync } from '@grpc/proto-loader'
import type { MessageTypeDefinition, MethodDefinition, PackageDefinition, ServiceDefinition } from '@grpc/proto-loader'

const FILES = [
  'containers', 'content', 'diff', 'events', 'images', 'introspection', 'leases', 'namespaces', 'payloads', 'runc',
  'snapshots', 'tasks', 'version',
]

let loaded: PackageDefinition | undefined

function definitions(): PackageDefinition {
  loaded ??= loadSync(FILES.map((f) => `${f}.proto`), {
    includeDirs: [join(dirname(fileURLToPath(import.meta.url)), 'protos')],
    longs: Number, enums: String, defaults: true,
  })
  return loaded
}

type Method = MethodDefinition<object, object>

/** Method `NAME` of a service such as `containerd.services.tasks.v1.Tasks`. */
export function method(service: string, name: string): Method {
  const found = (definitions()[service] as ServiceDefinition | undefined)?.[name]
  if (found === undefined) throw new Error(`the proto files lack ${service}/${name}`)
  return found as Method
}

/** Serialiser and parser of one message type, for what travels in an Any. */
export function message(name: string): MessageTypeDefinition<object, object> {
  const found = definitions()[name] as MessageTypeDefinition<object, object> | undefined
  if (found === undefined) throw new Error(`the proto files lack message ${name}`)
  return found
}
