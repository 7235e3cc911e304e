/** The proxy's configuration as text. It always holds the whole desired state, so a proxy started anew is right at once. */
import { type Plan, serverName, serverOptions } from './plan.ts'

export interface ProxyPaths {
  /** Run-time API: a unix socket, mode 0600. */
  socket: string
  /** Map of hosts to backends. */
  hostsMap: string
}

export interface ProxyOptions { paths: ProxyPaths; httpAddress: string; httpPort: number; cookieKey: string }

export function renderHosts(plan: Plan): string {
  return [...plan.hosts].map(([match, slot]) => `${match} ${slot}\n`).sort().join('')
}

export function renderConfig(plan: Plan, o: ProxyOptions): string {
  return `# Written by gantry's router; changes are lost.
global
  stats socket ${o.paths.socket} mode 600 level admin expose-fd listeners
  stats timeout 1h
  hard-stop-after 60s
  maxconn 8000
  no strict-limits
  log stderr local0 warning

defaults
  mode http
  log global
  option dontlognull
  option http-keep-alive
  http-reuse safe
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 24h
  timeout http-request 30s
  timeout http-keep-alive 60s
  timeout queue 10s
  # A request that never reached an instance goes to another one; one that was cut off, only if it may be repeated.
  retries 4
  option redispatch 1
  retry-on conn-failure empty-response

frontend http
  bind ${o.httpAddress}:${o.httpPort}
  option forwardfor
  http-request disable-l7-retry unless METH_GET or METH_HEAD
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-var-fmt(txn.exact) "%[req.hdr(host),field(1,:),lower]%[path]/"
  http-request set-var-fmt(txn.wild) "*.%[req.hdr(host),field(1,:),lower,regsub(^[^.]+[.],)]%[path]/"
  http-request set-var(txn.slot) var(txn.exact),map_beg(${o.paths.hostsMap})
  http-request set-var(txn.slot) var(txn.wild),map_beg(${o.paths.hostsMap}) unless { var(txn.slot) -m found }
  http-request return status 404 content-type text/plain lf-string "no route for %[req.hdr(host)]%[path]; gantry route ls shows what there is\\n" unless { var(txn.slot) -m found }
  use_backend %[var(txn.slot)]

${range(plan.httpSlots).map(n => backend(plan, `h${n}`, 'balance roundrobin')).join('\n')}
${range(plan.stickySlots).map(n => backend(plan, `k${n}`, `balance roundrobin\n  cookie GANTRY_INSTANCE insert indirect nocache httponly dynamic\n  dynamic-cookie-key ${o.cookieKey}`)).join('\n')}
${plan.tcpPorts.map(p => tcp(plan, p, o.httpAddress)).join('\n')}`
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

function servers(plan: Plan, slot: string): string {
  return (plan.slots.get(slot)?.targets ?? []).map(t => `  server ${serverName(t)} ${t.ip}:${t.port} ${serverOptions}\n`).join('')
}

function backend(plan: Plan, slot: string, lines: string): string { return `backend ${slot}\n  ${lines}\n${servers(plan, slot)}` }

function tcp(plan: Plan, port: number, address: string): string {
  return `frontend f${port}
  mode tcp
  bind ${address}:${port}
  timeout client 24h
  default_backend t${port}

backend t${port}
  mode tcp
  balance leastconn
  retry-on conn-failure
  timeout server 24h
${servers(plan, `t${port}`)}`
}
