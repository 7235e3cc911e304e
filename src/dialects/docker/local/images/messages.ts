/** The engine's progress as Docker's JSON lines, and the bar that old clients print as it is. */
import type { Progress } from '../../../../engine/engine.ts'
import type { JsonMessage } from '../../model.ts'

const BAR_WIDTH = 50

/** Four significant digits and a decimal unit: `4.066MB`. */
export function humanSize(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${Number(value.toPrecision(4))}${units[unit]}`
}

/** `[====>   ]  1.2MB/3MB`; only the number where the total is unknown. */
export function progressBar(current: number, total: number): string {
  const done = humanSize(current).padStart(8)
  if (total <= 0) return done
  const filled = Math.min(BAR_WIDTH, Math.floor(Math.floor(current / total * 100) / 2))
  return `[${'='.repeat(filled)}>${' '.repeat(BAR_WIDTH - filled)}] ${done}${current <= total ? `/${humanSize(total)}` : ''}`
}

export function toMessage({ id, status, stream, currentBytes, totalBytes }: Progress): JsonMessage {
  if (stream !== undefined) return { stream }
  if (currentBytes !== undefined) {
    const total = totalBytes ?? 0
    const progressDetail = { current: currentBytes, ...(total > 0 ? { total } : {}) }
    return { status, progressDetail, progress: progressBar(currentBytes, total), ...(id === undefined ? {} : { id }) }
  }
  // The first line names the reference as its id, and is about no layer.
  if (id === undefined) return { status }
  return status.startsWith('Pulling from ') ? { status, id } : { status, progressDetail: {}, id }
}
