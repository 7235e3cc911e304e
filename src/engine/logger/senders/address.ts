/** Addresses of log servers, as Docker's log options write them. */
export interface Address { protocol: string; host: string; port: number; path: string }

/** `PROTOCOL://HOST:PORT`, `HOST:PORT`, or `unix://PATH`. Throws with the option's name. */
export function parseAddress(option: string, text: string, defaults: { protocol: string; port: number }): Address {
  const m = /^(?:([a-z+]+):\/\/)?(.*)$/.exec(text)
  const protocol = m?.[1] ?? defaults.protocol
  const rest = m?.[2] ?? ''
  if (protocol.startsWith('unix')) {
    if (!rest.startsWith('/')) throw new Error(`${option}: "${text}" names no absolute path`)
    return { protocol, host: '', port: 0, path: rest }
  }
  const where = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:/[\]]*))(?::(\d{1,5}))?\/?$/.exec(rest)
  const port = Number(where?.[3] ?? defaults.port)
  if (where === null || port < 1 || port > 65535) throw new Error(`${option}: "${text}" is not like ${defaults.protocol}://HOST:PORT or unix:///PATH`)
  return { protocol, host: where[1] ?? (where[2] || '127.0.0.1'), port, path: '' }
}
