/** Compose on the cluster: `gantry compose` reads the file and writes a ComposeProject; this dialect makes it run. */
import { dirname, join } from 'node:path'
import { composeProjects } from '../../core/kinds.ts'
import type { Dialect } from '../../server/dialect.ts'
import { composeController } from './controller.ts'

export const compose: Dialect = {
  name: 'compose',
  kinds: [composeProjects],
  controllers(host) {
    // Named volumes lie beside the server's own data, where hosts of the same machine see them.
    const controller = composeController(host.client, { volumesDir: join(dirname(host.config.dataDir), 'volumes'), log: host.log })
    void controller.start()
    return [controller]
  },
}
