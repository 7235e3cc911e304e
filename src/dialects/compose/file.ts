/** Reads Compose files: the format of 2015 (services at the top level) and the common part of today's specification. */
import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'
import type { ComposeService } from '../../core/types/index.ts'
import { type Environment, interpolate, parseEnvFile } from './interpolate.ts'
import { bytesOf, ComposeError, durationMs, listOf, mapOf, portNumber, portsOf, shellWords, volumesOf } from './values.ts'

export interface BuildPlan { context: string; dockerfile?: string; args: Record<string, string>; target?: string }
/** A file as Gantry runs it. `builds` are to be done before `services` can start: their images are named in them. */
export interface Project {
  name: string
  services: Record<string, ComposeService>
  builds: Record<string, BuildPlan>
  volumes: string[]
  warnings: string[]
}

export interface ReadOptions {
  /** Path of the file; relative paths within it start at its folder. */
  path: string
  text: string
  projectName?: string | undefined
  env: Environment
  /** Reads another file by absolute path; undefined if there is none. */
  readFile(path: string): string | undefined
}

/** What a service may say. A known key without effect here is named in the warnings, an unknown one is an error. */
const KNOWN = new Set(['image', 'build', 'dockerfile', 'command', 'entrypoint', 'environment', 'env_file', 'ports', 'expose', 'volumes',
  'tmpfs', 'links', 'depends_on', 'scale', 'deploy', 'restart', 'working_dir', 'user', 'hostname', 'labels', 'healthcheck', 'cpus',
  'mem_limit', 'stop_grace_period', 'tty', 'stdin_open', 'privileged', 'cap_add', 'cap_drop', 'read_only', 'profiles'])
const WITHOUT_EFFECT = new Set(['container_name', 'networks', 'network_mode', 'net', 'logging', 'log_driver', 'log_opt', 'platform', 'stop_signal',
  'pull_policy', 'init', 'attach', 'cpu_shares', 'cpuset', 'memswap_limit', 'mem_reservation', 'domainname', 'dns', 'dns_search', 'extra_hosts',
  'security_opt', 'ulimits', 'sysctls', 'devices', 'shm_size', 'annotations', 'pid', 'ipc', 'external_links', 'mac_address', 'oom_score_adj'])

