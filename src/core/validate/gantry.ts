/** Gantry's own kinds. */
import { isIP } from 'node:net'
import { dns1123Label, dns1123Subdomain } from '../names.ts'
import type { ComposeProject, Machine, Route, RouteBackend } from '../types/index.ts'
import { validatePortRef } from './container.ts'
import type { FieldErrors } from './field-errors.ts'
import { validateLabelSelector } from './metadata.ts'

const ROLES = ['node', 'router', 'server']

export function validateMachine(m: Machine, e: FieldErrors): void {
  m.spec?.roles?.forEach((role, i) => { e.oneOf(`spec.roles[${i}]`, role, ROLES) })
  const cidr = m.spec?.podCIDR
  if (cidr === undefined) return
  const [address = '', bits = ''] = cidr.split('/')
  const family = isIP(address)
  if (family === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) {
    e.invalid('spec.podCIDR', cidr, 'must be a valid CIDR, (e.g. 10.42.3.0/24)')
  }
}

export function validateMachineUpdate(m: Machine, old: Machine, e: FieldErrors): void {
  if (old.spec?.podCIDR && m.spec?.podCIDR !== old.spec.podCIDR) e.invalid('spec.podCIDR', m.spec?.podCIDR, 'field is immutable')
}

export function validateRoute(r: Route, e: FieldErrors): void {
  const { spec } = r
  if (!spec) {
    e.required('spec')
    return
  }
  const isTcp = spec.tcpPort !== undefined
  if (isTcp === (spec.host !== undefined)) {
    if (isTcp) e.forbidden('spec.tcpPort', 'may not be set together with `host`')
    else e.required('spec.host', 'a route needs either `host` or `tcpPort`')
  }
  if (spec.host !== undefined) {
    const name = spec.host.startsWith('*.') ? spec.host.slice(2) : spec.host
    if (isIP(spec.host) !== 0) e.invalid('spec.host', spec.host, 'must be a DNS name, not an IP address')
    else e.check('spec.host', spec.host, dns1123Subdomain(name))
  }
  if (isTcp) {
    e.port('spec.tcpPort', spec.tcpPort)
    if (spec.path !== undefined) e.forbidden('spec.path', 'may not be set for a TCP route')
    if (spec.sticky) e.forbidden('spec.sticky', 'may not be set for a TCP route')
  }
  if (spec.path !== undefined && !/^\/[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*$/.test(spec.path)) {
    e.invalid('spec.path', spec.path, "must be an absolute URL path of unreserved characters, starting with '/'")
  }
  if (!spec.backend) e.required('spec.backend')
  else validateBackend('spec.backend', spec.backend, e)
}

function validateBackend(path: string, backend: RouteBackend, e: FieldErrors): void {
  if (backend.service && backend.selector) e.forbidden(`${path}.selector`, 'may not be set together with `service`')
  else if (backend.service) {
    if (!backend.service.name) e.required(`${path}.service.name`)
    else e.check(`${path}.service.name`, backend.service.name, dns1123Label(backend.service.name))
    validatePortRef(`${path}.service.port`, backend.service.port, e)
    if (backend.port !== undefined) e.forbidden(`${path}.port`, 'belongs to `selector`; a service has its own `service.port`')
  } else if (backend.selector) {
    validateLabelSelector(`${path}.selector`, backend.selector, e)
    if (!Object.keys(backend.selector.matchLabels ?? {}).length && !backend.selector.matchExpressions?.length) {
      e.invalid(`${path}.selector`, backend.selector, 'must not be empty: it would select every Pod')
    }
    e.port(`${path}.port`, backend.port)
  } else e.required(path, 'must specify one of: `service` or `selector`')
}

export function validateComposeProject(p: ComposeProject, e: FieldErrors): void {
  const services = p.spec?.services
  if (!services) {
    e.required('spec.services')
    return
  }
  for (const [name, service] of Object.entries(services)) {
    const path = `spec.services.${name}`
    if (!/^[a-zA-Z0-9._-]{1,63}$/.test(name)) {
      e.invalid(path, name, 'must consist of letters, digits, dots, dashes and underscores')
    }
    if (!service.image) e.required(`${path}.image`)
    e.notNegative(`${path}.scale`, service.scale)
    service.ports?.forEach((port, i) => {
      e.port(`${path}.ports[${i}].published`, port.published)
      e.port(`${path}.ports[${i}].target`, port.target)
      e.oneOf(`${path}.ports[${i}].protocol`, port.protocol, ['tcp', 'udp'])
    })
    service.volumes?.forEach((volume, i) => {
      const source = `${path}.volumes[${i}].source`
      e.oneOf(`${path}.volumes[${i}].type`, volume.type, ['bind', 'volume', 'tmpfs'])
      if (volume.type === 'bind' && !volume.source) e.required(source)
      // The name becomes a folder's.
      if (volume.type === 'volume' && volume.source !== undefined && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/.test(volume.source)) {
        e.invalid(source, volume.source, 'must consist of letters, digits, dots, dashes and underscores, and start with a letter or digit')
      }
    })
    e.oneOf(`${path}.restart`, service.restart, ['no', 'always', 'on-failure', 'unless-stopped'])
    for (const other of [...Object.keys(service.dependsOn ?? {}), ...Object.values(service.links ?? {})]) {
      if (!Object.hasOwn(services, other)) e.notFound(`${path}.dependsOn`, other)
    }
  }
}
