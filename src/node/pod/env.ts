/** A container's environment, command and arguments from its spec. */
import type { ConfigMap, Container, EnvVar, Secret, Service } from '../../core/types/index.ts'
import { containerNamed, fieldText, resourceText } from './downward.ts'
import type { DownwardContext } from './downward.ts'

/** Looks up objects of the Pod's namespace. Undefined: the object is known not to exist. */
export interface EnvSources {
  configMap(name: string): ConfigMap | undefined
  secret(name: string): Secret | undefined
  /** Services of the Pod's namespace and the API's, for service links. */
  services: Service[]
}

/** What is wrong with a container's configuration, for its waiting reason `CreateContainerConfigError`. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ConfigError'
  }
}

/** `$(NAME)` from `values`, `$$` for a literal dollar; what cannot be resolved stays as it is. */
export function expand(text: string, values: ReadonlyMap<string, string>): string {
  if (!text.includes('$')) return text
  return text.replace(/\$\$|\$\(([^()$]*)\)/g, (whole: string, name: string | undefined) =>
    name === undefined ? '$' : values.get(name) ?? whole)
}

const ENV_NAME = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/

/** Name → value, in the order they are set. Later ones win: service links, envFrom, env. Throws ConfigError. */
export function containerEnv(container: Container, sources: EnvSources, context: DownwardContext): Map<string, string> {
  const out = new Map<string, string>()
  for (const s of sources.services) {
    // The API's own address is given even to Pods that want no links: clients in the cluster find it by these variables.
    const isApi = s.metadata.namespace === 'default' && s.metadata.name === 'kubernetes'
    if (isApi || context.pod.spec.enableServiceLinks !== false) serviceLinks(s, out)
  }
  for (const from of container.envFrom ?? []) {
    for (const [key, value] of Object.entries(envFromData(from, sources))) {
      const name = `${from.prefix ?? ''}${key}`
      if (ENV_NAME.test(name)) out.set(name, value)
    }
  }
  for (const e of container.env ?? []) {
    const value = e.valueFrom === undefined ? expand(e.value ?? '', out) : valueFrom(e, container, sources, context)
    if (value !== undefined) out.set(e.name, value)
  }
  return out
}

function envFromData(from: NonNullable<Container['envFrom']>[number], sources: EnvSources): Record<string, string> {
  if (from.configMapRef !== undefined) {
    const found = sources.configMap(from.configMapRef.name)
    if (found === undefined && from.configMapRef.optional !== true) throw new ConfigError(`configmap "${from.configMapRef.name}" not found`)
    return found?.data ?? {}
  }
  if (from.secretRef !== undefined) {
    const found = sources.secret(from.secretRef.name)
    if (found === undefined && from.secretRef.optional !== true) throw new ConfigError(`secret "${from.secretRef.name}" not found`)
    return Object.fromEntries(Object.entries(found?.data ?? {}).map(([k, v]) => [k, fromBase64(v)]))
  }
  return {}
}

function valueFrom(e: EnvVar, container: Container, sources: EnvSources, context: DownwardContext): string | undefined {
  const from = e.valueFrom!
  if (from.fieldRef !== undefined) return fieldText(from.fieldRef.fieldPath, context)
  if (from.resourceFieldRef !== undefined) {
    const r = from.resourceFieldRef
    const of = r.containerName === undefined ? container : containerNamed(context.pod, r.containerName)
    return resourceText(of, r.resource, r.divisor, context)
  }
  const cm = from.configMapKeyRef
  if (cm !== undefined) return keyOf('configmap', cm, sources.configMap(cm.name)?.data, sources.configMap(cm.name) !== undefined)
  const sec = from.secretKeyRef
  if (sec !== undefined) {
    const value = keyOf('secret', sec, sources.secret(sec.name)?.data, sources.secret(sec.name) !== undefined)
    return value === undefined ? undefined : fromBase64(value)
  }
  return ''
}

function keyOf(
  what: string, ref: { name: string; key: string; optional?: boolean }, data: Record<string, string> | undefined, exists: boolean,
): string | undefined {
  const value = data?.[ref.key]
  if (value !== undefined || ref.optional === true) return value
  throw new ConfigError(exists ? `couldn't find key ${ref.key} in ${what} "${ref.name}"` : `${what} "${ref.name}" not found`)
}

function fromBase64(text: string): string { return Buffer.from(text, 'base64').toString('utf8') }

/** `REDIS_SERVICE_HOST`, `REDIS_SERVICE_PORT` and the variables of docker's links. */
function serviceLinks(s: Service, out: Map<string, string>): void {
  const ip = s.spec.clusterIP
  const ports = s.spec.ports ?? []
  if (ip === undefined || ip === '' || ip === 'None' || ports.length === 0) return
  const prefix = s.metadata.name.toUpperCase().replaceAll('-', '_')
  const first = ports[0]!
  out.set(`${prefix}_SERVICE_HOST`, ip)
  out.set(`${prefix}_SERVICE_PORT`, String(first.port))
  for (const p of ports) {
    if (p.name !== undefined && p.name !== '') out.set(`${prefix}_SERVICE_PORT_${p.name.toUpperCase().replaceAll('-', '_')}`, String(p.port))
  }
  const url = (p: typeof first): string => `${(p.protocol ?? 'TCP').toLowerCase()}://${ip}:${p.port}`
  out.set(`${prefix}_PORT`, url(first))
  for (const p of ports) {
    const one = `${prefix}_PORT_${p.port}_${(p.protocol ?? 'TCP').toUpperCase()}`
    out.set(one, url(p))
    out.set(`${one}_PROTO`, (p.protocol ?? 'TCP').toLowerCase())
    out.set(`${one}_PORT`, String(p.port))
    out.set(`${one}_ADDR`, ip)
  }
}
