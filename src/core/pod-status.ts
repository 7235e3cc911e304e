/** A Pod in one word, as `kubectl get pods` shows it: every dialect and the CLI say the same. */
import type { ContainerStatus, Pod } from './types/index.ts'

export interface PodSummary {
  /** `Running`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`, … */
  reason: string
  ready: number
  total: number
  restarts: number
  /** When the last restarted container's previous run ended, RFC 3339. */
  lastRestart: string | undefined
}

function exitText(t: { reason?: string; signal?: number; exitCode: number }): string {
  return t.reason || (t.signal ? `Signal:${t.signal}` : `ExitCode:${t.exitCode}`)
}

function later(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || (b !== undefined && b > a) ? b : a
}

export function podStatus(pod: Pod): PodSummary {
  const { spec, status, metadata } = pod
  const sidecars = new Set((spec.initContainers ?? []).filter(c => c.restartPolicy === 'Always').map(c => c.name))
  const total = spec.containers.length + sidecars.size
  let reason: string = status?.reason || status?.phase || 'Unknown'
  if (status?.conditions?.some(c => c.type === 'PodScheduled' && c.reason === 'SchedulingGated')) reason = 'SchedulingGated'

  let ready = 0
  let restarts = 0
  let lastRestart: string | undefined
  let sidecarRestarts = 0
  let sidecarLast: string | undefined
  let initializing = false
  const inits: ContainerStatus[] = status?.initContainerStatuses ?? []
  for (const [i, c] of inits.entries()) {
    restarts += c.restartCount
    const isSidecar = sidecars.has(c.name)
    lastRestart = later(lastRestart, c.lastState?.terminated?.finishedAt)
    if (isSidecar) {
      sidecarRestarts += c.restartCount
      sidecarLast = later(sidecarLast, c.lastState?.terminated?.finishedAt)
    }
    const { terminated, waiting } = c.state ?? {}
    if (terminated?.exitCode === 0) continue
    if (isSidecar && c.started) {
      if (c.ready) ready++
      continue
    }
    initializing = true
    if (terminated) reason = `Init:${exitText(terminated)}`
    else if (waiting?.reason && waiting.reason !== 'PodInitializing') reason = `Init:${waiting.reason}`
    else reason = `Init:${i}/${spec.initContainers?.length ?? inits.length}`
    break
  }

  if (!initializing || status?.conditions?.some(c => c.type === 'Initialized' && c.status === 'True')) {
    restarts = sidecarRestarts
    lastRestart = sidecarLast
    let isRunning = false
    for (const c of [...status?.containerStatuses ?? []].reverse()) {
      restarts += c.restartCount
      lastRestart = later(lastRestart, c.lastState?.terminated?.finishedAt)
      const { waiting, terminated, running } = c.state ?? {}
      if (waiting?.reason) reason = waiting.reason
      else if (terminated) reason = exitText(terminated)
      else if (c.ready && running) {
        isRunning = true
        ready++
      }
    }
    if (reason === 'Completed' && isRunning) {
      reason = status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True') ? 'Running' : 'NotReady'
    }
  }
  if (metadata.deletionTimestamp !== undefined) {
    if (status?.reason === 'NodeLost') reason = 'Unknown'
    else if (status?.phase !== 'Succeeded' && status?.phase !== 'Failed') reason = 'Terminating'
  }
  return { reason, ready, total, restarts, lastRestart }
}
