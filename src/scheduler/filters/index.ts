/** All filters, cheapest and most often decisive first. */
import type { Filter } from './filter.ts'
import { nodeAffinity } from './node-affinity.ts'
import { podAffinity } from './pod-affinity.ts'
import { ports } from './ports.ts'
import { resources } from './resources.ts'
import { taints } from './taints.ts'
import { topologySpread } from './topology-spread.ts'
import { unschedulable } from './unschedulable.ts'

export type { Filter, PreparedFilter } from './filter.ts'
export const filters: readonly Filter[] = [unschedulable, taints, nodeAffinity, resources, ports, topologySpread, podAffinity]
