/** What makes a host. A driver knows processes and addresses; what runs on the host is given to it as services. */
import type { ServiceCommand } from './services.ts'

export interface HostState { name: string; running: boolean; address: string }

export interface HostPlan {
  name: string
  /** Underlay address it shall have. */
  address: string
  /** Kept across restarts of the host. */
  dataDir: string
  /** As the host itself sees it; gone when it stops. */
  runDir: string
  services: ServiceCommand[]
}

export interface Driver {
  readonly name: string
  /** Starts the host and its services; does nothing if it runs. */
  start(plan: HostPlan): Promise<void>
  /** Stops its services, then the host. */
  stop(name: string): Promise<void>
  /** As a power cut would: at once, nothing is told. */
  kill(name: string): Promise<void>
  /** Stops it and removes what the driver keeps of it in the kernel. The data stays. */
  remove(name: string): Promise<void>
  state(name: string): HostState | undefined
}
