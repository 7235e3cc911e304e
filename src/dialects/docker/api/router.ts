/** Which handler a method and path belong to. Names are greedy: `{name}` holds slashes, as images' names do. */

export interface Route<Handler> {
  method: string
  /** e.g. `/images/{name}/json` */
  path: string
  handler: Handler
}

interface Compiled<Handler> { pattern: RegExp; handler: Handler }

export class Router<Handler> {
  /** By method and first segment of the path, in the order of the table: the first that matches wins. */
  readonly #routes = new Map<string, Compiled<Handler>[]>()

  constructor(routes: readonly Route<Handler>[]) {
    for (const { method, path, handler } of routes) {
      const key = `${method} ${firstSegment(path)}`
      const list = this.#routes.get(key) ?? []
      const pattern = new RegExp(`^${path.replace(/[.]/g, '\\.').replace(/\{(\w+)\}/g, '(?<$1>.+)')}$`, 's')
      list.push({ pattern, handler })
      this.#routes.set(key, list)
    }
  }

  /** `path` is decoded and bears no version. */
  find(method: string, path: string): { handler: Handler; params: Record<string, string> } | undefined {
    for (const { pattern, handler } of this.#routes.get(`${method} ${firstSegment(path)}`) ?? []) {
      const m = pattern.exec(path)
      if (m !== null) return { handler, params: m.groups ?? {} }
    }
    return undefined
  }
}

function firstSegment(path: string): string {
  const end = path.indexOf('/', 1)
  return end === -1 ? path : path.slice(0, end)
}
