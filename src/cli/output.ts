/** How commands speak: tables for people, JSON for programs, colours only on terminals, errors on stderr. */
import Table from 'cli-table3'
import { styleText } from 'node:util'

/** A failure the user can act on: printed without a stack, exit code 1 unless said otherwise. */
export class UserError extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

type Style = Parameters<typeof styleText>[0]
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return stream.isTTY && process.env['NO_COLOR'] === undefined ? styleText(style, text) : text
}

/** Writes and waits for a slow reader, so that nothing is lost when the output is a pipe. EPIPE ends the program quietly. */
export function write(text: string | Uint8Array, stream: NodeJS.WriteStream = process.stdout): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, error => {
      if (error == null) resolve()
      else if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0)
      else reject(error)
    })
  })
}

export function line(text = ''): Promise<void> { return write(text + '\n') }
export function note(text: string): Promise<void> { return write(text + '\n', process.stderr) }

export async function json(value: unknown): Promise<void> { await line(JSON.stringify(value, null, 2)) }

const bare = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right',
    'left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'].map(k => [k, '']),
)

/** A table without lines, as docker and kubectl print it. Cells may hold colours. */
export async function table(head: string[], rows: (string | number)[][]): Promise<void> {
  if (rows.length === 0) return
  const t = new Table({ head, chars: { ...bare, middle: '   ' }, style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 } })
  for (const r of rows) t.push(r.map(String))
  await line(t.toString().split('\n').map(l => l.trimEnd()).join('\n'))
}

/** `5s`, `3m`, `2h`, `4d` since an RFC 3339 time. */
export function age(time: string | undefined, now = Date.now()): string {
  if (time === undefined) return '<none>'
  const s = Math.max(0, Math.floor((now - Date.parse(time)) / 1000))
  if (s < 120) return `${s}s`
  if (s < 7200) return `${Math.floor(s / 60)}m`
  return s < 172_800 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86_400)}d`
}

/** `12.3 MB` */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let i = 0
  while (bytes >= 1000 && i < units.length - 1) {
    bytes /= 1000
    i++
  }
  return `${i === 0 ? bytes : bytes.toFixed(bytes < 10 ? 1 : 0)} ${units[i]}`
}

/** A bar of `width` cells, e.g. `█████░░░░░`. */
export function bar(fraction: number, width = 10): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * width)
  return '█'.repeat(full) + '░'.repeat(width - full)
}

/** One line that is drawn over on a terminal, and printed only when it changes its text elsewhere. */
export class StatusLine {
  #last = ''
  readonly #tty = process.stderr.isTTY
  set(text: string): void {
    if (text === this.#last) return
    this.#last = text
    process.stderr.write(this.#tty ? `\r\x1b[2K${text.slice(0, (process.stderr.columns ?? 80) - 1)}` : text + '\n')
  }
  done(): void { if (this.#tty && this.#last !== '') process.stderr.write('\r\x1b[2K') }
}
