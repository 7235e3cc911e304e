/** /livez, /readyz, /healthz and /metrics. */
import { ApiError } from '../core/errors.ts'

export interface Check {
  name: string
  /** What is wrong, or undefined. */
  failing(): string | undefined
}

export class Health {
  readonly #checks: Check[] = []

  add(check: Check): void { this.#checks.push(check) }

  /** The text of an answer: `ok`, or each check with `verbose`. Throws ServiceUnavailable naming what fails; liveness looks at no check. */
  report(path: string, verbose: boolean): string {
    const checks = path === '/livez' ? [] : this.#checks
    const failing = checks.filter(c => c.failing() !== undefined)
    if (failing.length > 0) throw new ApiError('ServiceUnavailable', `not ready: ${failing.map(c => `${c.name}: ${c.failing()}`).join('; ')}`)
    if (!verbose) return 'ok'
    return ['[+]ping ok', ...checks.map(c => `[+]${c.name} ok`), `${path.slice(1)} check passed`, ''].join('\n')
  }
}

/** Upper bounds of request durations, in seconds. */
const BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30]

/** Prometheus counters of the API, without labels that a client could multiply. */
export class Metrics {
  readonly #requests = new Map<string, number>()
  readonly #durations = new Map<string, { buckets: number[]; sumS: number; count: number }>()
  readonly #gauges: { name: string; help: string; read(): number }[] = []

  gauge(name: string, help: string, read: () => number): void { this.#gauges.push({ name, help, read }) }

  observe(verb: string, resource: string, code: number, durationMs: number): void {
    const key = `verb="${verb}",resource="${resource}",code="${code}"`
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1)
    // A watch's length says nothing about speed.
    if (verb === 'watch') return
    let d = this.#durations.get(verb)
    if (d === undefined) this.#durations.set(verb, d = { buckets: BUCKETS.map(() => 0), sumS: 0, count: 0 })
    const s = durationMs / 1000
    const bucket = BUCKETS.findIndex(b => s <= b)
    if (bucket !== -1) d.buckets[bucket]!++
    d.sumS += s
    d.count++
  }

  /** Prometheus' text format. */
  text(): string {
    const lines = ['# HELP apiserver_request_total Requests answered.', '# TYPE apiserver_request_total counter']
    for (const [labels, n] of this.#requests) lines.push(`apiserver_request_total{${labels}} ${n}`)
    lines.push('# HELP apiserver_request_duration_seconds Time from request to answer.', '# TYPE apiserver_request_duration_seconds histogram')
    for (const [verb, d] of this.#durations) {
      let sum = 0
      for (const [i, le] of BUCKETS.entries()) lines.push(`apiserver_request_duration_seconds_bucket{verb="${verb}",le="${le}"} ${sum += d.buckets[i]!}`)
      lines.push(`apiserver_request_duration_seconds_bucket{verb="${verb}",le="+Inf"} ${d.count}`)
      lines.push(`apiserver_request_duration_seconds_sum{verb="${verb}"} ${d.sumS}`, `apiserver_request_duration_seconds_count{verb="${verb}"} ${d.count}`)
    }
    for (const { name, help, read } of this.#gauges) lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} gauge`, `${name} ${read()}`)
    return `${lines.join('\n')}\n`
  }
}
