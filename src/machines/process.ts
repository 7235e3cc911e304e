/** Processes by pid and start time, so that a reused pid is never taken for the old process. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export interface ProcessId { pid: number; /** Clock ticks after boot, field 22 of /proc/PID/stat. */ startTicks: string }

/** Undefined if there is no such process, or only its zombie. */
export function identify(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The command in brackets may hold blanks: count fields after it. Field 3 is the state, field 22 the start time.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : { pid, startTicks: fields[19]! }
  } catch {
    return undefined
  }
}

export function isAlive(id: ProcessId): boolean { return identify(id.pid)?.startTicks === id.startTicks }

/** Sends a signal if the process still is the same one. */
export function signal(id: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(id)) return
  try {
    process.kill(id.pid, name)
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e
  }
}

/** Resolves with true when the process has ended, with false after `timeoutMs`. There is no event for a process that is not our child. */
export async function waitForEnd(id: ProcessId, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs
  while (isAlive(id)) {
    if (Date.now() > deadline) return false
    await sleep(20)
  }
  return true
}

/** Direct children of a process. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}
