/** What every long-running part writes its log to. */
export interface Logger {
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
}

/** One line a message: time, level, part, message, then fields as `name=JSON`. `write` takes the finished line. */
export function lineLogger(part: string, write: (line: string) => void): Logger {
  const log = (level: string) => (message: string, fields: Record<string, unknown> = {}) => {
    const rest = Object.entries(fields).map(([k, v]) => ` ${k}=${JSON.stringify(v)}`).join('')
    write(`${new Date().toISOString()} ${level} ${part}: ${message}${rest}\n`)
  }
  return { info: log('info'), warn: log('warn'), error: log('error') }
}
