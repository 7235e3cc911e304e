/** Which entry of a multi-platform index this machine can run. */
import type { Descriptor, Platform } from './media-types.ts'

const ARCHITECTURES: Record<string, string> = { x64: 'amd64', ia32: '386', arm64: 'arm64', arm: 'arm', s390x: 's390x', ppc64: 'ppc64le', riscv64: 'riscv64' }

export function hostPlatform(): Platform {
  const architecture = ARCHITECTURES[process.arch] ?? process.arch
  return { os: 'linux', architecture, ...(architecture === 'arm' ? { variant: 'v7' } : {}) }
}

/** Accepts `linux/arm64`, `arm64`, `linux/arm/v7`. */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/')
  const [os, architecture, variant] = parts.length === 1 ? ['linux', parts[0]] : parts
  const known: Record<string, string> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', armhf: 'arm', i386: '386' }
  const name = known[architecture ?? ''] ?? architecture ?? ''
  return { os: os ?? 'linux', architecture: name, ...(variant === undefined ? {} : { variant }) }
}

/** `os/architecture[/variant]` */
export function formatPlatform(p: Platform): string {
  return [p.os, p.architecture, ...(p.variant === undefined ? [] : [p.variant])].join('/')
}

/** What a machine of platform `p` runs, best first, as `os/architecture/variant`. */
function candidates(p: Platform): string[] {
  const one = (architecture: string, variant = '') => `${p.os}/${architecture}/${variant}`
  const lower = (architecture: string, from: number, to: number) => {
    const out: string[] = []
    for (let v = from; v >= to; v--) out.push(one(architecture, `v${v}`))
    return out
  }
  const level = Number(/^v(\d+)/.exec(p.variant ?? '')?.[1] ?? 0)
  switch (p.architecture) {
    case 'amd64': return [...(level > 1 ? lower('amd64', level, 2) : []), one('amd64'), one('amd64', 'v1'), one('386')]
    case 'arm64': return [one('arm64', p.variant ?? 'v8'), one('arm64', 'v8'), one('arm64'), ...lower('arm', 8, 5)]
    case 'arm': return [...lower('arm', level === 0 ? 7 : level, 5), one('arm')]
    default: return [one(p.architecture, p.variant), one(p.architecture)]
  }
}

/** The best manifest for the platform; undefined if none fits. Attestations (`unknown/unknown`) never match. */
export function choosePlatform(manifests: Descriptor[], platform: Platform): Descriptor | undefined {
  const runnable = manifests.filter(m => m.platform !== undefined && m.platform.os !== 'unknown')
  for (const c of candidates(platform)) {
    const hit = runnable.find(m => `${m.platform!.os}/${m.platform!.architecture}/${m.platform!.variant ?? ''}` === c)
    if (hit !== undefined) return hit
  }
  // Indexes of a single image saved without a platform.
  return manifests.length === 1 && manifests[0]!.platform === undefined ? manifests[0] : undefined
}
