/** Quality of service classes: who is killed first when a node runs out of memory. */
import type { Container, PodSpec } from './types/index.ts'

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort'

/** Guaranteed: cpu and memory limits everywhere, equal to the requests. BestEffort: none at all. */
export function qosClassOf(spec: PodSpec): QosClass {
  let guaranteed = true
  let any = false
  const look = (c: Container): void => {
    for (const name of ['cpu', 'memory']) {
      const limit = c.resources?.limits?.[name]
      const request = c.resources?.requests?.[name]
      if (isSet(limit) || isSet(request)) any = true
      if (!isSet(limit) || (request !== undefined && request !== limit)) guaranteed = false
    }
  }
  for (const c of spec.containers) look(c)
  for (const c of spec.initContainers ?? []) look(c)
  return !any ? 'BestEffort' : guaranteed ? 'Guaranteed' : 'Burstable'
}

function isSet(quantity: string | undefined): boolean { return quantity !== undefined && quantity !== '0' }
