/**
 * The edge's membership of the cluster's network, on a machine whose agent is not a member already: a Machine of its own
 * (role `router`), a bridge address to send from, and the way to every node's pods.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from '../core/client.ts'
import { isReason } from '../core/errors.ts'
import { machines } from '../core/kinds.ts'
import type { Logger } from '../core/log.ts'
import type { Machine } from '../core/types/index.ts'
import type { RouterConfig } from '../machines/layout.ts'
import { openNetwork } from '../network/index.ts'
import type { Peer } from '../network/network.ts'

const RETRY_MS = 200

export async function joinOverlay(client: Client, config: RouterConfig, log: Logger): Promise<{ close(): Promise<void> }> {
  const own = await registered(client, config, log)
  const network = await openNetwork({
    runDir: config.runDir, podCIDR: own.spec.podCIDR!, clusterCIDR: config.cluster.clusterCIDR, serviceCIDR: config.cluster.serviceCIDR,
    address: config.address, clusterDomain: config.cluster.clusterDomain, instance: config.cluster.instance, poolSize: 0,
  })
  const informer = client.informer(machines)
  const update = () => {
    const peers: Peer[] = []
    for (const m of informer.list()) {
      if (m.metadata.name === config.name || m.spec.podCIDR === undefined || m.status?.address === undefined) continue
      peers.push({ name: m.metadata.name, address: m.status.address, podCIDR: m.spec.podCIDR })
    }
    network.setPeers(peers).catch((e: Error) => log.error('the overlay\'s peers could not be set', { error: e.message }))
  }
  await informer.synced
  update()
  informer.on(update)
  return {
    async close() {
      informer.stop()
      await network.close()
    },
  }
}

/** Waits for a server that is only starting, as it does when a whole cluster comes up. */
async function registered(client: Client, config: RouterConfig, log: Logger): Promise<Machine> {
  for (let told = false; ; told = true) {
    try {
      return await register(client, config)
    } catch (e) {
      if (!isReason(e, 'ServiceUnavailable')) throw e
      if (!told) log.warn('the server does not answer; trying on', { error: (e as Error).message })
      await delay(RETRY_MS)
    }
  }
}

/** This machine's entry: found, or made; the server allots its addresses. */
async function register(client: Client, config: RouterConfig): Promise<Machine> {
  const key = { name: config.name }
  const found = await client.get(machines, key).catch(async (e: unknown) => {
    if (!isReason(e, 'NotFound')) throw e
    return client.create(machines, {
      apiVersion: 'gantry.dev/v1', kind: 'Machine', metadata: { name: config.name }, spec: { driver: 'local', roles: ['router'] },
    })
  })
  if (found.status?.address === config.address && found.status.phase === 'Running') return found
  return client.updateStatus(machines, { ...found, status: { ...found.status, address: config.address, phase: 'Running' } })
}
