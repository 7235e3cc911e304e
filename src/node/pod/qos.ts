/** From a container's resource requests and limits to cgroup numbers, by Kubernetes' rules. */
import type { Resources } from '../../engine/engine.ts'
import { bytes, cpuMilli } from '../../core/quantity.ts'
import type { Container, Pod, PodSpec } from '../../core/types/index.ts'

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort'
const CPU_PERIOD_US = 100_000
const COMPUTE = ['cpu', 'memory'] as const

/** Guaranteed: every container's cpu and memory limits are set and equal its requests; BestEffort: none is set anywhere. */
export function qosClass(spec: PodSpec): QosClass {
  let any = false
  let guaranteed = true
  for (const c of [...(spec.initContainers ?? []), ...spec.containers]) {
    for (const name of COMPUTE) {
      const limit = c.resources?.limits?.[name]
      const request = c.resources?.requests?.[name] ?? limit
      const limited = limit !== undefined && cpuMilli(limit) > 0
      if (limited || (request !== undefined && cpuMilli(request) > 0)) any = true
      if (!limited || cpuMilli(request) !== cpuMilli(limit)) guaranteed = false
    }
  }
  return !any ? 'BestEffort' : guaranteed ? 'Guaranteed' : 'Burstable'
}

/**
 * The kernel's kill preference. `floor` is the lowest value this process may write (0 or its own value without
 * CAP_SYS_RESOURCE), so that starting a Guaranteed Pod does not fail for want of a privilege.
 */
export function oomScoreAdj(pod: Pod, container: Container, nodeMemoryBytes: number, floor: number): number {
  const qos = qosClass(pod.spec)
  let score = 1000
  if (qos === 'Guaranteed') score = -997
  else if (qos === 'Burstable') {
    const request = container.resources?.requests?.['memory'] ?? container.resources?.limits?.['memory']
    score = Math.max(3, Math.min(999, 1000 - Math.floor(1000 * bytes(request) / nodeMemoryBytes)))
  }
  return Math.max(floor, score)
}

/** cgroup numbers of one container: request → shares, limit → CFS quota per 100 ms, memory limit in bytes. */
export function containerResources(pod: Pod, container: Container, nodeMemoryBytes: number, oomFloor: number): Resources {
  const limits = container.resources?.limits ?? {}
  const requests = container.resources?.requests ?? {}
  const cpu = requests['cpu'] ?? limits['cpu']
  const r: Resources = {
    cpuShares: cpu === undefined ? 2 : Math.max(2, Math.min(262144, Math.floor(cpuMilli(cpu) * 1024 / 1000))),
    oomScoreAdj: oomScoreAdj(pod, container, nodeMemoryBytes, oomFloor),
  }
  if (limits['cpu'] !== undefined && cpuMilli(limits['cpu']) > 0) {
    r.cpuPeriodUs = CPU_PERIOD_US
    r.cpuQuotaUs = Math.max(1000, Math.floor(cpuMilli(limits['cpu']) * CPU_PERIOD_US / 1000))
  }
  if (limits['memory'] !== undefined && bytes(limits['memory']) > 0) r.memoryBytes = bytes(limits['memory'])
  return r
}
