/** An agent's garbage is collected once more when its containers have come to rest: what a burst of Pods left would stay for hours. */
import type { Engine } from '../engine/engine.ts'

const REST_MS = 5000

/** Does nothing without Node's `--expose-gc`. Call what it returns to end it. */
export function collectAtRest(engine: Engine): () => void {
  const { gc } = globalThis
  if (gc === undefined) return () => undefined
  const timer = setTimeout(() => { void gc({ type: 'major', execution: 'async', flavor: 'last-resort' }) }, REST_MS).unref()
  const off = engine.onEvent(() => { timer.refresh() })
  return () => {
    off()
    clearTimeout(timer)
  }
}
