/** What both writers of EndpointSlices share: a loop over Services' names that knows its own slices and waits for its own writes. */
import { Controller, type Source, watch } from '../../core/controller.ts'
import { endpointSlices } from '../../core/kinds.ts'
import type { ApiObject, EndpointSlice } from '../../core/types/index.ts'
import { eachLimited, errorLog, type Context, type Running } from '../context.ts'
import { PendingWrites } from '../pending-writes.ts'
import { MANAGED_BY, SERVICE_NAME, type SlicePlan } from './slices.ts'

const WRITES_IN_FLIGHT = 8
const MAX_DELAY_MS = 10_000

export interface SliceLoopOptions {
  name: string
  /** Value of the label that marks a slice as this loop's. */
  manager: string
  /** What else than a change of its own slices makes the loop turn for a Service. */
  sources: Source[]
  workers: number
  /** Makes the slices of `namespace/name` true. Called when the cache shows what was last written for it. */
  reconcile(key: string): Promise<void>
}

export class SliceLoop implements Running {
  readonly #context: Context
  readonly #manager: string
  readonly #pending: PendingWrites<EndpointSlice>
  readonly #controller: Controller

  constructor(context: Context, { name, manager, sources, workers, reconcile }: SliceLoopOptions) {
    const { informers, clock, logger } = context
    this.#context = context
    this.#manager = manager
    this.#pending = new PendingWrites(informers.of(endpointSlices), () => clock.now())
    this.#controller = new Controller({
      name, workers, clock,
      sources: [...sources, watch(informers.of(endpointSlices), (s) => this.#serviceOf(s))],
      reconcile: async (key) => {
        const waitMs = this.#pending.waitMs(key)
        if (waitMs > 0) this.#controller.enqueueAfter(key, waitMs)
        else await reconcile(key)
      },
      maxDelayMs: MAX_DELAY_MS,
      onError: errorLog(logger, name),
    })
  }

  start(): Promise<void> { return this.#controller.start() }
  stop(): Promise<void> { return this.#controller.stop() }

  /** This loop's slices that `owner` controls. */
  slicesOf(owner: ApiObject): EndpointSlice[] {
    return [...this.#context.informers.of(endpointSlices).byIndex('controller', owner.metadata.uid!)]
      .filter((s) => s.metadata.labels?.[MANAGED_BY] === this.#manager && s.metadata.deletionTimestamp === undefined)
  }

  /** The labels by which a slice is found: by its Service, and by this loop. */
  labels(service: string): Record<string, string> { return { [SERVICE_NAME]: service, [MANAGED_BY]: this.#manager } }

  async write(key: string, plan: SlicePlan): Promise<void> {
    const { client } = this.#context
    const wrote = (s: EndpointSlice): void => this.#pending.wrote(key, s)
    await eachLimited(plan.update, WRITES_IN_FLIGHT, async (s) => wrote(await client.update(endpointSlices, s)))
    await eachLimited(plan.create, WRITES_IN_FLIGHT, async (s) => wrote(await client.create(endpointSlices, s)))
    await eachLimited(plan.delete, WRITES_IN_FLIGHT, (s) => client.delete(endpointSlices, s.metadata, { preconditions: { uid: s.metadata.uid! } }))
  }

  /** The Service is gone. */
  forget(key: string): void { this.#pending.forget(key) }

  #serviceOf({ metadata: { labels, namespace } }: EndpointSlice): string[] {
    const name = labels?.[SERVICE_NAME]
    return labels?.[MANAGED_BY] === this.#manager && name !== undefined ? [`${namespace}/${name}`] : []
  }
}