export function readProject(o: ReadOptions): Project {
  const base = dirname(o.path)
  let parsed: unknown
  try {
    parsed = parse(o.text, { merge: true, maxAliasCount: 1000 })
  } catch (e) {
    throw new ComposeError(`${o.path}: ${(e as Error).message}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new ComposeError(`${o.path}: not a Compose file: it holds no services`)
  const dotEnv = o.readFile(resolve(base, '.env'))
  const env: Environment = { ...(dotEnv !== undefined && parseEnvFile(dotEnv, o.env, '.env')), ...o.env }
  const unset = new Set<string>()
  // The format of 2015 knew no variables; a dollar sign in it is a dollar sign.
  const old = !('services' in parsed)
  const file = (old ? { services: parsed } : interpolate(parsed, env, '', name => unset.add(name))) as Record<string, unknown>
  for (const key of Object.keys(file)) {
    if (!['version', 'name', 'services', 'volumes', 'networks'].includes(key) && !key.startsWith('x-')) {
      throw new ComposeError(`${o.path}: top-level "${key}" is not supported; services, volumes, networks and name are`)
    }
  }
  const warnings = [...unset].map(name => `the variable ${name} is not set: an empty text is used`)
  const project: Project = {
    name: projectName(o.projectName ?? env['COMPOSE_PROJECT_NAME'] ?? (typeof file['name'] === 'string' ? file['name'] : undefined), base),
    services: {}, builds: {}, volumes: Object.keys((file['volumes'] ?? {}) as object), warnings,
  }
  const services = file['services']
  if (typeof services !== 'object' || services === null || Object.keys(services).length === 0) throw new ComposeError(`${o.path}: no services`)
  const profiles = (env['COMPOSE_PROFILES'] ?? '').split(',').map(p => p.trim())
  for (const [name, body] of Object.entries(services)) {
    if (!/^[a-zA-Z0-9][a-zA-Z0-9._-]*$/.test(name)) throw new ComposeError(`${o.path}: "${name}" is not a service name`)
    if (typeof body !== 'object' || body === null) throw new ComposeError(`services.${name} must be a map`)
    const own = listOf((body as Record<string, unknown>)['profiles'], `services.${name}.profiles`).map(String)
    if (own.length > 0 && !own.some(p => profiles.includes(p)) && !profiles.includes('*')) continue
    readService(project, name, body as Record<string, unknown>, { base, env, readFile: o.readFile })
  }
  if (Object.keys(project.services).length === 0) throw new ComposeError(`${o.path}: every service has a profile, and COMPOSE_PROFILES names none of them`)
  checkReferences(project)
  return project
}

/** Given, or the folder's name made fit. */
function projectName(given: string | undefined, base: string): string {
  if (given !== undefined) {
    if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(given)) throw new ComposeError(`"${given}" is not a project name: lower-case letters, digits and dashes`)
    return given
  }
  const name = (base.split('/').pop() ?? '').toLowerCase().replaceAll('_', '-').replace(/[^a-z0-9-]/g, '').replace(/^-+|-+$/g, '')
  if (name === '') throw new ComposeError('the folder\'s name gives no project name: name one with -p')
  return name.slice(0, 63)
}

interface Place { base: string; env: Environment; readFile(path: string): string | undefined }

function readService(project: Project, name: string, body: Record<string, unknown>, at: Place): void {
  const where = `services.${name}`
  for (const key of Object.keys(body)) {
    if (WITHOUT_EFFECT.has(key)) project.warnings.push(`${where}.${key} has no effect here`)
    else if (!KNOWN.has(key) && !key.startsWith('x-')) throw new ComposeError(`Unsupported config option for ${where}: '${key}'`)
  }
  const onlyKnown = (value: unknown, path: string, known: string[]) => {
    if (typeof value !== 'object' || value === null) return
    for (const key of Object.keys(value)) if (!known.includes(key) && !key.startsWith('x-')) project.warnings.push(`${where}.${path}.${key} has no effect here`)
  }
  const build = body['build'] === undefined ? undefined : buildOf(body, where, at)
  if (build === undefined && typeof body['image'] !== 'string') throw new ComposeError(`${where} needs image or build`)
  if (build !== undefined) project.builds[name] = build
  const { ports, expose, addresses } = portsOf(body['ports'], `${where}.ports`)
  for (const a of addresses) project.warnings.push(`${where}.ports: the address ${a} has no effect here: the router publishes on every address`)
  const text = (key: string) => body[key] === undefined || body[key] === null ? undefined : String(body[key])
  const strings = (key: string) => body[key] === undefined ? undefined : listOf(body[key], `${where}.${key}`).map(String)
  const words = (key: string) => {
    const v = body[key]
    if (v === undefined || v === null) return undefined
    return Array.isArray(v) ? v.map(String) : shellWords(String(v), `${where}.${key}`)
  }
  const deploy = (body['deploy'] ?? {}) as { replicas?: number; resources?: { limits?: { cpus?: string | number; memory?: string | number } } }
  onlyKnown(deploy, 'deploy', ['replicas', 'resources'])
  onlyKnown(deploy.resources, 'deploy.resources', ['limits'])
  onlyKnown(deploy.resources?.limits, 'deploy.resources.limits', ['cpus', 'memory'])
  onlyKnown(body['healthcheck'], 'healthcheck', ['test', 'interval', 'timeout', 'retries', 'start_period', 'disable'])
  onlyKnown(body['build'], 'build', ['context', 'dockerfile', 'args', 'target'])
  const user = text('user')?.split(':').map(u => u === 'root' ? '0' : u).join(':')
  // Left out, it would run as the image's user, which is often root.
  if (user !== undefined && !/^\d+(:\d+)?$/.test(user)) throw new ComposeError(`${where}.user: "${user}" is not UID or UID:GID in numbers; names are not looked up in the image`)
  const cpus = body['cpus'] ?? deploy.resources?.limits?.cpus
  const memory = body['mem_limit'] ?? deploy.resources?.limits?.memory
  const scale = body['scale'] ?? deploy.replicas
  const tmpfs = [body['tmpfs'] ?? []].flat().map(t => ({ type: 'tmpfs' as const, target: String(t).split(':')[0]! }))
  const service: ComposeService = {
    image: typeof body['image'] === 'string' ? body['image'] : `${project.name}-${name}`,
    command: words('command'), entrypoint: words('entrypoint'), environment: environmentOf(body, where, at),
    ports, expose: [...expose, ...listOf(body['expose'], `${where}.expose`).map(p => portNumber(String(p).split('/')[0], `${where}.expose`))],
    volumes: [...volumesOf(body['volumes'], `${where}.volumes`, path => resolve(at.base, path.replace(/^~(?=\/|$)/, at.env['HOME'] ?? '~'))), ...tmpfs],
    links: linksOf(body['links'], where), dependsOn: dependsOf(body['depends_on'], where),
    scale: scale === undefined ? undefined : Number(scale), restart: restartOf(text('restart'), where),
    workingDir: text('working_dir'), user, hostname: text('hostname'),
    labels: Object.fromEntries(Object.entries(mapOf(body['labels'], `${where}.labels`)).map(([k, v]) => [k, v ?? ''])),
    healthcheck: healthOf(body['healthcheck'], `${where}.healthcheck`),
    cpuMilli: cpus === undefined ? undefined : Math.round(Number(cpus) * 1000),
    memoryBytes: memory === undefined ? undefined : bytesOf(memory as string, `${where}.mem_limit`),
    stopGraceMs: body['stop_grace_period'] === undefined ? undefined : durationMs(body['stop_grace_period'] as string, `${where}.stop_grace_period`),
    tty: flag('tty'), stdinOpen: flag('stdin_open'), privileged: flag('privileged'), readOnly: flag('read_only'),
    capAdd: strings('cap_add'), capDrop: strings('cap_drop'),
  }
  if (service.scale !== undefined && !(Number.isInteger(service.scale) && service.scale >= 0)) throw new ComposeError(`${where}.scale: "${String(scale)}" is not a number of instances`)
  if (service.cpuMilli !== undefined && !(service.cpuMilli > 0)) throw new ComposeError(`${where}.cpus: "${String(cpus)}" is not a number of CPUs`)
  for (const v of service.volumes!) if (v.type === 'volume' && v.source !== undefined && !project.volumes.includes(v.source)) project.volumes.push(v.source)
  // What was not said shall not stand in the object.
  project.services[name] = JSON.parse(JSON.stringify(service)) as ComposeService

  function flag(key: string): boolean | undefined { return body[key] === undefined ? undefined : body[key] === true }
}

function buildOf(body: Record<string, unknown>, where: string, at: Place): BuildPlan {
  const b = body['build']
  if (typeof b === 'string') {
    return { context: resolve(at.base, b), args: {}, ...(typeof body['dockerfile'] === 'string' && { dockerfile: body['dockerfile'] }) }
  }
  if (typeof b !== 'object' || b === null) throw new ComposeError(`${where}.build must be a folder or a map`)
  const { context = '.', dockerfile, args, target, dockerfile_inline: inline } = b as Record<string, unknown>
  if (inline !== undefined) throw new ComposeError(`${where}.build.dockerfile_inline is not supported: write a Dockerfile`)
  return {
    context: resolve(at.base, String(context)),
    ...(dockerfile !== undefined && { dockerfile: String(dockerfile) }), ...(target !== undefined && { target: String(target) }),
    args: present(Object.entries(mapOf(args, `${where}.build.args`)).map(([k, v]) => [k, v ?? at.env[k]])),
  }
}

function environmentOf(body: Record<string, unknown>, where: string, at: Place): Record<string, string> {
  const out: Record<string, string | undefined> = {}
  for (const item of [body['env_file'] ?? []].flat()) {
    const { path, required = true } = typeof item === 'object' && item !== null ? item as { path: string; required?: boolean } : { path: String(item) }
    const text = at.readFile(resolve(at.base, path))
    if (text !== undefined) Object.assign(out, parseEnvFile(text, at.env, path))
    else if (required) throw new ComposeError(`${where}.env_file: there is no file ${path}`)
  }
  for (const [k, v] of Object.entries(mapOf(body['environment'], `${where}.environment`))) out[k] = v ?? at.env[k]
  return present(Object.entries(out))
}

/** Without the keys that have no value. */
function present(entries: [string, string | undefined][]): Record<string, string> {
  return Object.fromEntries(entries.filter((e): e is [string, string] => e[1] !== undefined))
}

function linksOf(value: unknown, where: string): Record<string, string> {
  return Object.fromEntries(listOf(value, `${where}.links`).map(l => {
    const [service, alias = service] = String(l).split(':')
    return [alias!, service!]
  }))
}

function dependsOf(value: unknown, where: string): NonNullable<ComposeService['dependsOn']> {
  if (Array.isArray(value)) return Object.fromEntries(value.map(v => [String(v), 'service_started' as const]))
  const out: NonNullable<ComposeService['dependsOn']> = {}
  for (const [name, v] of Object.entries((value ?? {}) as Record<string, { condition?: string }>)) {
    const condition = v?.condition ?? 'service_started'
    if (condition !== 'service_started' && condition !== 'service_healthy' && condition !== 'service_completed_successfully') {
      throw new ComposeError(`${where}.depends_on.${name}: there is no condition "${condition}"`)
    }
    out[name] = condition
  }
  return out
}

function restartOf(text: string | undefined, where: string): ComposeService['restart'] {
  const bare = text?.split(':')[0]
  if (bare === undefined || bare === 'no' || bare === 'false') return bare === undefined ? undefined : 'no'
  if (bare === 'always' || bare === 'on-failure' || bare === 'unless-stopped') return bare
  throw new ComposeError(`${where}.restart: "${text}" is not no, always, on-failure or unless-stopped`)
}

function healthOf(value: unknown, where: string): ComposeService['healthcheck'] {
  if (value === undefined || value === null) return undefined
  const h = value as Record<string, unknown>
  const test = h['test']
  if (h['disable'] === true || (Array.isArray(test) && test[0] === 'NONE')) return undefined
  if (test === undefined) throw new ComposeError(`${where} needs a test`)
  const list = Array.isArray(test) ? test.map(String) : ['CMD-SHELL', String(test)]
  if (list[0] !== 'CMD' && list[0] !== 'CMD-SHELL') throw new ComposeError(`${where}.test starts with CMD, CMD-SHELL or NONE`)
  const ms = (key: string) => h[key] === undefined ? undefined : durationMs(h[key] as string, `${where}.${key}`)
  return {
    test: list[0] === 'CMD' ? list.slice(1) : ['/bin/sh', '-c', list.slice(1).join(' ')],
    intervalMs: ms('interval'), timeoutMs: ms('timeout'), startPeriodMs: ms('start_period'),
    ...(h['retries'] !== undefined && { retries: Number(h['retries']) }),
  }
}

function checkReferences(p: Project): void {
  const once = new Set(Object.values(p.services).flatMap(s => Object.entries(s.dependsOn ?? {}))
    .flatMap(([name, condition]) => condition === 'service_completed_successfully' ? [name] : []))
  for (const [name, s] of Object.entries(p.services)) {
    if ((s.restart === 'no' || s.restart === 'on-failure') && !once.has(name)) {
      p.warnings.push(`services.${name}.restart: "${s.restart}" has no effect here: it is started again whenever it ends`)
    }
    for (const other of [...Object.values(s.links ?? {}), ...Object.keys(s.dependsOn ?? {})]) {
      if (p.services[other] === undefined) throw new ComposeError(`service "${name}" depends on undefined service "${other}": invalid compose project`)
    }
    for (const [other, condition] of Object.entries(s.dependsOn ?? {})) {
      if (condition === 'service_healthy' && p.services[other]!.healthcheck === undefined) {
        throw new ComposeError(`service "${name}" waits for "${other}" to be healthy, but "${other}" has no healthcheck`)
      }
    }
  }
  const done = new Set<string>()
  const visit = (name: string, path: string[]): void => {
    if (path.includes(name)) throw new ComposeError(`services depend on each other in a circle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}`)
    if (done.has(name)) return
    const s = p.services[name]!
    for (const next of new Set([...Object.keys(s.dependsOn ?? {}), ...Object.values(s.links ?? {})])) visit(next, [...path, name])
    done.add(name)
  }
  for (const name of Object.keys(p.services)) visit(name, [])
}
