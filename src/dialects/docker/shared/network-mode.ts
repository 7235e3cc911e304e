/** HostConfig.NetworkMode and its kin: `host`, `none`, `container:ID`, or a network. */

export interface NetworkMode { kind: 'bridge' | 'host' | 'none' | 'container' | 'user'; name: string }

export function parseNetworkMode(mode: string | undefined): NetworkMode {
  if (mode === undefined || mode === '' || mode === 'default' || mode === 'bridge') return { kind: 'bridge', name: 'bridge' }
  if (mode === 'host') return { kind: 'host', name: 'host' }
  if (mode === 'none') return { kind: 'none', name: 'none' }
  if (mode.startsWith('container:')) return { kind: 'container', name: mode.slice('container:'.length) }
  return { kind: 'user', name: mode }
}

/** `container:ID` → ID. */
export function sharedContainer(mode: string | undefined): string | undefined {
  return mode?.startsWith('container:') === true ? mode.slice('container:'.length) : undefined
}
