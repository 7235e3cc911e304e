/** What this machine is and offers: read once when the agent starts. */
import { readFileSync, statfsSync } from 'node:fs'
import { arch, availableParallelism, hostname, release, totalmem } from 'node:os'
import type { Node, Quantity } from '../core/types/index.ts'
import type { AgentConfig } from '../machines/layout.ts'

type NodeInfo = NonNullable<NonNullable<Node['status']>['nodeInfo']>
export const GANTRY_VERSION = 'v1.35.0+gantry1'
const DEFAULT_MAX_PODS = 110
const CAP_SYS_RESOURCE = 24n

export interface Facts {
  capacity: Record<string, Quantity>
  nodeInfo: NodeInfo
  hostname: string
  memoryBytes: number
  oomFloor: number
}

export function machineFacts(config: AgentConfig, containerd: string): Facts {
  const memoryBytes = config.memoryBytes ?? totalmem()
  const cpuMilli = config.cpuMilli ?? availableParallelism() * 1000
  const disk = statfsSync(config.dataDir)
  return {
    capacity: {
      cpu: cpuMilli % 1000 === 0 ? String(cpuMilli / 1000) : `${cpuMilli}m`,
      memory: `${Math.floor(memoryBytes / 1024)}Ki`,
      pods: String(config.maxPods ?? DEFAULT_MAX_PODS),
      'ephemeral-storage': `${Math.floor(disk.blocks * disk.bsize / 1024)}Ki`,
    },
    nodeInfo: {
      machineID: text('/etc/machine-id'), systemUUID: text('/sys/class/dmi/id/product_uuid'), bootID: text('/proc/sys/kernel/random/boot_id'),
      kernelVersion: release(), osImage: osImage(), containerRuntimeVersion: `containerd://${containerd}`,
      kubeletVersion: GANTRY_VERSION, kubeProxyVersion: GANTRY_VERSION,
      operatingSystem: 'linux', architecture: arch() === 'x64' ? 'amd64' : arch(),
    },
    hostname: hostname(),
    memoryBytes,
    oomFloor: oomFloor(),
  }
}

/** -1000 with the capability; else a process may not go below its own value, nor may its children. */
function oomFloor(): number {
  const capabilities = /^CapEff:\s*([0-9a-f]+)/m.exec(text('/proc/self/status'))?.[1]
  if (capabilities !== undefined && (BigInt(`0x${capabilities}`) >> CAP_SYS_RESOURCE & 1n) === 1n) return -1000
  return Number(text('/proc/self/oom_score_adj') || 0)
}

function osImage(): string { return /^PRETTY_NAME="?([^"\n]*)"?/m.exec(text('/etc/os-release'))?.[1] ?? 'Linux' }

/** A file's text, trimmed; empty if it cannot be read. */
function text(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}
