/** Docker's log driver `syslog`: RFC 3164 and RFC 5424 over TCP, TLS, UDP and unix sockets. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { hostname } from 'node:os'
import { connect as connectTls } from 'node:tls'
import type { Writable } from 'node:stream'
import { parseAddress } from './address.ts'
import type { Address } from './address.ts'
import type { Format, Line } from './index.ts'
import { StreamOutlet, UdpOutlet } from './outlet.ts'
import type { Outlet, OutletOptions } from './outlet.ts'

const FACILITIES = [
  'kern', 'user', 'mail', 'daemon', 'auth', 'syslog', 'lpr', 'news', 'uucp', 'cron', 'authpriv', 'ftp', '', '', '', '',
  'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7',
]
const SEVERITY = { stdout: 6, stderr: 3 }
const LOCAL_SOCKETS = ['/dev/log', '/var/run/syslog', '/var/run/log']
const PORTS: Record<string, number> = { 'tcp+tls': 6514 }
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

type Render = (priority: number, line: Line, text: string) => string

/** Throws where an option is wrong. */
export function syslog(options: Record<string, string>, id: string, onNote: (text: string) => void): Format {
  const given = options['syslog-address'] ?? `unixgram://${LOCAL_SOCKETS.find((p) => existsSync(p)) ?? LOCAL_SOCKETS[0]}`
  const protocol = /^([a-z+]+):\/\//.exec(given)?.[1] ?? 'tcp'
  if (!['tcp', 'udp', 'tcp+tls', 'unix', 'unixgram'].includes(protocol)) throw new Error(`syslog-address: unsupported protocol "${protocol}"`)
  const address = parseAddress('syslog-address', given, { protocol: 'tcp', port: PORTS[protocol] ?? 514 })
  const facility = facilityOf(options['syslog-facility'] ?? 'daemon')
  const tag = options['tag'] ?? id.slice(0, 12)
  const stamped = renderOf(options['syslog-format'] ?? '', tag)
  const counted = protocol === 'tcp+tls' && (options['syslog-format'] ?? '').startsWith('rfc5424')
  const outlet = open(address, options, tag, { name: given, onNote })
  return {
    outlet,
    encode(line) {
      const priority = facility << 3 | (line.stderr ? SEVERITY.stderr : SEVERITY.stdout)
      // logger(1) writes time and tag itself.
      const head = Buffer.from(protocol === 'unixgram' ? `<${priority}>` : stamped(priority, line, ''), 'utf8')
      const ended = [head, line.text, ...(protocol === 'udp' ? [] : [Buffer.from('\n')])]
      // RFC 5425: length, blank, message.
      return counted ? Buffer.concat([Buffer.from(`${head.length + line.text.length} `), head, line.text]) : Buffer.concat(ended)
    },
  }
}

function facilityOf(text: string): number {
  const n = /^\d+$/.test(text) ? Number(text) : FACILITIES.indexOf(text)
  if (text === '' || n < 0 || n > 23) throw new Error(`syslog-facility: invalid syslog facility "${text}"`)
  return n
}

function renderOf(format: string, tag: string): Render {
  const host = hostname()
  const { pid } = process
  switch (format) {
    case '': return (p, l, text) => `<${p}>${shortTime(l.atMs)} ${tag}[${pid}]: ${text}`
    case 'rfc3164': return (p, l, text) => `<${p}>${shortTime(l.atMs)} ${host} ${tag}[${pid}]: ${text}`
    case 'rfc5424': return (p, l, text) => `<${p}>1 ${new Date(l.atMs).toISOString().replace(/\.\d+/, '')} ${host} ${tag} ${pid} ${tag} - ${text}`
    case 'rfc5424micro':
      return (p, l, text) => `<${p}>1 ${new Date(l.atMs).toISOString().slice(0, 23)}${String(l.ns).padStart(6, '0').slice(0, 3)}Z ${host} ${tag} ${pid} ${tag} - ${text}`
    default: throw new Error(`syslog-format: invalid syslog format "${format}"`)
  }
}

/** `Jan  2 03:04:05`, local time: what RFC 3164 asks for. */
function shortTime(ms: number): string {
  const d = new Date(ms)
  const two = (n: number): string => String(n).padStart(2, '0')
  return `${MONTHS[d.getMonth()]} ${String(d.getDate()).padStart(2)} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`
}

function open(a: Address, options: Record<string, string>, tag: string, o: OutletOptions): Outlet {
  if (a.protocol === 'udp') return new UdpOutlet(a.host, a.port, o)
  if (a.protocol === 'unixgram') return new StreamOutlet((ready) => localLogger(a.path, tag, ready), o)
  if (a.protocol === 'unix') return new StreamOutlet((ready) => createConnection(a.path, ready), o)
  if (a.protocol === 'tcp') return new StreamOutlet((ready) => createConnection({ host: a.host, port: a.port, keepAlive: true }, ready).resume(), o)
  const file = (name: string): Buffer | undefined => options[name] === undefined ? undefined : readFileSync(options[name])
  const [ca, cert, key] = [file('syslog-tls-ca-cert'), file('syslog-tls-cert'), file('syslog-tls-key')]
  return new StreamOutlet((ready) => connectTls({
    host: a.host, port: a.port, rejectUnauthorized: !/^(?:1|t|true)$/i.test(options['syslog-tls-skip-verify'] ?? ''),
    ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }),
  }, ready).resume(), o)
}

/** Node has no datagram sockets of the unix kind; the system's own logger(1) has, one process for as long as the container writes. */
function localLogger(path: string, tag: string, ready: () => void): Writable {
  const child = spawn('logger', ['-u', path, '--socket-errors=on', '--prio-prefix', '-t', tag, `--id=${process.pid}`], { stdio: ['pipe', 'ignore', 'ignore'] })
  child.once('spawn', ready)
  child.once('error', (e) => { child.stdin.destroy(e) })
  child.once('exit', () => { child.stdin.destroy() })
  return child.stdin
}
