/** Docker's driver options of a network (`com.docker.network.…`), read once into typed settings. */
import { CnmError } from './cnm.ts'
import { addressOf, parseAddress } from './ip.ts'
import { checkInterfaceName } from './names.ts'

export type GatewayMode = 'nat' | 'nat-unprotected' | 'routed' | 'isolated'

export interface BridgeSettings {
  bridge: string
  /** Undefined: the kernel's 1500. */
  mtu: number | undefined
  masquerade: boolean
  /** Containers of the network reach each other. */
  icc: boolean
  /** Where ports without an address of their own are published. */
  hostBinding: string | undefined
  modeV4: GatewayMode
  modeV6: GatewayMode
  /** The bridge gets no IPv4 address: the gateway is somebody else. */
  inhibitV4: boolean
  interfacePrefix: string
  /** Source address of what leaves, instead of the outgoing interface's. */
  hostIPv4: string | undefined
  hostIPv6: string | undefined
  /** May reach containers directly. */
  trustedInterfaces: string[]
}

const prefix = 'com.docker.network.'

export function bridgeSettings(options: Record<string, string>, id: string): BridgeSettings {
  const bridge = options[`${prefix}bridge.name`] ?? `br-${id.slice(0, 12)}`
  checkInterfaceName(bridge, 'bridge name')
  const hostBinding = options[`${prefix}bridge.host_binding_ipv4`]
  if (hostBinding !== undefined && parseAddress(hostBinding)?.family !== 4) throw new CnmError('invalid', `invalid value for host_binding_ipv4: "${hostBinding}"`)
  const trusted = options[`${prefix}bridge.trusted_host_interfaces`]
  const trustedInterfaces = trusted === undefined || trusted === '' ? [] : trusted.split(':')
  for (const name of trustedInterfaces) checkInterfaceName(name, 'trusted host interface')
  return {
    bridge,
    mtu: mtuOf(options),
    masquerade: flag(options, 'bridge.enable_ip_masquerade', true),
    icc: flag(options, 'bridge.enable_icc', true),
    hostBinding: hostBinding === '0.0.0.0' ? undefined : hostBinding,
    modeV4: mode(options, 'bridge.gateway_mode_ipv4'),
    modeV6: mode(options, 'bridge.gateway_mode_ipv6'),
    inhibitV4: flag(options, 'bridge.inhibit_ipv4', false),
    interfacePrefix: interfacePrefix(options),
    hostIPv4: address(options, 'host_ipv4', 4),
    hostIPv6: address(options, 'host_ipv6', 6),
    trustedInterfaces,
  }
}

export function mtuOf(options: Record<string, string>): number | undefined {
  const text = options[`${prefix}driver.mtu`] ?? options['mtu']
  if (text === undefined || text === '' || text === '0') return undefined
  const mtu = Number(text)
  if (!/^\d+$/.test(text) || mtu < 68 || mtu > 65_535) throw new CnmError('invalid', `invalid MTU number: "${text}"`)
  return mtu
}

export function interfacePrefix(options: Record<string, string>): string {
  const text = options[`${prefix}container_iface_prefix`] ?? 'eth'
  checkInterfaceName(`${text}0`, 'container interface prefix')
  return text
}

/** Endpoint option: the interface's name inside. */
export function wishedInterface(options: Record<string, string> | undefined): string | undefined {
  const name = options?.[`${prefix}endpoint.ifname`]
  if (name === undefined || name === '') return undefined
  checkInterfaceName(name, 'interface name')
  return name
}

/** Endpoint option `net.ipv4.conf.IFNAME.log_martians=1,…`: keys with the interface's name put in → values. */
export function endpointSysctls(options: Record<string, string> | undefined, interfaceName: string): Record<string, string> {
  const text = options?.[`${prefix}endpoint.sysctls`]
  if (text === undefined || text === '') return {}
  return Object.fromEntries(text.split(',').map((item) => {
    const match = /^(net\.[a-z0-9]+\.[a-z0-9]+\.IFNAME\.[a-z0-9_]+)=(.*)$/.exec(item.trim())
    if (match === null) throw new CnmError('invalid', `unable to parse endpoint sysctl "${item}": expected net.X.Y.IFNAME.Z=value`)
    return [match[1]!.replace('IFNAME', interfaceName), match[2]!]
  }))
}

function flag(options: Record<string, string>, name: string, otherwise: boolean): boolean {
  const text = options[prefix + name]
  if (text === undefined || text === '') return otherwise
  // Go's ParseBool.
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false
  throw new CnmError('invalid', `invalid value for option "${prefix}${name}": "${text}" is not a boolean`)
}

function mode(options: Record<string, string>, name: string): GatewayMode {
  const text = options[prefix + name]
  if (text === undefined || text === '') return 'nat'
  if (text === 'nat' || text === 'nat-unprotected' || text === 'routed' || text === 'isolated') return text
  throw new CnmError('invalid', `unknown gateway mode ${text}`)
}

function address(options: Record<string, string>, name: string, family: 4 | 6): string | undefined {
  const text = options[prefix + name]
  if (text === undefined || text === '') return undefined
  if (addressOf(text).family !== family) throw new CnmError('invalid', `invalid value for ${name}: "${text}"`)
  return text
}
